"""EXIF: what cameras write is read in every container and byte order; what attackers write says nothing."""

from __future__ import annotations

import io
import struct
from datetime import datetime
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from corpus.craft import after_start, segment
from sortal.data.exif import NOWHERE, Origin, read_origin

PLAIN = Image.new("RGB", (8, 8), "green")
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")


def described() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x013B] = "Nikon", "D 5", "Erika"
    exif.get_ifd(0x8769).update({0x9003: "2023:01:02 03:04:05", 0x9291: "25", 0xA431: "123456"})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 1.0), 3: "E", 4: (8.0, 32.0, 1.0)})
    return exif


@cache
def with_all(format: str) -> bytes:
    """A file that says all; Pillow writes no directories below the first of a TIFF, whose own form EXIF has."""
    return described().tobytes()[6:] if format == "TIFF" else saved(format, described())


def saved(format: str, exif: Image.Exif | bytes) -> bytes:
    stream = io.BytesIO()
    PLAIN.save(stream, format, exif=exif)
    return stream.getvalue()


def block(order: str, entries: list[tuple[int, int, int, bytes]], tail: bytes = b"") -> bytes:
    """A TIFF block with one directory of (tag, type, count, four bytes) and what follows it."""
    mark = b"MM\0*" if order == ">" else b"II*\0"
    rows = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return mark + struct.pack(order + "IH", 8, len(entries)) + rows + bytes(4) + tail


def in_jpeg(tiff: bytes) -> bytes:
    return after_start(saved("JPEG", b""), segment(0xE1, b"Exif\0\0" + tiff))


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_camera_writes_is_read(format: str) -> None:
    wanted = Origin(camera="Nikon D 5", taken=datetime(2023, 1, 2, 3, 4, 5, 250000), gps=True, personal=True)
    assert read_origin(with_all(format), format) == wanted


@pytest.mark.parametrize("format", [*FORMATS, "GIF", "BMP", "PPM"])
def test_images_without_exif_say_nothing(format: str) -> None:
    stream = io.BytesIO()
    PLAIN.save(stream, format)
    assert read_origin(stream.getvalue(), format) == NOWHERE


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order: str) -> None:
    assert read_origin(in_jpeg(block(order, [(0x0110, 2, 4, b"X1\0\0")])), "JPEG").camera == "X1"


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("2024:02:29 23:59:59", datetime(2024, 2, 29, 23, 59, 59)),
        ("2024-02-29T23:59:59", datetime(2024, 2, 29, 23, 59, 59)),
        ("2023:02:29 00:00:00", None),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
    ],
)
def test_times_that_do_not_exist_are_no_times(text: str, taken: datetime | None) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = text
    assert read_origin(saved("JPEG", exif), "JPEG").taken == taken


def test_the_time_of_the_file_serves_where_there_is_no_other() -> None:
    exif = Image.Exif()
    exif[0x0132] = "2020:01:01 10:00:00"
    assert read_origin(saved("JPEG", exif), "JPEG").taken == datetime(2020, 1, 1, 10)


def test_the_make_is_not_said_twice() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS R"
    assert read_origin(saved("JPEG", exif), "JPEG").camera == "Canon EOS R"


def test_a_gps_directory_without_a_position_and_a_serial_of_zeros_tell_nothing() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[29] = "2020:01:01"
    exif.get_ifd(0x8769)[0xA431] = "0000000"
    assert read_origin(saved("JPEG", exif), "JPEG") == NOWHERE


def test_a_position_in_xmp_counts() -> None:
    packet = b'http://ns.adobe.com/xap/1.0/\0<rdf exif:GPSLatitude="47,22.0N"/>'
    data = after_start(saved("JPEG", b""), segment(0xE1, packet))
    assert read_origin(data, "JPEG") == Origin(gps=True)


def test_control_characters_do_not_come_through() -> None:
    exif = Image.Exif()
    exif[0x0110] = "A\x1b[31m\nB"
    assert read_origin(saved("JPEG", exif), "JPEG").camera == "A [31m B"


@pytest.mark.parametrize(
    "tiff",
    [
        block("<", [(0x8769, 4, 1, struct.pack("<I", 8)), (0x8825, 4, 1, struct.pack("<I", 8))]),
        block("<", [(0x8769, 4, 1, b"\xff" * 4)]),
        block("<", [(0x0110, 2, 2**32 - 1, b"\xff" * 4)]),
        block("<", [(0x0110, 2, 2**31, struct.pack("<I", 8))]),
        block("<", [(0x0110, 99, 2**32 - 1, bytes(4))]),
        block("<", [(0x8769, 4, 2**31, struct.pack("<I", 8))]),
        b"II*\0" + b"\xff" * 4,
        b"II*\0\x08\0\0\0" + b"\xff" * 2,
        b"MM\0*",
        b"II",
        b"",
    ],
)
def test_hostile_directories_say_nothing_or_little(tiff: bytes) -> None:
    found = read_origin(in_jpeg(tiff), "JPEG")
    assert found.taken is None
    assert not found.gps
    assert len(found.camera or "") <= 128


@given(
    format=st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=12),
    end=st.integers(0, 700),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_change_of_bytes_raises(format: str, changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(with_all(format))
    for at, value in changes:
        data[at % len(data)] = value
    for cut in (data, data[:end]):
        assert isinstance(read_origin(bytes(cut), format), Origin)


def test_many_segments_and_chunks_are_not_walked_for_ever() -> None:
    data = saved("JPEG", b"")
    assert read_origin(data[:2] + segment(0xE1, b"x") * 5000 + data[2:], "JPEG") == NOWHERE
    empty = b"\x89PNG\r\n\x1a\n" + (b"\0\0\0\0zzzz" + bytes(4)) * 5000
    assert read_origin(empty, "PNG") == NOWHERE
    assert read_origin(b"RIFF\0\0\0\0WEBP" + b"ABCD\0\0\0\0" * 5000, "WEBP") == NOWHERE
    assert not np.any([read_origin(bytes(9000), kind).gps for kind in FORMATS])
