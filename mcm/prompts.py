"""Class names x templates -> prompts -> pooled concept embeddings."""

from collections.abc import Iterator, Sequence

import numpy as np

from mcm.definition import Concept, Definition, constant_score_message
from mcm.detector import Detector
from mcm.embeddings import Vectors, unit_rows
from mcm.encoders.protocol import Encoder, require_patches
from mcm.errors import InvalidDefinition
from mcm.mining import MiningReport, Progress, mine
from mcm.scores import get_score
from mcm.vocabularies import Vocabulary, default_vocabulary

_SAME = 1e-6  # float32 noise: a batch's make-up changes the last digits of an embedding


def prompts_of(concept: Concept, templates: Sequence[str]) -> list[str]:
    """The texts that stand for a concept: its own prompts, else its name in every template.

    The name is put in as it is: braces in it mean nothing.
    """
    return list(concept.prompts) or [template.replace("{}", concept.name) for template in templates]


def distinct_prompts(definition: Definition) -> list[str]:
    """Every prompt of the definition once, in order of first appearance."""
    return list(dict.fromkeys(prompt for prompts in _prompts(definition) for prompt in prompts))


def pool_prompts(definition: Definition, prompts: Sequence[str], embeddings: Vectors) -> Vectors:
    """Concept embeddings (k, d) from the embeddings (m, d) of the m distinct `prompts`.

    The prompts of a concept, unit rows, are averaged and normalised again (Radford et al., "Learning
    transferable visual models from natural language supervision", ICML 2021).

    Raises:
        InvalidDefinition: all concepts have the same embedding and the score needs them to differ.
    """
    rows = dict(zip(prompts, embeddings, strict=True))
    means = [np.mean([rows[p] for p in texts], axis=0, dtype=np.float64) for texts in _prompts(definition)]
    matrix = unit_rows(means)
    if get_score(definition.score).contrasts and np.allclose(matrix, matrix[0], rtol=0, atol=_SAME):
        raise InvalidDefinition(constant_score_message(definition.score, "equal concept embeddings"))
    return matrix


def build_detector(
    definition: Definition,
    encoder: Encoder,
    *,
    vocabulary: Vocabulary | None = None,
    progress: Progress | None = None,
) -> Detector:
    """An uncalibrated detector: every distinct prompt is encoded once.

    For `neglabel`, `vocabulary` is the one that the definition's negatives were chosen from (the default one
    if None); its words are encoded too, and `progress` is told (words done, words in all).

    Raises:
        InvalidDefinition: see `pool_prompts` and `mine`.
        NoPatches: see `check_encoder`.
        EncoderError: the encoder failed.
    """
    return build_and_report(definition, encoder, vocabulary=vocabulary, progress=progress)[0]


def build_and_report(
    definition: Definition,
    encoder: Encoder,
    *,
    vocabulary: Vocabulary | None = None,
    progress: Progress | None = None,
) -> tuple[Detector, MiningReport | None]:
    """As `build_detector`, with what was done to find the negatives; None where the score has none."""
    check_encoder(definition, encoder)
    prompts = distinct_prompts(definition)
    matrix = pool_prompts(definition, prompts, encoder.encode_texts(prompts))
    if definition.negatives is None:
        return Detector(definition, encoder.fingerprint, matrix), None
    words = vocabulary or default_vocabulary()
    negatives, report = mine(
        words, definition.negatives, definition.names, matrix, encoder, progress=progress
    )
    return Detector(definition, encoder.fingerprint, matrix, negatives=negatives), report


def check_encoder(definition: Definition, encoder: Encoder) -> None:
    """Refuse a definition that the encoder cannot serve.

    Raises:
        NoPatches: the score needs patches, and the encoder gives none.
    """
    if get_score(definition.score).local:
        require_patches(encoder)


def _prompts(definition: Definition) -> Iterator[list[str]]:
    return (prompts_of(concept, definition.templates) for concept in definition.concepts)
