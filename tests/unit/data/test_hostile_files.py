"""The whole corpus gets its verdicts, bombs stay small, and no change of bytes lets a foreign exception out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.build import CASES, write_corpus
from sortal.core.errors import IMAGE_ERROR_CODES, ImageError
from sortal.data.containers.header import ImageHeader
from sortal.data.decode import decode
from sortal.data.header import read_header

TESTS = Path(__file__).parents[2]
BOMBS = [name for name, (verdict, _) in CASES.items() if verdict == "too_many_pixels"]
BOUNDED = [*BOMBS, "text-bomb.png", "pixel-bomb.png", "many-scans.jpg", "huge-tiles.tif", "many-strips.tif"]
SEEDS = [
    "plain.jpg",
    "progressive.jpg",
    "exif-6.webp",
    "palette-trns.png",
    "rgb-16-interlaced.png",
    "animated.gif",
    "animated.webp",
    "plain.bmp",
    "lzw.tif",
    "jpeg-inside.tif",
    "grey-16.tif",
    "rgb-16-deflate.tif",
    "big.tif",
    "grey-12.pgm",
]


def verdict_of(data: bytes, read: Callable[[bytes], Any] = decode) -> str:
    """The upright size or a known error code; any other exception than ImageError is let out."""
    try:
        found = read(data)
    except ImageError as error:
        return error.code if error.code in IMAGE_ERROR_CODES and error.what else f"unknown code {error.code}"
    height, width = found.upright if isinstance(found, ImageHeader) else found.shape[:2]
    return f"{height}x{width}"


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(CASES) >= 62
    assert {verdict for verdict, _ in CASES.values() if not verdict[0].isdigit()} <= set(IMAGE_ERROR_CODES)


@pytest.mark.parametrize("name", CASES)
def test_every_file_gets_exactly_its_verdict(name: str) -> None:
    verdict, build = CASES[name]
    data = build()
    assert verdict_of(data) == verdict
    header = verdict_of(data, read_header)
    assert header == verdict or (header[0].isdigit() and verdict in IMAGE_ERROR_CODES)


def test_a_message_names_the_image_and_never_its_bytes_raw() -> None:
    with pytest.raises(ImageError, match=r"inbox/7\.jpg: ") as caught:
        decode(b"\x00\x1b[31mred\n" * 10, where="inbox/7.jpg")
    assert "\x1b" not in str(caught.value)


MEASURE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sortal.core.errors import ImageError
from sortal.data.decode import decode
decode(Path(sys.argv[2], "plain.png").read_bytes())
def peak():
    # not getrusage, whose peak a child inherits from its parent
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024
found = {}
for name in sys.argv[4:]:
    data = Path(sys.argv[2], name).read_bytes()
    before = peak()
    try:
        decode(data, max_pixels=int(sys.argv[3]))
        verdict = "decoded"
    except ImageError as error:
        verdict = error.code
    found[name] = [verdict, peak() - before]
print(json.dumps(found))
"""


def _measured(folder: Path, max_pixels: int, names: list[str]) -> dict[str, tuple[str, int]]:
    command = [sys.executable, "-c", MEASURE, str(TESTS), str(folder), str(max_pixels), *names]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONWARNINGS": "error"}
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_bombs_are_refused_or_decoded_in_little_memory(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    grown = _measured(tmp_path, 40_000_000, BOUNDED)
    assert {name: grown[name][0] for name in BOMBS} == dict.fromkeys(BOMBS, "too_many_pixels")
    assert sum(megabytes for _, megabytes in grown.values()) <= 40, grown
    unlimited = _measured(tmp_path, 10**9, ["178-megapixels.png"])["178-megapixels.png"]
    assert unlimited[1] > 40, "the measurement does not notice a bomb that is let through"


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file with bytes changed, cut out, doubled or appended, mostly near its start where structure is."""
    data = bytearray(_seed(draw(st.sampled_from(SEEDS))))
    for _ in range(draw(st.integers(1, 6))):
        reach = draw(st.sampled_from([40, 400, len(data)]))
        at = draw(st.integers(0, max(0, min(reach, len(data)) - 1)))
        kind = draw(st.sampled_from(["set", "flip", "cut", "insert", "extreme", "end"]))
        if kind == "set":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=40))
        elif kind == "extreme":
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"]))
        else:
            del data[at:]
        if not data:
            break
    return bytes(data)


_built: dict[str, bytes] = {}


def _seed(name: str) -> bytes:
    if name not in _built:
        _built[name] = CASES[name][1]()
    return _built[name]


def _survives(data: bytes) -> None:
    assert "unknown" not in verdict_of(data)
    assert "unknown" not in verdict_of(data, read_header)


@given(data=mutated())
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_mutated_files_raise_image_errors_only(data: bytes) -> None:
    _survives(data)


@given(data=mutated())
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.slow
def test_many_mutated_files_raise_image_errors_only(data: bytes) -> None:
    _survives(data)


@given(
    data=st.binary(max_size=200),
    start=st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0+", b"GIF89a", b"P5\n", b"BM", b"RIFF\x40\0\0\0WEBP"]
    ),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_random_bytes_behind_a_signature_raise_image_errors_only(data: bytes, start: bytes) -> None:
    _survives(start + data)


def test_every_prefix_of_a_file_is_refused_or_whole() -> None:
    """Cut anywhere, a file never yields pixels other than the whole file's."""
    for name in ("plain.jpg", "plain.png", "lossy.webp", "plain.gif", "grey-16.tif"):
        data = _seed(name)
        whole = decode(data)
        for end in range(0, len(data), max(1, len(data) // 150)):
            try:
                array = decode(data[:end])
            except ImageError:
                continue
            np.testing.assert_array_equal(array, whole)
