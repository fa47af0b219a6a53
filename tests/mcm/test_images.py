"""What becomes of every kind of image file: an upright RGB picture, or one clear error."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mcm.errors import BrokenImage, ImageError, ImageTooLarge, InvalidInput, UnsupportedImage
from mcm.images import DEFAULT_LIMITS, ImageLimits, load_image
from tests import pictures
from tests.shared import shared

ROOT = Path(__file__).resolve().parents[2]
SCENE = np.asarray(pictures.scene()).astype(int)


def pixels(data: bytes) -> NDArray[np.int_]:
    image = load_image(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def distance(first: NDArray[np.int_], second: NDArray[np.int_]) -> float:
    """Mean difference in grey levels; two orientations of the scene are more than 50 apart."""
    assert first.shape == second.shape
    return float(np.abs(first - second).mean())


def python(script: str) -> str:
    """What a script prints in a process of its own; any warning or word on stderr is a failure."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


# ---- every format shows the same picture


@pytest.mark.parametrize("name", pictures.GOOD)
def test_every_good_file_shows_the_scene(name: str) -> None:
    assert distance(pixels(pictures.GOOD[name]()), SCENE) < 4


def test_heic_is_read_where_pillow_heif_is_installed() -> None:
    pytest.importorskip("pillow_heif")
    assert distance(pixels(pictures.heic()), SCENE) < 4


def test_without_pillow_heif_the_error_names_heic_and_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_heif")
    file = pictures.heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedImage, match=r"HEIC.*mcm-ood\[heic\].*JPEG"):
        load_image(file)


def test_photographs_decode_as_pillow_decodes_them() -> None:
    for path in sorted(shared("images").glob("*.jpg"))[:100]:
        with Image.open(path) as photograph:
            expected = ImageOps.exif_transpose(photograph).convert("RGB")
        assert load_image(path.read_bytes()).tobytes() == expected.tobytes(), path.name


def test_cmyk_of_adobe_is_turned_the_right_way_round() -> None:
    assert distance(pixels(pictures.cmyk_jpeg()), SCENE) < 4


def test_a_photograph_with_damaged_exif_is_read_without_a_warning() -> None:
    assert distance(pixels(pictures.jpeg_with_damaged_exif()), SCENE) < 4  # a warning would be an error here


def test_one_pixel_is_an_image() -> None:
    assert load_image(pictures.plain("red", (1, 1))).getpixel((0, 0)) == (255, 0, 0)


# ---- orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    assert distance(pixels(pictures.turned(orientation, kind)), SCENE) < 4


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    file = pictures.encode(pictures.scene(), "PNG", exif=pictures.exif(orientation))
    assert distance(pixels(file), SCENE) == 0


def test_orientation_is_applied_to_grey_of_16_bits() -> None:
    grey = pictures.scene().convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    turned = pictures.turned(6, "PNG", wide)
    assert distance(pixels(turned), np.asarray(grey.convert("RGB")).astype(int)) == 0


# ---- alpha


