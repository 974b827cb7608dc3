"""`sortal audit` on a drawn data set with planted faults: what of each kind is found, and what that is not there.

    SORTAL_ZOO=folder-of-weights-cards python benchmarks/planted_faults.py [--images 3000] [--classes 12] [--size 128]

Draws parts, plants 2 % corrupt files (truncated, bit flips, zero bytes), 3 % exact and 3 % near duplicates (encoded
anew, resized, cropped by up to 5 %, brightness, blur), 5 % wrong labels and 10 objects whose pictures are in several
splits, audits the folder through the public API and compares with the truth. Label errors are ranked by the audit's
confidence; one that is not listed counts as never found. Exit 1 where something is not reached.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl

import sortal
from sortal.core.report import Report
from sortal.data.synth.faults import FaultOptions, Truth, plant, read_truth
from sortal.data.synth.options import SynthOptions

LEAKS = ("duplicates_across_splits", "near_duplicates_across_splits", "group_across_splits")
"""What is certain; that pictures look as if taken together is counted apart."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the result."""

    what: str
    planted: int
    found: str
    reach: str
    kept: bool


def main() -> int:
    """Draw, plant, audit, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", default="auto")
    parser.add_argument("--base", type=Path, help="a drawn data set that is there already")
    parser.add_argument("--keep", type=Path, help="where the planted set and the audit stay")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = asked.keep or Path(scratch)
        base = asked.base or _drawn(home / "base", asked)
        planted = home / "planted"
        options = FaultOptions(seed=asked.seed)
        truth = read_truth(planted) if planted.exists() else plant(sortal.images(base), planted, options)
        started_s = time.perf_counter()
        report = sortal.audit(planted, out=home / "audit", features=asked.features)
        seconds = time.perf_counter() - started_s
        rows = compare(truth, pl.read_csv(report.paths["findings"], infer_schema=False), report)
        page_mb = Path(report.paths["report"]).stat().st_size / 1e6
    print(
        f"{truth.images:,} images, features of {report.provenance['features']}, {seconds:.0f} s, page {page_mb:.1f} MB"
    )
    for row in rows:
        verdict = "ok" if row.kept else "MISSED"
        print(f"{row.what:<34} planted {row.planted:>4}   {row.found:<46} {row.reach:<16} {verdict}")
    return 0 if all(row.kept for row in rows) else 1


def compare(truth: Truth, issues: pl.DataFrame, report: Report) -> list[Row]:
    """The table of the result."""
    return [
        _corrupt(truth, issues),
        _exact(truth, issues),
        *_near(truth, issues),
        _groups(truth, issues),
        _labels(truth, issues, judged=report.body["checks"].get("labels", {}).get("judged", 0)),
    ]


def average_precision(ranked: list[bool], planted: int) -> float:
    """Mean over all planted of the precision at the rank where each is found; 0 for those that are not."""
    hits, total = 0, 0.0
    for place, right in enumerate(ranked, start=1):
        if right:
            hits += 1
            total += hits / place
    return total / max(1, planted)


def _drawn(folder: Path, asked: argparse.Namespace) -> Path:
    options = SynthOptions(images=asked.images, classes=asked.classes, size_px=asked.size, seed=asked.seed, workers=0)
    sortal.synthesize(folder, options=options)
    return folder


def _corrupt(truth: Truth, issues: pl.DataFrame) -> Row:
    planted = {one.name for one in truth.of("corrupt")}
    found = set(issues.filter(pl.col("code") == "unreadable")["name"])
    text = f"{_share(planted & found, planted)}, {len(found - planted)} others"
    return Row(what="corrupt files", planted=len(planted), found=text, reach="100 %, none else", kept=found == planted)


def _exact(truth: Truth, issues: pl.DataFrame) -> Row:
    planted = {frozenset((one.name, one.source)) for one in truth.of("exact")}
    found = _pairs(issues, "exact_duplicates")
    text = f"{_share(planted & found, planted)}, {len(found - planted)} false pairs"
    return Row(what="exact duplicates", planted=len(planted), found=text, reach="100 %", kept=found == planted)


def _near(truth: Truth, issues: pl.DataFrame) -> list[Row]:
    """Pictures of one group are near duplicates too: neither asked for here nor false."""
    planted = {frozenset((one.name, one.source)) for one in truth.of("near")}
    groups = {frozenset((a, b)) for group in truth.groups for a in group for b in group if a != b}
    found = _pairs(issues, "near_duplicates")
    false = found - planted - groups
    share = len(planted & found) / len(planted)
    false_share = len(false) / max(1, len(found))
    missed = sorted(one.how for one in truth.of("near") if frozenset((one.name, one.source)) not in found)
    told = _share(planted & found, planted) + (f"; missed: {', '.join(missed)}" if missed else "")
    return [
        Row(what="near duplicates", planted=len(planted), found=told, reach=">= 95 %", kept=share >= 0.95),
        Row(
            what="near duplicates that are none",
            planted=0,
            found=f"{len(false)} of {len(found)} pairs ({false_share:.1%})",
            reach="<= 1 %",
            kept=false_share <= 0.01,
        ),
    ]


def _groups(truth: Truth, issues: pl.DataFrame) -> Row:
    """A group is found where all its pictures are named as leaking, or as taken together across splits."""
    leaking = set(issues.filter(pl.col("code").is_in(LEAKS))["name"])
    taken = set(issues.filter(pl.col("code") == "burst_across_splits")["name"])
    pictures = frozenset().union(*truth.groups)
    whole = sum(group <= leaking for group in truth.groups)
    likely = sum(group <= leaking | taken for group in truth.groups)
    text = (
        f"{whole} certain ({len(leaking - pictures)} other images leak), {likely} with likely ones "
        f"({len(taken - pictures)} other images)"
    )
    total = len(truth.groups)
    return Row(what="groups across splits", planted=total, found=text, reach="100 %", kept=whole == total)


def _labels(truth: Truth, issues: pl.DataFrame, *, judged: int) -> Row:
    planted = {one.name for one in truth.of("wrong_label")}
    listed = issues.filter(pl.col("code") == "label_error").with_columns(pl.col("score").cast(pl.Float64))
    listed = listed.sort("score", descending=True, maintain_order=True)
    right = [name in planted for name in listed["name"]]
    precision = average_precision(right, len(planted))
    corrected = {one.name: one.true_label for one in truth.of("wrong_label")}
    suggested = sum(corrected.get(name) == to for name, to in zip(listed["name"], listed["to"], strict=True))
    text = f"average precision {precision:.3f}; {sum(right)} of {len(right)} listed, {suggested} with the right class"
    return Row(
        what=f"wrong labels ({judged:,} judged)",
        planted=len(planted),
        found=text,
        reach="AP >= 0.80",
        kept=precision >= 0.80,
    )


def _pairs(issues: pl.DataFrame, code: str) -> set[frozenset[str]]:
    found = issues.filter(pl.col("code") == code)
    return {frozenset(pair) for pair in zip(found["name"], found["other"], strict=True)}


def _share(found: set[frozenset[str]] | set[str], planted: set[frozenset[str]] | set[str]) -> str:
    return f"{len(found)} found ({len(found) / max(1, len(planted)):.1%})"


if __name__ == "__main__":
    sys.exit(main())
