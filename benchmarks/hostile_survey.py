"""A thousand damaged and hostile files through the survey: `python benchmarks/hostile_survey.py [--files 1000]`.

The corpus of the tests, and mutations of its readable files and of larger ones: cut at random, bits flipped, blocks
zeroed, heads and tails swapped between formats, names that say another format, headers that declare huge sizes. Every
file is surveyed alone, twice: it must be a row of the table or a rejected one with a known code, exactly once and both
times the same, and within 2 s of CPU time; the survey of all together must agree with a full scan. Ends with 1 if not.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ["SORTAL_CACHE_GB"] = "0"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from PIL import Image

from corpus.build import CASES, write_corpus
from sortal.core.errors import IMAGE_ERROR_CODES
from sortal.data.files import shown
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.survey import survey

LIMIT_S = 2.0
SUFFIXES = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".ppm")

Mutation = Callable[[bytes, bytes, random.Random], bytes]


def cut(data: bytes, _other: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def flip(data: bytes, _other: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 5, 50))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def blank(data: bytes, _other: bytes, chance: random.Random) -> bytes:
    start, length = chance.randrange(len(data)), chance.choice((4, 64, 4096))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def swap_head(data: bytes, other: bytes, chance: random.Random) -> bytes:
    size = chance.choice((4, 16, 64, 512))
    return other[:size] + data[size:]


def splice(data: bytes, other: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def enlarge(data: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Declare a huge size where the header most likely holds one."""
    place, packing = chance.choice(((16, ">II"), (18, "<ii"), (6, "<HH"), (26, "<HH"), (163, ">HH")))
    side = chance.choice((4999, 16000, 65535))
    packed = struct.pack(packing, side, side)
    return data[:place] + packed + data[place + len(packed) :]


MUTATIONS: tuple[Mutation, ...] = (cut, flip, blank, swap_head, splice, enlarge)


def large(format: str, **options: object) -> bytes:
    """A picture of 2 megapixels."""
    rng = np.random.Generator(np.random.Philox(key=1))
    coarse = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8))
    stream = io.BytesIO()
    coarse.resize((1600, 1200), Image.Resampling.BICUBIC).save(stream, format, **options)
    return stream.getvalue()


def write(folder: Path, files: int) -> None:
    """The corpus, and mutations until there are so many files."""
    verdicts = write_corpus(folder)
    sources = [CASES[name][1]() for name, verdict in verdicts.items() if verdict[0].isdigit()]
    big = [large("JPEG"), large("JPEG", progressive=True), large("PNG"), large("WEBP"), large("TIFF"), large("BMP")]
    chance = random.Random(0)
    for number in range(files - len(verdicts)):
        pool = big if number % 10 == 0 else sources
        data = chance.choice(MUTATIONS)(chance.choice(pool), chance.choice(sources), chance)
        (folder / f"m{number:04}{chance.choice(SUFFIXES)}").write_bytes(data)
    (folder / "empty-mutation.jpg").write_bytes(b"")


def verdict(path: Path) -> tuple[str, float]:
    """The code or size of one file surveyed alone, and the CPU seconds of it, which other programs do not lengthen."""
    start = time.process_time()
    table, found = survey(images([path]), workers=1)
    took = time.process_time() - start
    if len(table) + table.rejected.height != 1 or len(found) != len(table):
        return "NO SINGLE VERDICT", took
    if len(table):
        return f"{found.frame['height'][0]}x{found.frame['width'][0]}", took
    code = table.rejected["code"][0]
    return code if code in IMAGE_ERROR_CODES else f"UNKNOWN CODE {code}", took


def main() -> int:
    """Print the verdicts' counts and the slowest files; 0 where all promises held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder, options.files)
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        verdict(paths[0])
        rows = [(path.name, *verdict(path), verdict(path)[0]) for path in paths]
        together, scanned = survey(images(paths))[0], scan(images(paths), full=True)
    agree = together.rejected.equals(scanned.rejected) and together.frame.equals(scanned.frame)
    wrong = [row for row in rows if row[1] != row[3] or row[1].startswith(("NO", "UNKNOWN")) or row[2] > LIMIT_S]
    print(f"{len(rows)} files; readable: {sum(row[1][0].isdigit() for row in rows)}")
    for code, number in Counter(row[1] for row in rows if not row[1][0].isdigit()).most_common():
        print(f"{number:6} {code}")
    for name, found, took, _ in sorted(rows, key=lambda row: -row[2])[:5]:
        print(f"{took * 1000:8.1f} ms  {found:16} {shown(name)}")
    print(f"{len(wrong)} broken promises {wrong[:5]}; together as a full scan says: {'yes' if agree else 'NO'}")
    return 1 if wrong or not agree else 0


if __name__ == "__main__":
    sys.exit(main())
