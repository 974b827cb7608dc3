"""What decoded pixels are: colors, transparency, depth and orientation against Pillow and closed forms."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from corpus.build import CASES
from corpus.craft import HEIGHT, WIDTH, chunk, exif, picture, png, saved, unfiltered
from corpus.odd import alpha, cmyk, color16, palette, ramp16
from sortal.core.errors import ImageError
from sortal.data.decode import decode, to_pixels
from sortal.data.header import read_header


def bytes_of(name: str) -> bytes:
    return CASES[name][1]()


def worst(actual: np.ndarray, expected: np.ndarray) -> int:
    assert actual.shape == expected.shape
    return int(np.abs(actual.astype(int) - expected.astype(int)).max())


def over_white(color: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    share = opacity.astype(float) / 255
    return np.rint(color * share + 255 * (1 - share))


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("plain.png", 0),
        ("interlaced.png", 0),
        ("broken-icc.png", 0),
        ("animated.png", 0),
        ("lossless.webp", 0),
        ("animated.webp", 0),
        ("plain.bmp", 0),
        ("from-the-top.bmp", 0),
        ("plain.tif", 0),
        ("lzw.tif", 0),
        ("deflate.tif", 0),
        ("pages.tif", 0),
        ("big.tif", 0),
        ("plain.ppm", 0),
        ("plain.jpg", 6),
        ("progressive.jpg", 6),
        ("restart-markers.jpg", 6),
        ("exif-99.jpg", 6),
        ("exif-garbage.jpg", 6),
        ("broken-icc.jpg", 6),
        ("many-comments.jpg", 6),
    ],
)
def test_the_first_image_has_the_pixels_that_were_saved(name: str, tolerance: int) -> None:
    truth = np.asarray(Image.open(_stream("plain.jpg")).convert("RGB")) if tolerance else picture()
    assert worst(decode(bytes_of(name)), truth) <= tolerance


def _stream(name: str) -> io.BytesIO:
    return io.BytesIO(bytes_of(name))


@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_equals_the_upright_picture(value: int) -> None:
    """The stored pixels are made from the upright ones by the inverse of what EXIF says, independently of Pillow."""
    inverse = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[value]
    stored = np.ascontiguousarray(inverse(picture()))
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = saved(stored, format, exif=exif(value), **options)
        assert worst(decode(data), picture()) == 0
        assert read_header(data).orientation == value
        assert read_header(data).upright == (HEIGHT, WIDTH)
    assert worst(decode(saved(stored, "JPEG", quality=100, subsampling=0, exif=exif(value))), picture()) <= 6


def test_cmyk_jpeg_is_inverted_once_as_adobe_stores_it() -> None:
    truth = np.asarray(cmyk().convert("RGB"))
    assert worst(decode(bytes_of("cmyk.tif")), truth) == 0
    assert np.abs(decode(bytes_of("cmyk.jpg")).astype(int) - truth.astype(int)).mean() < 4


def test_transparency_is_laid_over_white() -> None:
    expected = over_white(picture(), alpha())
    assert worst(decode(bytes_of("rgba.png")), expected) <= 1
    assert worst(decode(bytes_of("alpha.webp"))[:, 1:], expected[:, 1:]) <= 1
    grey = over_white(picture()[:, :, :1], alpha())
    assert worst(decode(bytes_of("grey-alpha.png"), channels=1), grey) <= 1


def test_palette_entries_have_their_own_transparency() -> None:
    image = palette()
    index = np.asarray(image)
    colors = np.asarray(image.convert("RGB"))
    levels = np.full(256, 255)
    levels[:32] = range(0, 256, 8)
    assert worst(decode(bytes_of("palette-trns.png")), over_white(colors, levels[index][:, :, None])) <= 1
    clear = np.where((index == 3)[:, :, None], 255, colors)
    assert worst(decode(bytes_of("palette-trns-one.png")), clear) == 0
    assert worst(decode(bytes_of("palette.png")), colors) == 0


def test_a_transparent_color_becomes_white_and_nothing_else_does() -> None:
    image = picture()
    keyed = np.where((image == [0, 0, 220]).all(axis=2, keepdims=True), 255, image)
    assert worst(decode(bytes_of("rgb-trns.png")), keyed) == 0
    grey = image[:, :, :1]
    assert worst(decode(bytes_of("grey-trns.png"), channels=1), np.where(grey == 0, 255, grey)) == 0
    columns = decode(bytes_of("two-bit-trns.png"), channels=1)[0, :4, 0]
    assert list(columns) == [0, 255, 170, 255]
    wide = decode(bytes_of("grey-16-trns.png"), channels=1, depth=16)
    assert wide[0, 0, 0] == 65535
    np.testing.assert_array_equal(wide.ravel()[1:], ramp16().ravel()[1:])


@pytest.mark.parametrize(
    "name",
    [
        "grey-16.png",
        "grey-16.tif",
        "grey-16-big-endian.tif",
        "grey-16-deflate.tif",
        "grey-16-white-is-zero.tif",
        "grey-16.pgm",
    ],
)
def test_16_bit_grey_is_scaled_and_never_clipped(name: str) -> None:
    np.testing.assert_array_equal(decode(bytes_of(name), channels=1, depth=16), ramp16())
    narrow = decode(bytes_of(name), channels=1)
    np.testing.assert_array_equal(narrow, np.rint(ramp16() / 257))
    assert abs(narrow.mean() - 128) <= 2
    assert worst(decode(bytes_of(name)), narrow.repeat(3, axis=2)) == 0


@pytest.mark.parametrize(
    "name",
    ["rgb-16.png", "rgb-16-interlaced.png", "rgb-16.tif", "rgb-16-big-endian.tif", "rgb-16-deflate.tif", "rgb-16.ppm"],
)
def test_16_bit_color_keeps_its_low_bytes(name: str) -> None:
    np.testing.assert_array_equal(decode(bytes_of(name), depth=16), color16())
    np.testing.assert_array_equal(decode(bytes_of(name)), np.rint(color16() / 257))


def test_16_bit_transparency_is_laid_over_white() -> None:
    share = alpha() / 255
    color = np.rint(color16() * share + 65535 * (1 - share))
    assert worst(decode(bytes_of("rgba-16.png"), depth=16), color) <= 1
    grey = np.rint(ramp16() * share + 65535 * (1 - share))
    assert worst(decode(bytes_of("grey-alpha-16.png"), channels=1, depth=16), grey) <= 1


def test_16_bit_color_with_a_transparent_value() -> None:
    key = color16()[5, 9]
    data = png(WIDTH, HEIGHT, 16, 2, unfiltered(color16()), between=chunk(b"tRNS", key.astype(">u2").tobytes()))
    expected = color16()
    expected[5, 9] = 65535
    np.testing.assert_array_equal(decode(data, depth=16), expected)


def test_8_bits_become_16_over_the_full_range() -> None:
    wide = decode(bytes_of("plain.png"), depth=16)
    np.testing.assert_array_equal(wide, picture().astype(np.uint16) * 257)
    np.testing.assert_array_equal(
        decode(bytes_of("one-bit.pbm"), channels=1), decode(bytes_of("one-bit.png"), channels=1)
    )


@pytest.mark.parametrize("depth", [8, 16])
def test_color_becomes_grey_by_luma(depth: int) -> None:
    color = picture() if depth == 8 else color16()
    expected = np.rint(color @ [0.299, 0.587, 0.114])[:, :, None]
    grey = decode(bytes_of("plain.png" if depth == 8 else "rgb-16.png"), channels=1, depth=depth)
    assert worst(grey, expected) <= (1 if depth == 8 else 2)
    assert worst(to_pixels(color, channels=1, depth=depth), expected) <= (1 if depth == 8 else 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_every_accepted_file_has_the_declared_form(channels: int, depth: int) -> None:
    for name, (verdict, build) in CASES.items():
        if "x" not in verdict or not verdict[0].isdigit():
            continue
        array = decode(build(), channels=channels, depth=depth)
        assert f"{array.shape[0]}x{array.shape[1]}" == verdict, name
        assert array.shape[2] == channels, name
        assert array.dtype == (np.uint8 if depth == 8 else np.uint16), name
        assert array.flags.c_contiguous, name
        assert array.flags.writeable, name


def test_headers_tell_frames_and_modes() -> None:
    found = {
        name: read_header(bytes_of(name)) for name in ("animated.gif", "animated.png", "animated.webp", "pages.tif")
    }
    assert [header.frames for header in found.values()] == [3, 3, 3, 2]
    assert [header.format for header in found.values()] == ["GIF", "PNG", "WEBP", "TIFF"]
    assert read_header(bytes_of("pages-in-a-circle.tif")).frames <= 2
    modes = {name: read_header(bytes_of(name)).mode for name in CASES if name.startswith(("grey", "rgb", "one-bit"))}
    assert modes["grey.jpg"] == modes["grey.png"] == "L"
    assert modes["grey-16.png"] == modes["grey-16.tif"] == modes["grey-16.pgm"] == "I;16"
    assert modes["rgb-16.png"] == modes["rgb-16.tif"] == "RGB;16"
    assert modes["one-bit.png"] == "1"


def test_arrays_of_every_allowed_form() -> None:
    image = picture()
    assert to_pixels(image) is image
    np.testing.assert_array_equal(to_pixels(image[:, :, 0]), image[:, :, :1].repeat(3, axis=2))
    np.testing.assert_array_equal(to_pixels(image[:, :, 0] > 100, channels=1)[:, :, 0], (image[:, :, 0] > 100) * 255)
    rgba = np.concatenate([image, alpha()], axis=2)
    assert worst(to_pixels(rgba), over_white(image, alpha())) <= 1
    np.testing.assert_array_equal(to_pixels(image.astype(">u2") * 257), image)
    assert to_pixels(image, depth=16).max() == 65535


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((4, 4, 3), np.float32), "unsupported_mode"),
        (np.zeros((4, 4), np.int64), "unsupported_mode"),
        (np.zeros((4, 4, 2), np.uint8), "unsupported_mode"),
        (np.zeros((3, 4, 4, 3), np.uint8), "unsupported_mode"),
        (np.zeros((3,), np.uint8), "unsupported_mode"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.asarray(["a"]), "unsupported_mode"),
        (b"", "empty"),
        ("photo.jpg", "not_an_image"),
        (None, "not_an_image"),
    ],
)
def test_what_is_no_image_is_refused_with_its_name(array: object, code: str) -> None:
    with pytest.raises(ImageError, match="item 7") as caught:
        to_pixels(array, where="item 7")
    assert caught.value.code == code


def test_pillow_images_are_turned_upright_once() -> None:
    stored = Image.fromarray(picture())
    data = saved(stored, "PNG", exif=exif(6))
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(to_pixels(opened), decode(data))
    np.testing.assert_array_equal(to_pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))), decode(data))
    tiff = bytes_of("exif-6.tif")
    np.testing.assert_array_equal(to_pixels(Image.open(io.BytesIO(tiff))), decode(tiff))
    wide = Image.fromarray(ramp16()[:, :, 0])
    np.testing.assert_array_equal(to_pixels(wide, channels=1, depth=16), ramp16())
    with pytest.raises(ImageError, match="mode F"):
        to_pixels(Image.fromarray(np.zeros((4, 4), np.float32)))


def test_the_pixel_limit_is_the_callers() -> None:
    data = bytes_of("plain.png")
    assert decode(data, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    for call in (decode, to_pixels):
        with pytest.raises(ImageError) as caught:
            call(data, max_pixels=HEIGHT * WIDTH - 1)
        assert caught.value.code == "too_many_pixels"


def test_nothing_global_is_touched_and_threads_agree() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    names = ["plain.jpg", "rgb-16.png", "animated.gif", "lzw.tif", "alpha.webp", "cut-in-half.png"]

    def outcome(name: str) -> bytes | str:
        try:
            return decode(bytes_of(name)).tobytes()
        except ImageError as error:
            return error.code

    alone = {name: outcome(name) for name in names}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(outcome, names * 20))
    assert together == [alone[name] for name in names * 20]
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
