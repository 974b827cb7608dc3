"""What int8 costs and gains for finished runs: accuracy on validation with paired intervals, size, time.

    python benchmarks/int8_price.py runs/grocery-1 runs/grocery-mobilenetv2-1 [--settings compress.max_drop=0.5 ...]

Every run is copied first, so that the originals stay as they are. Prints one Markdown row for each candidate that was
shipped, and the best one where none was. Times are CPU time of one image on one thread, in turns with float32 on the
same engine; measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sortal.api import compress
from sortal.core.report import Report

COLUMNS = ("run", "artifact", "method", "images", "accuracy drop, points", "macro", "size", "time", "verdict")


def rows_of(report: Report) -> list[dict[str, Any]]:
    """The candidates that matter: what was shipped, else what came closest by accuracy."""
    table = report.tables["candidates"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    shipped = [row for row in rows if row["verdict"] == "shipped"]
    tried = [row for row in rows if row["method"] != "FP32"]
    return shipped or sorted(tried, key=lambda row: float(row["drop_points"]))[:1]


def line(name: str, row: dict[str, Any], images: int) -> str:
    """One row of the Markdown table."""
    drop = f"{row['drop_points']:.2f} ({row['drop_points_low']:.1f} to {row['drop_points_high']:.1f})"
    cells = (
        name,
        f"{row['candidate']} on {row['engine']}",
        row["method"],
        f"{images:,}",
        drop,
        f"{row['macro_drop_points']:.2f}",
        f"{row['size_ratio']:.3f}",
        f"{row['time_ratio']:.2f} ({row['time_ratio_low']:.2f} to {row['time_ratio_high']:.2f})",
        row["verdict"],
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--settings", nargs="*", default=[])
    given = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for run in given.runs:
        with TemporaryDirectory(prefix="sortal-") as folder:
            copy = Path(folder) / run.name
            shutil.copytree(run, copy)
            report = compress(copy, settings=["compress.int8=true", *given.settings])
            for row in rows_of(report):
                print(line(run.name, row, int(report.body["counts"]["images"])), flush=True)


if __name__ == "__main__":
    main()
