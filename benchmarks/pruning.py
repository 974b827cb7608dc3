"""What pruning costs and gains for a finished run: each cut against the network as it was, on validation images.

    python benchmarks/pruning.py runs/datas-1 --settings compress.prune=0.5 [--test]

The run is copied first, so that the original stays as it is. Prints one Markdown row for every step. Times are CPU
time of one image on one thread, all steps in turns; measure on a machine that does nothing else. `--test` reads the
run's test list once, at the very end, with the network as it was and with the one that was taken.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sortal.api import compare, compress
from sortal.cli.output import listener
from sortal.compress.images import divided_images
from sortal.core.bundle import open_bundle
from sortal.core.report import Report
from sortal.core.run import open_run

COLUMNS = (
    "run",
    "step",
    "parameters",
    "multiplications",
    "size, MB",
    "accuracy",
    "drop, points",
    "macro",
    "time",
    "verdict",
)


def rows_of(report: Report) -> list[dict[str, Any]]:
    table = report.tables["candidates"]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def line(name: str, row: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    low, high = row["drop_points_low"], row["drop_points_high"]
    cells = (
        name,
        row["candidate"],
        f"{row['parameters']:,}" if row["parameters"] else "",
        f"{row['macs_m']:.1f} M" if row["macs_m"] else "",
        f"{row['size_mb']:.2f}",
        f"{100 * row['accuracy']:.1f} %",
        f"{row['drop_points']:.2f}" + ("" if low is None else f" ({low:.1f} to {high:.1f})"),
        f"{row['macro_drop_points']:.2f}",
        f"{row['time_ratio']:.3f} ({row['cpu_ms']:.2f} ms)",
        row["verdict"],
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--settings", nargs="*", default=["compress.prune=0.5"])
    parser.add_argument("--test", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="sortal-") as folder:
        copy = Path(folder) / given.run.name
        shutil.copytree(given.run, copy)
        report = compress(copy, settings=given.settings, listener=listener())
        print("| " + " | ".join(COLUMNS) + " |")
        print("|" + "---|" * len(COLUMNS))
        for row in rows_of(report):
            print(line(given.run.name, row), flush=True)
        for sentence in report.body["summary"]:
            print(f"\n{sentence}")
        if given.test and "bundle" in report.paths:
            table, _ = divided_images(open_bundle(copy / "bundle"), open_run(copy), None, listener=listener())
            test = table.select(table.split_rows("test"))
            compared = compare([copy, report.paths["bundle"]], test, out=Path(folder) / "compared", latency=False)
            print("\nTest list, read once:\n\n" + compared.to_markdown())


if __name__ == "__main__":
    main()
