"""What was drawn, as a Report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sortal.core.report import Metric, Report, Table
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.options import SynthOptions


def draw_report(out: Path, options: SynthOptions, *, progress: Callable[[int, int], None] | None = None) -> Report:
    """Draw the data set (see `synthesize`) and report counts, files and the digest of all pictures."""
    result = synthesize(out, options, progress=progress)
    counts = tuple(result.counts.items())
    return Report(
        kind="synthesis",
        subject=str(out),
        data_digest=result.digest,
        metrics={"images": Metric(value=float(result.images)), "classes": Metric(value=float(len(counts)))},
        tables={"classes": Table(columns=("class", "images"), rows=counts)},
        paths={"images": str(result.path), "truth": str(result.path / "truth.csv")} | _marks(result.path, options),
        provenance={"options": options.content(), "new_classes": list(result.new_classes)},
    )


def _marks(folder: Path, options: SynthOptions) -> dict[str, str]:
    return {"marks": str(folder / "marks.csv")} if options.on_sheets else {}