def half_transparent(mode: str) -> Image.Image:
    """The scene's left half over nothing."""
    alpha = Image.new("L", pictures.SIZE, 0)
    alpha.paste(255, (0, 0, pictures.SIZE[0] // 2, pictures.SIZE[1]))
    base = pictures.scene().convert("L" if mode.lower() == "la" else "RGB")
    base.putalpha(alpha)
    return base.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF")]
)
def test_alpha_is_composited_on_white(mode: str, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    found = pixels(pictures.encode(half_transparent(mode), kind, **options))
    expected = SCENE if mode == "RGBA" else np.asarray(pictures.scene().convert("L").convert("RGB"))
    middle = pictures.SIZE[0] // 2
    assert distance(found[:, :middle], expected[:, :middle].astype(int)) < 1
    assert distance(found[:, middle:], np.full_like(SCENE, 255)[:, middle:]) < 1


def test_half_transparent_black_is_grey() -> None:
    file = pictures.encode(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG")
    assert load_image(file).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(kind: str) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 1)
    found = load_image(pictures.encode(image, kind, transparency=0))
    assert found.getpixel((0, 0)) == (255, 0, 0)
    assert found.getpixel((3, 3)) == (255, 255, 255)


def test_a_palette_with_alpha_for_each_entry_is_composited() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    found = load_image(pictures.encode(image, "PNG", transparency=bytes([128, 255])))
    assert [found.getpixel((x, 0)) for x in (0, 1)] == [(127, 127, 127), (255, 0, 0)]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_grey_value_is_white_at_every_depth(depth: int) -> None:
    top = 2**depth - 1
    values = np.zeros((8, 8), dtype=np.uint8)
    values[0] = top
    assert (pixels(pictures.grey_png(depth, values, transparent=0)) == 255).all()
    opaque = pixels(pictures.grey_png(depth, values, transparent=top))
    assert (opaque[0] == 255).all()
    assert (opaque[1:] == 0).all()


@pytest.mark.parametrize("depth", [2, 4])
def test_a_transparent_middle_grey_hides_that_grey_only(depth: int) -> None:
    values = np.tile(np.arange(4, dtype=np.uint8), (2, 2))
    found = pixels(pictures.grey_png(depth, values, transparent=1))[0, :4, 0]
    scale = 255 // (2**depth - 1)
    assert found.tolist() == [0, 255, 2 * scale, 3 * scale]


def test_a_transparent_colour_is_white() -> None:
    file = pictures.encode(pictures.scene(), "PNG", transparency=pictures.QUARTERS["blue"])
    expected = SCENE.copy()
    blue = np.equal(SCENE, pictures.QUARTERS["blue"]).all(axis=2)
    expected[blue] = 255
    assert distance(pixels(file), expected) == 0


def test_a_transparent_colour_of_16_bits_is_white() -> None:
    wide = (SCENE * 256 + 7).astype(np.uint16)
    file = pictures.rgb16_png(wide, transparent=(7, 7, 255 * 256 + 7))
    expected = SCENE.copy()
    expected[np.equal(SCENE, (0, 0, 255)).all(axis=2)] = 255
    assert distance(pixels(file), expected) == 0


# ---- grey of 16 bits, 1 bit, other kinds of pixels


def test_grey_of_16_bits_equals_its_twin_of_8_bits() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16), (4, 1))
    assert (pixels(pictures.grey16_png(ramp * 257))[..., 0] == ramp).all()


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_tiff_grey_of_16_bits_equals_its_twin(mode: str) -> None:
    ramp = np.tile(np.arange(256, dtype="<u2" if mode == "I;16" else ">u2"), (4, 1))
    raw = (ramp * 257).astype(ramp.dtype).tobytes()
    file = pictures.encode(Image.frombytes(mode, (256, 4), raw), "TIFF")
    assert (pixels(file)[..., 0] == np.arange(256)).all()


def test_grey_of_16_bits_is_rounded_and_never_clipped() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = pixels(pictures.grey16_png(values))[..., 0]
    assert np.abs(found - values / 257).max() < 0.51
    assert (np.diff(found.ravel()) >= 0).all()


def test_tiff_grey_of_12_bits_reaches_white() -> None:
    packed = bytes([0x00, 0x0F, 0xFF] * 8)  # 0 and 4095, in turn
    tags = {256: 16, 257: 1, 258: 12, 259: 1, 262: 1, 277: 1, 278: 1}
    assert pixels(pictures.tiff(tags, packed))[0, :2, 0].tolist() == [0, 255]


def test_tiff_grey_of_16_bits_where_white_is_zero_is_turned_round() -> None:
    tags = {256: 2, 257: 1, 258: 16, 259: 1, 262: 0, 277: 1, 278: 1}
    assert pixels(pictures.tiff(tags, b"\0\0\xff\xff"))[0, :, 0].tolist() == [255, 0]


def test_a_transparent_value_among_16_bits_is_white() -> None:
    values = np.array([[0, 1, 300]], dtype=np.uint16)
    assert pixels(pictures.grey16_png(values, transparent=1))[0, :, 0].tolist() == [0, 255, 1]


def test_one_bit_and_palette_images_can_be_resized_smoothly() -> None:
    stripes = Image.fromarray(np.tile([0, 255], (32, 16)).astype(np.uint8))
    for image in (stripes.convert("1"), stripes.convert("P")):
        small = load_image(pictures.encode(image, "PNG")).resize((8, 8), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(small).astype(int) - 127).max() < 30


