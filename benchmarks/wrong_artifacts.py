"""Are artifacts that are wrong in a known way refused, every time and with the right stage named?

    python benchmarks/wrong_artifacts.py RUN_OR_BUNDLE [...] [--images FOLDER] [--count 32] [--only TEXT]

Makes every fault of `tests/wrong.py` from the exported graph of each bundle and sends the run's own images (validation
first; or those of a folder), one of them turned on its side by EXIF, through the gate of `sortal export`. The right
graph and the artifacts that take pixels go through as well and have to pass. Prints a Markdown table and ends with 1
where anything was let through, stopped at another stage, or stopped without reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from sortal.core.bundle import open_bundle
from sortal.core.errors import SortalError
from sortal.core.report import Report
from sortal.core.run import open_run
from sortal.export.artifacts import ARTIFACTS
from sortal.export.gate import check_artifact
from sortal.export.images import images_to_check
from sortal.export.sides import file_side
from sortal.runtime.sources import Item
from wrong import FAULTS, Pair, turned

RIGHT = ("onnx", "onnx-uint8", "onnx-uint8-nchw", "onnx-resize", "openvino", "openvino-uint8", "openvino-resize")
NOTHING = "passes"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print("| run | artifact | to be | is | images that show it | said |\n|---|---|---|---|---|---|")
    verdicts = []
    for path in options.bundles:
        images = shown(path, options.images, options.count)
        for name, (expected, make) in cases().items():
            if options.only in name:
                verdicts.append(one(path, name, expected, make, images))
    print(f"\n{sum(verdicts)} of {len(verdicts)} as they have to be")
    return 0 if all(verdicts) else 1


def cases() -> dict[str, tuple[str, Callable[[Path, Path], Pair]]]:
    """Name -> (the stage that has to be named or `passes`, how to make it)."""
    wrong = {name: (fault.stage, fault.make) for name, fault in FAULTS.items()}
    return {f"right: {name}": (NOTHING, right(name)) for name in RIGHT} | wrong


def right(name: str) -> Callable[[Path, Path], Pair]:
    """An artifact as `sortal export` makes it."""

    def make(graph: Path, folder: Path) -> Pair:
        member = ARTIFACTS.get(name)
        member.convert(graph, folder)
        artifact = file_side(folder / member.DETAILS["model"], engine=member.DETAILS["engine"], threads=1)
        decision = open_bundle(graph.parents[2]).decision
        return Pair(original=file_side(graph, threads=1), artifact=artifact, decision=decision)

    return make


def shown(path: Path, given: Path | None, count: int) -> list[Item]:
    """The images, and the first of them lying on its side."""
    run = open_run(path) if (path / "split.csv").is_file() else None
    items = list(images_to_check(run, given, count))
    return [*items, turned(items[0])]


def one(path: Path, name: str, expected: str, make: Callable[[Path, Path], Pair], images: list[Item]) -> bool:
    """Print one line; whether it is as it has to be."""
    bundle = open_bundle(path / "bundle" if (path / "bundle").is_dir() else path)
    with TemporaryDirectory(prefix="sortal-wrong-") as folder:
        try:
            pair = make(bundle.artifact("onnx") / "model.onnx", Path(folder))
            report = check_artifact(
                pair.original, pair.artifact, images, decision=pair.decision, precision=pair.precision
            )
            found, rows, said = verdict(report)
        except SortalError as error:
            found, rows, said = "error", 0, error.what
    print(f"| {path.name} | {name} | {expected} | {found} | {rows} | {said[:110]} |", flush=True)
    return found == expected


def verdict(report: Report) -> tuple[str, int, str]:
    """(stage or `passes`, images that show it, in words)."""
    stage = report.body["stage"]
    if stage is None:
        numbers = report.metrics
        gap = numbers["max_probability_difference"].value
        return NOTHING, 0, f"{numbers['flips'].value:.0f} flips, largest difference {gap:.2g}"
    first = report.findings[0]
    return stage, len(first.rows), first.message.partition(": ")[2].replace("|", "/")


if __name__ == "__main__":
    sys.exit(main())
