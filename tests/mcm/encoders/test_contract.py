"""What every encoder promises, asked of each of them."""

import numpy as np
import pytest
from PIL import Image

from mcm.encoders import Encoder, PatchEncoder, Pixels
from tests.pictures import scene

TEXTS = ["a photo of a cat", "a photo of a dog", "red", "", "猫 and \U0001f408, résumé"]
ODD_SIZES = [(1, 1), (1, 5000), (5000, 1), (7, 640), (64, 48), (223, 225)]


def prepared(encoder: Encoder) -> Pixels:
    images = [scene(), scene((200, 90)), Image.new("RGB", (50, 70), "orange")]
    return np.stack([encoder.prepare(image) for image in images])


def test_it_is_an_encoder(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.name
    assert encoder.fingerprint
    assert encoder.activation
    assert encoder.dtype == "float32"
    assert encoder.device == "cpu"
    assert min(encoder.dim, encoder.image_size, encoder.max_text_tokens) > 0


@pytest.mark.parametrize("size", ODD_SIZES)
def test_images_of_any_shape_become_pixels_of_one_shape(encoder: Encoder, size: tuple[int, int]) -> None:
    pixels = encoder.prepare(Image.new("RGB", size, "red"))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, encoder.image_size, encoder.image_size)
    assert (pixels[0] == 255).all()
    assert (pixels[1:] == 0).all()


def test_a_grey_image_made_rgb_is_accepted(encoder: Encoder) -> None:
    pixels = encoder.prepare(Image.new("L", (40, 30), 128).convert("RGB"))
    assert (pixels == 128).all()


def test_preparing_leaves_the_image_as_it_was(encoder: Encoder) -> None:
    image = scene()
    encoder.prepare(image)
    assert image.tobytes() == scene().tobytes()


def test_images_become_unit_float32_rows(encoder: Encoder) -> None:
    rows = encoder.encode_images(prepared(encoder))
    assert rows.dtype == np.float32
    assert rows.shape == (3, encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_texts_become_unit_float32_rows(encoder: Encoder) -> None:
    rows = encoder.encode_texts(TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (len(TEXTS), encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_an_image_is_embedded_alike_alone_and_in_a_batch(encoder: Encoder) -> None:
    pixels = prepared(encoder)
    alone = np.concatenate([encoder.encode_images(p[None]) for p in pixels])
    np.testing.assert_allclose(encoder.encode_images(pixels), alone, rtol=0, atol=1e-5)


def test_a_text_is_embedded_alike_alone_and_among_many(encoder: Encoder) -> None:
    many = [*TEXTS, *(f"a photo of thing {i}" for i in range(70))]
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_texts(many)[: len(TEXTS)], alone, rtol=0, atol=1e-5)


def test_the_same_input_gives_the_same_embedding(encoder: Encoder) -> None:
    pixels = prepared(encoder)
    np.testing.assert_array_equal(encoder.encode_images(pixels), encoder.encode_images(pixels))
    np.testing.assert_array_equal(encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS))


def test_nothing_becomes_no_rows(encoder: Encoder) -> None:
    assert encoder.encode_texts([]).shape == (0, encoder.dim)
    assert encoder.truncated([]) == []


def test_only_texts_beyond_the_limit_are_truncated(encoder: Encoder) -> None:
    too_long = "cat " * (encoder.max_text_tokens + 1)
    assert encoder.truncated(["a photo of a cat", too_long, ""]) == [False, True, False]


def test_warming_up_changes_nothing(encoder: Encoder) -> None:
    before = encoder.encode_texts(["red"])
    encoder.warmup()
    np.testing.assert_array_equal(encoder.encode_texts(["red"]), before)


# ---- patches, of those that give them


def test_an_images_embedding_is_the_same_with_its_patches(patch_encoder: PatchEncoder) -> None:
    pixels = prepared(patch_encoder)
    embeddings, _ = patch_encoder.encode_patches(pixels)
    np.testing.assert_allclose(embeddings, patch_encoder.encode_images(pixels), rtol=0, atol=1e-6)


def test_patches_become_unit_float32_rows_in_a_grid(patch_encoder: PatchEncoder) -> None:
    _, patches = patch_encoder.encode_patches(prepared(patch_encoder))
    assert patches.dtype == np.float32
    assert patches.shape == (3, *patch_encoder.patch_grid(), patch_encoder.dim)
    assert min(patch_encoder.patch_grid()) >= 2
    np.testing.assert_allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-6)


def test_patches_are_alike_alone_and_in_a_batch(patch_encoder: PatchEncoder) -> None:
    pixels = prepared(patch_encoder)
    _, together = patch_encoder.encode_patches(pixels)
    alone = np.concatenate([patch_encoder.encode_patches(p[None])[1] for p in pixels])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_no_images_have_no_patches(patch_encoder: PatchEncoder) -> None:
    side = patch_encoder.image_size
    embeddings, patches = patch_encoder.encode_patches(np.empty((0, 3, side, side), dtype=np.uint8))
    assert embeddings.shape == (0, patch_encoder.dim)
    assert patches.shape == (0, *patch_encoder.patch_grid(), patch_encoder.dim)