@pytest.mark.parametrize(
    ("mode", "named"), [("F", "floating point"), ("I", "32-bit integer"), ("LAB", "CIE Lab")]
)
def test_pixels_of_unknown_range_are_refused_by_name(mode: str, named: str) -> None:
    with pytest.raises(UnsupportedImage, match=f"{named}.*mode {mode}"):
        load_image(pictures.encode(Image.new(mode, (4, 4)), "TIFF"))


# ---- too large


@pytest.mark.parametrize(
    "bomb",
    [
        pictures.bomb_png,
        pictures.bomb_gif,
        pictures.bomb_webp,
        pictures.bomb_tiff_tile,
        lambda: pictures.bomb_gif((12_000, 12_000)),
        lambda: pictures.bomb_webp((12_000, 12_000)),
        lambda: pictures.bomb_png((12_000, 8_000)),
    ],
)
def test_a_bomb_is_refused_by_its_header(bomb: object) -> None:
    assert callable(bomb)
    file = bomb()
    assert len(file) < 20_000
    with pytest.raises(ImageTooLarge, match=r"50,000,000"):
        load_image(file)


def test_the_error_names_the_size_and_the_limit() -> None:
    with pytest.raises(ImageTooLarge, match=r"30,000 x 30,000 = 900,000,000 pixels.*50,000,000"):
        load_image(pictures.bomb_png())


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_memory_stays_flat_while_bombs_are_refused() -> None:
    grown = python(
        """
from pathlib import Path
from mcm.errors import ImageTooLarge
from mcm.images import load_image
from tests import pictures
bombs = [pictures.bomb_png(), pictures.bomb_gif(), pictures.bomb_gif((12_000, 12_000)),
         pictures.bomb_webp(), pictures.bomb_webp((12_000, 12_000)), pictures.bomb_tiff_tile()]
def peak():
    return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
before = peak()
for bomb in bombs:
    try:
        load_image(bomb)
    except ImageTooLarge:
        continue
    raise SystemExit("not refused")
print((peak() - before) // 1024)
"""
    )
    assert int(grown) < 20  # MiB; one of them decoded would be 400 at least


def test_the_pixel_limit_is_exact() -> None:
    limits = ImageLimits(max_pixels=2_000_000)
    assert load_image(pictures.just_within(2_000_000), limits).size == (1000, 2000)
    with pytest.raises(ImageTooLarge, match="1,000 x 2,001"):
        load_image(pictures.just_over(2_000_000), limits)


def test_one_line_over_the_default_limit_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="50,001,000"):
        load_image(pictures.just_over(DEFAULT_LIMITS.max_pixels))


def test_the_byte_limit_is_exact() -> None:
    file = pictures.plain("red")
    load_image(file, ImageLimits(max_bytes=len(file)))
    with pytest.raises(ImageTooLarge, match=rf"{len(file)} bytes.*{len(file) - 1}"):
        load_image(file, ImageLimits(max_bytes=len(file) - 1))


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    limits = ImageLimits(max_pixels=640 * 480)
    assert load_image(pictures.many_scans_jpeg(10), limits).size == (640, 480)
    with pytest.raises(ImageTooLarge, match=r"scans.*baseline"):
        load_image(pictures.many_scans_jpeg(25), limits)


@pytest.mark.parametrize(
    "file", [pictures.gif_with_giant_later_frame, pictures.tiff_with_giant_later_frame], ids=["gif", "tiff"]
)
def test_later_frames_are_never_looked_at(file: object) -> None:
    assert callable(file)
    assert distance(pixels(file()), SCENE) == 0


def test_compressed_text_that_unpacks_without_end_is_refused() -> None:
    with pytest.raises(BrokenImage, match="PNG"):
        load_image(pictures.text_bomb_png())


# ---- cheap files that would keep a processor busy

EMPTY_APP2, EMPTY_COMMENT = b"\xff\xe2\0\x02", b"\xff\xfe\0\x02"


def test_a_gif_of_nothing_but_stray_bytes_is_refused() -> None:
    with pytest.raises(BrokenImage, match="no frame"):
        load_image(pictures.gif_of_stray_bytes(19 * 2**20))


