"""What is done to a table of a million rows: `python benchmarks/table_scale.py [--rows 1000000]`.

Writes a CSV file of as many rows (path, label, group; lots of 20 rows, 50 classes) beside as many empty files, because
reading a table looks whether its files are there. Then, a line each with CPU seconds and the peak memory of the process
so far: reading it, its digests, groups from names, a split by groups, the split file written, the difference of that
file and of one in which every hundredth row is relabeled and every thousandth is gone, and the leaks of a split that
was drawn row by row. Digests of content are drawn, one row in a hundred a copy of another. Everything is written into a
temporary folder and removed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from sortal.data import diff
from sortal.data.leaks import leaked_rows
from sortal.data.open import images, with_group
from sortal.data.split import check_leaks, save_split, split
from sortal.data.table import SPLITS, ImageTable
from sortal.data.units import units

LOT, CLASSES, COPIES = 20, 50, 0.01
Result = TypeVar("Result")


def timed(what: str, step: Callable[[], Result]) -> Result:
    """The result, and a line about what it cost."""
    start, cpu = time.perf_counter(), time.process_time()
    result = step()
    seconds = time.process_time() - cpu, time.perf_counter() - start
    print(f"{what:42}{seconds[0]:8.2f} s CPU{seconds[1]:8.2f} s{_peak_gb():8.2f} GB", flush=True)
    return result


def draw(folder: Path, rows: int) -> Path:
    """The table, and an empty file for each of its rows."""
    rng = np.random.Generator(np.random.Philox(key=1))
    label = rng.integers(0, CLASSES, -(-rows // LOT)).repeat(LOT)[:rows]
    frame = pl.DataFrame({"n": np.arange(rows), "label": label}).select(
        path=pl.format("class {}/lot_{}/{}.jpg", "label", pl.col("n") // LOT, "n"),
        label=pl.format("class {}", "label"),
        group=pl.format("lot {}", pl.col("n") // LOT),
    )
    paths = frame["path"].to_list()
    for name in dict.fromkeys(path.rpartition("/")[0] for path in paths):
        (folder / name).mkdir(parents=True)
    for path in paths:
        os.mknod(folder / path)
    frame.write_csv(folder / "images.csv")
    return folder / "images.csv"


def scanned(table: ImageTable, rng: np.random.Generator) -> ImageTable:
    """The table with drawn digests, some of them twice."""
    numbers = rng.integers(0, 2**62, len(table))
    copies = rng.random(len(table)) < COPIES
    numbers[copies] = numbers[rng.integers(0, len(table), int(copies.sum()))]
    return table.with_columns({"digest": pl.Series(numbers).cast(pl.String).str.pad_start(64, "0")})


def edited(table: ImageTable) -> ImageTable:
    """Another version of it."""
    label = table.label_array().copy()
    label[::100] = (label[::100] + 1) % CLASSES
    return table.with_columns({"label": label}).select(np.arange(len(table)) % 1000 != 500)


def operations(source: Path) -> None:
    """Every step in turn."""
    rng = np.random.Generator(np.random.Philox(key=2))
    table = timed("read the CSV file", lambda: images(source))
    timed("digest of names, classes and splits", lambda: table.listing_digest)
    timed("groups from names", lambda: with_group(table, r"lot_(\d+)"))
    whole = scanned(table, rng)
    timed("digest of contents and classes", lambda: whole.content_digest)
    timed("what belongs together", lambda: units(whole))
    divided = timed("split by groups and copies", lambda: split(whole, val=0.15, test=0.15, seed=0))
    assert not timed("leaks of that split", lambda: check_leaks(divided))
    timed("split file written", lambda: save_split(divided, source.parent / "a.csv"))
    save_split(edited(divided), source.parent / "b.csv")
    a = timed("split file read", lambda: diff.side(source.parent / "a.csv"))
    b = timed("the other one read", lambda: diff.side(source.parent / "b.csv"))
    found = timed("difference of the two", lambda: diff.compare(a, b))
    timed("its report", lambda: diff.report(found))
    print(f"    {found.counts()}")
    loose = whole.with_columns(
        {"split": pl.Series(np.asarray(SPLITS, object)[rng.integers(0, 3, len(whole))].tolist())}
    )
    leaks = timed("leaks of a split drawn row by row", lambda: check_leaks(loose))
    print("    " + "; ".join(one.message for one in leaks))
    timed("rows that are judged and leak", lambda: leaked_rows(loose))


def _peak_gb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as scratch:
        source = timed(f"draw {rows:,} rows", lambda: draw(Path(scratch), rows))
        operations(source)


if __name__ == "__main__":
    main()
