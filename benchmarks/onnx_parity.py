"""A bundle's artifact against its live module on real images: does any decision differ, and how close was the closest?

    python benchmarks/onnx_parity.py RUN_OR_BUNDLE [...] --images FOLDER [--count 500] [--seed 0]

Draws `--count` images from the folder (any source that `sortal predict` takes), prepares them once, and runs the live
torch module, ONNX Runtime and OpenVINO on the same pixels. Prints for each engine: flips, the largest difference of a
logit and of a probability, the smallest margin between the two best classes, milliseconds an image (batch 32), and the
size of the files. Ends with 1 where a decision differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import MissingExtraError
from sortal.core.preprocess import Pixels
from sortal.data.open import images
from sortal.export.parity import Side, check_parity, is_equal
from sortal.export.sides import file_side, module_side
from sortal.models.backbones import load_network
from sortal.runtime.feed import prepared_batches
from sortal.runtime.sources import items_of
from sortal.runtime.threads import allowed_cpus


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    verdicts = [compare(path, options.images, options.count, options.seed) for path in options.bundles]
    return 0 if all(verdicts) else 1


def compare(path: Path, source: Path, count: int, seed: int) -> bool:
    """Compare one bundle's engines with its live module. Returns whether all of them answer alike."""
    bundle = open_bundle(path / "bundle" if (path / "bundle").is_dir() else path)
    if bundle.weights_path is None:
        raise SystemExit(f"{path}: this copy of the bundle has no weights, so there is no live module to compare with")
    names, pixels = draw(bundle, source, count, seed)
    live = module_side(load_network(bundle.manifest.model, bundle.weights_path), bundle.labels, bundle.preprocess)
    model = bundle.artifact("onnx") / "model.onnx"
    size = " x ".join(str(side) for side in bundle.preprocess.size)
    print(
        f"{path}: {bundle.manifest.model.architecture}, {len(bundle.labels)} classes, {len(pixels)} images, {size} px"
    )
    print(f"  weights {mb(bundle.weights_path)}, model.onnx {mb(model)}")
    print(f"  {'live module':<12} {milliseconds(live, pixels):6.1f} ms an image")
    verdicts = [one_engine(engine, model, live, pixels, names, bundle) for engine in ("onnxruntime", "openvino")]
    return all(verdicts)


def one_engine(engine: str, model: Path, live: Side, pixels: Pixels, names: list[str], bundle: Bundle) -> bool:
    """Print one engine's line and return whether it answers as the live module."""
    try:
        side = file_side(model, engine=engine)
    except MissingExtraError as error:
        print(f"  {engine:<12} not installed: {error.hint}")
        return True
    report = check_parity(live, side, pixels, decision=bundle.decision, names=names)
    value = {name: metric.value for name, metric in report.metrics.items()}
    print(
        f"  {engine:<12} {milliseconds(side, pixels):6.1f} ms an image  flips {value['flips']:.0f} of {len(pixels)}"
        f"  smallest margin {value['smallest_margin']:.3g}"
        f"  largest difference: logit {value['max_logit_difference']:.2g},"
        f" probability {value['max_probability_difference']:.2g}"
    )
    for finding in report.findings:
        print(f"    {finding.severity}: {finding.message}")
    return is_equal(report) and value["flips"] == 0


def draw(bundle: Bundle, source: Path, count: int, seed: int) -> tuple[list[str], Pixels]:
    """`count` images of the source, drawn without repetition, prepared by the reference."""
    table = images(source)
    rows = np.random.Generator(np.random.Philox(key=seed)).permutation(len(table))[:count]
    items = items_of(table.select(np.sort(rows)))
    parts = list(prepared_batches(items, bundle.preprocess, batch=32, workers=allowed_cpus()))
    names = [items[row].name for part in parts for row in part.rows]
    return names, np.concatenate([part.pixels for part in parts])


def milliseconds(side: Side, pixels: Pixels) -> float:
    """Wall time an image at batch 32 with the CPUs allowed, best of three, normalization left out."""
    from sortal.core.preprocess import normalize

    batch = normalize(side.preprocess, pixels[:32])
    side.run(batch)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        side.run(batch)
        times.append(time.perf_counter() - start)
    return min(times) / len(batch) * 1000


def mb(path: Path) -> str:
    """Size in units of 1,000,000 bytes."""
    return f"{path.stat().st_size / 1e6:.2f} MB"


if __name__ == "__main__":
    sys.exit(main())