def test_a_gif_of_a_comment_in_a_million_parts_is_refused() -> None:
    with pytest.raises(BrokenImage, match=r"50,000 blocks"):
        load_image(pictures.gif_after(pictures.gif_comment(1_000_000)))


def test_a_gif_of_a_million_comments_is_refused() -> None:
    with pytest.raises(BrokenImage, match=r"50,000 blocks"):
        load_image(pictures.gif_after(pictures.gif_comment(1) * 1_000_000))


@pytest.mark.parametrize(
    "blocks",
    [pictures.gif_comment(1000), bytes(1000), b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0", b"!\xff\x03abc\x02,;\0"],
    ids=["comment", "stray bytes", "loop", "extension with marks in it"],
)
def test_what_stands_before_the_first_frame_of_a_gif_is_passed_over(blocks: bytes) -> None:
    assert distance(pixels(pictures.gif_after(blocks)), SCENE) == 0


def test_transparency_of_a_gif_holds_behind_a_comment() -> None:
    control = b"!\xf9\x04\x01\0\0" + bytes([gif_index("blue")]) + b"\0"
    for blocks in (control + pictures.gif_comment(3), pictures.gif_comment(3) + control):
        found = pixels(pictures.gif_after(blocks))
        assert found[-1, 0].tolist() == [255, 255, 255]
        assert found[-1, -1].tolist() == list(pictures.QUARTERS["yellow"])


def gif_index(quarter: str) -> int:
    """Where the palette of the scene's GIF has the colour of a quarter."""
    palette = pictures.gif_after(b"")[13:]
    return palette.index(bytes(pictures.QUARTERS[quarter])) // 3


def test_a_jpeg_of_millions_of_empty_segments_is_refused() -> None:
    with pytest.raises(BrokenImage, match=r"10,000 segments"):
        load_image(pictures.jpeg_after(EMPTY_APP2 * (19 * 2**18)))


@pytest.mark.parametrize(
    "segments",
    [EMPTY_APP2 * 5000, b"\xff" * 1000, bytes(1000), b"\xff\0" * 1000, b"\xff\xd0" * 1000, b"\xff\x01"],
    ids=["empty segments", "fill bytes", "zeros", "escaped fill bytes", "restart marks", "TEM"],
)
def test_what_stands_before_the_pixels_of_a_jpeg_is_passed_over(segments: bytes) -> None:
    assert distance(pixels(pictures.jpeg_after(EMPTY_COMMENT + segments)), SCENE) < 4


def test_a_jpeg_of_megabytes_of_tables_is_refused() -> None:
    table = b"\xff\xdb\0\x43\0" + b"\1" * 64
    assert distance(pixels(pictures.jpeg_after(table * 100)), SCENE) < 4
    with pytest.raises(BrokenImage, match="bytes of tables"):
        load_image(pictures.jpeg_after((b"\xff\xdb" + (2 + 65 * 1000).to_bytes(2) + table[4:] * 1000) * 20))


@pytest.mark.parametrize("junk", [b"\xff", b"\0", b"\xff\0", b"\xff\xd8", b"\xff\xd9"])
def test_a_jpeg_of_nothing_but_stray_bytes_is_refused(junk: bytes) -> None:
    with pytest.raises(BrokenImage, match="ends before its pixels"):
        load_image(b"\xff\xd8" + EMPTY_COMMENT + junk * (19 * 2**20 // len(junk)))


# ---- broken, or no image


@pytest.mark.parametrize("given_instead", ["photo.jpg", Path("photo.jpg"), None, bytearray(b"GIF89a"), 3])
def test_anything_but_bytes_is_refused_by_its_type(given_instead: object) -> None:
    with pytest.raises(InvalidInput, match=rf"bytes.*{type(given_instead).__name__}.*read_bytes"):
        load_image(given_instead)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_truncated_file_is_broken(kind: str, share: float) -> None:
    image = pictures.noise().quantize(256) if kind == "GIF" else pictures.noise()
    with pytest.raises(BrokenImage, match="truncated or damaged"):
        load_image(pictures.truncated(pictures.encode(image, kind), share))


def test_a_truncated_heic_is_broken() -> None:
    pytest.importorskip("pillow_heif")
    with pytest.raises(BrokenImage, match="HEIC"):
        load_image(pictures.truncated(pictures.heic(pictures.noise())))


def test_truncated_photographs_are_broken() -> None:
    for path in sorted(shared("images").glob("*.jpg"))[:50]:
        with pytest.raises(BrokenImage, match="JPEG"):
            load_image(pictures.truncated(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "the file is empty"),
        ("SVG", "SVG"),
        ("HTML", "HTML"),
        ("PDF", "PDF"),
        ("Photoshop", "PSD"),
        ("JPEG 2000", "JPEG 2000"),
        ("JPEG XL", "JPEG XL"),
        ("ICO", "ICO"),
        ("PostScript", "PostScript"),
        ("video", "video"),
        ("text", "not an image"),
        ("zeros", "not an image"),
    ],
)
def test_what_is_no_image_is_named_where_known(name: str, said: str) -> None:
    with pytest.raises(UnsupportedImage, match=said) as caught:
        load_image(pictures.NOT_IMAGES[name])
    assert "send" in str(caught.value)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_an_image_of_no_pixels_is_broken(size: tuple[int, int]) -> None:
    with pytest.raises(BrokenImage):
        load_image(pictures.png(size, [b"\0"] * size[1]))


EXAMPLES = {name: make() for name, make in pictures.GOOD.items()} | {
    "grey16": pictures.grey16_png(np.arange(64, dtype=np.uint16).reshape(8, 8), transparent=3),
    "transparent grey": pictures.grey_png(2, np.ones((8, 8), dtype=np.uint8), transparent=1),
    "cmyk": pictures.cmyk_jpeg(),
    "giant gif frame": pictures.gif_with_giant_later_frame(),
    "giant tiff frame": pictures.tiff_with_giant_later_frame(),
    "damaged exif": pictures.jpeg_with_damaged_exif(),
    "turned": pictures.turned(6),
}
SMALL = ImageLimits(max_bytes=2**20, max_pixels=1_000_000)
WITHOUT_DEADLINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check_any(data: bytes) -> None:
    try:
        image = load_image(data, SMALL)
    except ImageError:
        return
    assert image.mode == "RGB"
    assert 0 < image.width * image.height <= SMALL.max_pixels


@WITHOUT_DEADLINE
@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_are_an_image_or_an_image_error(data: bytes) -> None:
    check_any(data)


@WITHOUT_DEADLINE
@given(st.sampled_from(sorted(EXAMPLES)), st.binary(max_size=60))
def test_any_bytes_behind_a_good_header_are_an_image_or_an_image_error(name: str, tail: bytes) -> None:
    for length in (4, 12, 24, 40, 64):
        check_any(EXAMPLES[name][:length] + tail)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_a_damaged_file_is_an_image_or_an_image_error(name: str, data: st.DataObject) -> None:
    file = bytearray(EXAMPLES[name])
    places = st.integers(0, len(file) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        file[place] = value
    start, end = sorted((data.draw(places), data.draw(places)))
    check_any(bytes(file))
    check_any(bytes(file[:start] + file[end:]))


def test_threads_do_not_disturb_each_other() -> None:
    files = [EXAMPLES[name] for name in sorted(EXAMPLES)] * 8
    broken = pictures.truncated(pictures.encode(pictures.noise((32, 32)), "JPEG"))

    def load(data: bytes) -> bytes:
        with pytest.raises(BrokenImage):
            load_image(broken)
        return load_image(data).tobytes()

    alone = [load_image(data).tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(load, files)) == alone


def test_the_settings_of_pillow_and_of_warnings_are_left_alone() -> None:
    done = python(
        """
import warnings
import numpy
from PIL import Image, ImageFile
def settings():
    return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
before = settings()
from mcm.images import load_image
from tests import pictures
for make in pictures.GOOD.values():
    load_image(make())
print(before == settings())
"""
    )
    assert done == "True"


def test_importing_the_module_loads_no_plugin_for_rare_formats() -> None:
    done = python("import sys, mcm.images; print({'pillow_heif', 'PIL.AvifImagePlugin'} & set(sys.modules))")
    assert done == "set()"
