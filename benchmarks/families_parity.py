"""Do artifacts decide as the live network, over families of backbones, on real images?

    python benchmarks/families_parity.py IMAGES --out FOLDER [--families resnet18,...] [--artifacts onnx,...]
                                         [--count 500] [--threads 1]

For each family: a network of random weights whose linear head is fitted on frozen features of the training images
(`sortal train` with `train.epochs=0`, no test split), then every artifact that can be made and run here, through the
gate of `sortal export` with the live torch module as the original and `--count` of the run's own images, those of
validation first. What cannot be made is told with its reason. Finished families and artifacts are kept in FOLDER and
not computed again, so that the whole may be stopped and taken up. Prints a Markdown table of all that is there and ends
with 1 where a float32 artifact flips a decision beyond epsilon.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sortal
from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import SortalError
from sortal.core.run import open_run
from sortal.export.artifacts import ARTIFACTS
from sortal.export.conversion import convert_apart
from sortal.export.gate import check_artifact
from sortal.export.images import images_to_check
from sortal.export.parity import Run, Side
from sortal.export.sides import file_side, module_side
from sortal.models.backbones import load_network
from sortal.runtime.engines.opening import is_installed
from sortal.runtime.network_input import NetworkInput

FAMILIES = {
    "resnet18": 128,
    "resnet50": 128,
    "mobilenetv3_large_100": 128,
    "efficientnet_b0": 128,
    "convnext_tiny": 128,
    "vit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
}
"""timm's name and the side of its input in pixels: 224 where the architecture asks for it."""

COLUMNS = ("family", "artifact", "precision", "ε", "images", "flips over ε", "within", "flip rate", "smallest margin",
           "largest difference", "decisions inside", "MB", "verdict")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--artifacts", default=",".join(runnable()))
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for family in options.families.split(","):
        run = fitted(family, options.images, options.out)
        rows += compared(run, options.artifacts.split(","), options.out / "results", options.count, options.threads)
    print(table(rows))
    failed = [row for row in rows if row["precision"] == "float32" and row["verdict"] != "equal"]
    return 1 if failed else 0


def runnable() -> list[str]:
    """Artifacts whose engine is installed here, those for other programs left out."""
    members = {name: ARTIFACTS.get(name).DETAILS for name in ARTIFACTS.table}
    return [name for name, details in members.items() if "for" not in details and is_installed(details["engine"])]


def fitted(family: str, images: Path, out: Path) -> Path:
    """The run folder of a family; trained unless it is there."""
    home = out / "runs" / family
    if not (home / "bundle" / "artifacts" / "onnx").is_dir():
        shutil.rmtree(out / "making", ignore_errors=True)
        settings = {
            "model": family,
            "model.weights": str(random_weights(family, out / "weights")),
            "train.epochs": 0,
            "input.size": FAMILIES.get(family, 128),
            "input.resize": "crop",
            "input.crop": 1.0,
            "data.split.val": 0.4,
            "data.split.test": 0.0,
            "model.pooling": "mean",
        }
        print(f"{family}: fitting the head", file=sys.stderr, flush=True)
        made = sortal.train(images, overrides=settings, out=out / "making")
        home.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(made.path), home)
    return home


def random_weights(family: str, folder: Path) -> Path:
    """A file with the weights that timm begins with, always the same."""
    import timm
    import torch
    from safetensors.torch import save_file

    path = folder / f"{family}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        save_file(timm.create_model(family, pretrained=False).state_dict(), path)
    return path


def compared(run: Path, names: Sequence[str], results: Path, count: int, threads: int) -> list[dict[str, Any]]:
    """One row an artifact, computed or as it was kept."""
    rows, original = [], None
    for name in names:
        kept = results / run.name / f"{name}.json"
        if not kept.is_file():
            bundle = open_bundle(run / "bundle")
            original = original or live(bundle, threads)
            print(f"{run.name}: {name}", file=sys.stderr, flush=True)
            row = one_artifact(run, bundle, name, original, results.parent / "artifacts", count, threads)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
    return rows


def live(bundle: Bundle, threads: int) -> Side:
    """The torch module; unknown scores, which it does not compute, are those of the exported graph."""
    if bundle.weights_path is None:
        raise SystemExit(f"{bundle.path}: this copy of the bundle has no weights")
    module = module_side(load_network(bundle.manifest.model, bundle.weights_path), bundle.labels, bundle.preprocess)
    graph = file_side(bundle.artifact("onnx") / "model.onnx", threads=threads)
    return replace(module, run=remembering(module.run), outputs=graph.outputs)


def remembering(run: Run) -> Run:
    """The same images are shown for every artifact: each batch is run once."""
    known: dict[bytes, NDArray[np.float32]] = {}

    def once(batch: NetworkInput) -> NDArray[np.float32]:
        key = sha256(batch.tobytes()).digest()
        if key not in known:
            known[key] = run(batch)
        return known[key]

    return once


def one_artifact(
    run: Path, bundle: Bundle, name: str, original: Side, out: Path, count: int, threads: int
) -> dict[str, Any]:
    """Make it anew, send the images through, and say how it went."""
    details = ARTIFACTS.get(name).DETAILS
    folder = out / run.name / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    row = {"family": run.name, "artifact": name, "precision": details["precision"]}
    try:
        convert_apart(name, bundle.artifact("onnx") / "model.onnx", folder)
        artifact = file_side(folder / details["model"], engine=details["engine"], threads=threads)
        report = check_artifact(
            original,
            artifact,
            images_to_check(open_run(run), None, count),
            decision=bundle.decision,
            precision=details["precision"],
            epsilon=details.get("epsilon"),
        )
    except SortalError as error:
        return row | {"verdict": f"not made: {error.what}"}
    numbers = {key: metric.value for key, metric in report.metrics.items()}
    errors = [finding for finding in report.findings if finding.severity == "error"]
    serious = sum(len(finding.rows) for finding in errors if finding.code == "decisions_differ")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    shutil.rmtree(folder)
    verdict = "equal" if not errors else f"refused at {report.body['stage']}"
    return row | numbers | {"serious": serious, "epsilon": report.body["epsilon"], "MB": size / 1e6, "verdict": verdict}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *("| " + " | ".join(cells(row)) + " |" for row in rows)])


def cells(row: dict[str, Any]) -> list[str]:
    """One line of the table; what could not be made has its reason only."""
    first = [row["family"], row["artifact"], row["precision"]]
    if "flips" not in row:
        return [*first, *["–"] * (len(COLUMNS) - 4), row["verdict"]]
    say: Callable[[Any], str] = lambda value: "–" if value is None else f"{value:.3g}"  # noqa: E731
    within = row["flips"] - row["serious"]
    numbers = [row["epsilon"], row["images"], row["serious"], within, 100 * row["flip_rate"], row["smallest_margin"]]
    texts = [say(value) for value in [*numbers, row["max_probability_difference"]]]
    texts[4] += " %"
    return [*first, *texts, say(row.get("decision_flips")), f"{row['MB']:.2f}", row["verdict"]]


if __name__ == "__main__":
    if find_spec("torch") is None:
        raise SystemExit("this benchmark needs torch: pip install sortal[train]")
    sys.exit(main())
