"""The survey and every check at scale: `python benchmarks/audit_scale.py [--images 100000] [--rows 1000000]`.

Draws 240 parts in 12 classes, and from each as many different small JPEG files (128 px, about 4 KB) as it takes: crops,
brightness, mirror images. Surveys them, runs all checks (without features), surveys again from the cache, and prints
seconds, images a second and the peak memory of this process, whose limit is 2 GB. Then table operations on a synthetic
table of `--rows` rows, and the checks of single images on a synthetic survey of as many. Everything is written into a
temporary folder and removed; `--folder` keeps the images, and takes them from there the next time.

`--command` runs `sortal audit IMAGES` instead, as a person would: its progress, CPU seconds, the peak memory of its
process and of all that it starts (sampled), and the size of its page, whose limit is 15 MB. Words after it are passed
on (`--command --features none`).
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from sortal.core.labels import LabelSet
from sortal.data.checks import CHECKS
from sortal.data.checks.material import Material
from sortal.data.look_measure import TINY_PX
from sortal.data.open import images
from sortal.data.scan import duplicate_findings
from sortal.data.survey import COLUMNS, HASH_BYTES, Survey, survey
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.options import SynthOptions
from sortal.data.table import build_table

LIMIT_GB, LIMIT_PAGE_MB, SIDE, CLASSES, PARTS = 2.0, 15.0, 128, 12, 240
SINGLE = ("readable", "exposure", "blur", "information", "shape", "storage", "privacy")


@contextmanager
def timed(what: str, items: int) -> Iterator[None]:
    """Print the seconds of what follows, and how many items a second."""
    start, cpu = time.perf_counter(), time.process_time()
    yield
    took = max(1e-9, time.perf_counter() - start)
    print(
        f"{what:34}{took:9.2f} s {time.process_time() - cpu:9.2f} s CPU {items / took:12,.0f} /s {_peak_gb():7.2f} GB",
        flush=True,
    )


def draw(folder: Path, count: int) -> None:
    """`count` JPEG files of SIDE px in a folder for each class."""
    drawn = folder / "drawn"
    synthesize(drawn, SynthOptions(classes=CLASSES, images=PARTS, size_px=192, seed=1, workers=1))
    parts = sorted(drawn.glob("*/*.jpg"))
    sources = [(path.parent.name, Image.open(path).convert("RGB")) for path in parts]
    rng = np.random.Generator(np.random.Philox(key=2))
    for name in {name for name, _ in sources}:
        (folder / "images" / name).mkdir(parents=True)
    for number in range(count):
        name, source = sources[number % len(sources)]
        (folder / "images" / name / f"{number:07}.jpg").write_bytes(_varied(source, rng))
    shutil.rmtree(drawn)


def _varied(source: Image.Image, rng: np.random.Generator) -> bytes:
    side = int(rng.integers(SIDE, 193))
    left, top = (int(rng.integers(0, 193 - side)) for _ in range(2))
    image = source.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    factor = rng.uniform(0.7, 1.2)
    stream = io.BytesIO()
    image.point(lambda level: level * factor).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def audit(folder: Path, count: int) -> None:
    """Survey and checks, and the survey again."""
    with timed("find", count):
        table = images(folder)
    with timed("survey", count):
        scanned, found = survey(table)
    with timed("survey from the cache", count):
        again = survey(table)[1]
    assert again.frame.equals(found.frame)
    material = Material(table=scanned, survey=found)
    for name in CHECKS.names():
        with timed(f"check {name}", count):
            outcome = CHECKS.get(name).check(material)
        codes = outcome.issues["code"].value_counts(sort=True).rows()
        print("    ", [found.code for found in outcome.findings], codes[:4])


def command(folder: Path, out: Path, words: list[str]) -> bool:
    """Run the whole command; whether it stayed within its limits."""
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen([sys.executable, "-m", "sortal", "audit", str(folder), "--out", str(out), *words])
    while process.poll() is None:
        peak = max(peak, sum(map(_resident_gb, _tree(process.pid))))
        time.sleep(0.1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    page = (out / "report.html").stat().st_size / 1e6
    cpu, wall = used.ru_utime + used.ru_stime, time.perf_counter() - start
    print(f"exit {process.returncode}, {cpu:.0f} s CPU, {wall:.0f} s, peak {peak:.2f} GB, page {page:.1f} MB")
    return peak <= LIMIT_GB and page <= LIMIT_PAGE_MB


def _tree(process: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = [file.read_text().split() for file in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return []
    return [process, *(one for part in children for child in part for one in _tree(int(child)))]


def _resident_gb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmRSS")), 0.0)


def operations(rows: int) -> None:
    """What is done to a table of a million rows, and the checks that need no pixels."""
    rng = np.random.Generator(np.random.Philox(key=3))
    numbers = pl.Series("n", np.arange(rows))
    label = rng.integers(0, 50, rows)
    frame = pl.DataFrame({"n": numbers, "label": label}).select(
        uri=pl.format("class {}/lot_{}/{}.jpg", "label", pl.col("n") // 20, "n"), label=pl.col("label")
    )
    labels = LabelSet(names=tuple(f"class {index}" for index in range(50)))
    with timed("build_table", rows):
        table = build_table(frame, labels=labels, source="synthetic", root=Path("/"))
    digests = pl.Series(rng.integers(0, 2**62, rows)).cast(pl.String).str.pad_start(64, "0")
    steps: dict[str, Callable[[], object]] = {
        "names": table.name_series,
        "listing_digest": lambda: table.listing_digest,
        "select half": lambda: table.select(np.arange(0, rows, 2)),
        "with_columns": lambda: table.with_columns({"digest": digests}),
        "content_digest": lambda: table.with_columns({"digest": digests}).content_digest,
        "duplicate_findings": lambda: duplicate_findings(table.with_columns({"digest": digests})),
        "reject half": lambda: table.reject(np.arange(rows) % 2 == 0, ["c"] * (rows // 2), ["r"] * (rows // 2)),
    }
    for name, step in steps.items():
        with timed(name, rows):
            step()
    material = Material(table=table, survey=_synthetic(rows, rng))
    for name in SINGLE:
        with timed(f"check {name}", rows):
            CHECKS.get(name).check(material)


def _synthetic(rows: int, rng: np.random.Generator) -> Survey:
    floats = {name: rng.uniform(0.3, 0.8, rows) for name, kind in COLUMNS.items() if kind == pl.Float64}
    fixed = {"suffix": "JPEG", "format": "JPEG", "mode": "RGB", "frames": 1, "orientation": 1, "gps": False}
    frame = pl.DataFrame(floats).with_columns(pl.lit(value).alias(name) for name, value in fixed.items())
    sizes = {name: rng.integers(100, 500, rows) for name in ("bytes", "width", "height")}
    frame = frame.with_columns(pl.Series(name, values) for name, values in sizes.items())
    missing = [pl.lit(None, dtype=kind).alias(name) for name, kind in COLUMNS.items() if name not in frame.columns]
    frame = frame.with_columns(missing).with_columns(pl.col("personal").fill_null(value=False))
    empty = np.zeros((rows, 1), np.uint8)
    tiny = np.broadcast_to(empty[:, None, None], (rows, TINY_PX, TINY_PX, 3))
    made = Survey(frame=frame.select(list(COLUMNS)), hashes=np.broadcast_to(empty, (rows, HASH_BYTES)), tiny=tiny)
    return replace(made, frame=made.frame.cast(pl.Schema(COLUMNS)))


def _peak_gb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def main() -> int:
    """Print everything; 1 where the audit needed more memory than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SORTAL_CACHE"] = str(Path(scratch, "cache"))
        folder = options.folder or Path(scratch)
        if not (folder / "images").is_dir():
            with timed("draw", options.images):
                draw(folder, options.images)
        if options.command is not None:
            return 0 if command(folder / "images", Path(scratch, "out"), options.command) else 1
        Path("/proc/self/clear_refs").write_text("5")
        audit(folder / "images", options.images)
        peak = _peak_gb()
        size = sum(file.stat().st_size for file in Path(scratch, "cache").rglob("*.pack"))
    print(f"audit of {options.images:,} images: peak {peak:.2f} GB, limit {LIMIT_GB}")
    print(f"cache: {size / options.images:.0f} bytes an image\n")
    operations(options.rows)
    return 1 if peak > LIMIT_GB else 0


if __name__ == "__main__":
    sys.exit(main())
