"""The story of `sortal compress`: an int8 within a budget of accuracy and faster than float32, or none and why.

The bundle's own float32 artifact is where it starts; nothing of it is changed. What passes is attached beside it, or
goes into a new bundle that names it as its parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sortal.compress.images import gather_images
from sortal.compress.int8 import quantized_artifacts
from sortal.compress.picture import draw_candidates
from sortal.compress.report import compression_report
from sortal.compress.ship import ORIGINAL
from sortal.core.bundle import Bundle
from sortal.core.contract import check_classes
from sortal.core.errors import BundleError, InputError
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.report import Report
from sortal.core.run import RunFolder, new_run
from sortal.data.table import ImageTable
from sortal.evaluate.compare.sides import bundle_of, run_of
from sortal.evaluate.pages.write import write_report


def compress_model(
    where: Path,
    source: str | Path | Sequence[str | Path] | ImageTable | None,
    *,
    recipe: Recipe,
    out: Path | None,
    listener: Listener,
) -> Report:
    """Make int8 of the run or bundle `where`, as `recipe.compress` and its contract allow.

    Images are the run's own unless `source` is given. Writes a report folder; attaches `onnx-int8`, and
    `openvino-int8` where OpenVINO is installed and faster with it, to the bundle or, with `out`, to a new one there.
    Raises InputError for a wrong wish or images, BundleError where the bundle was altered or has no ONNX artifact.
    """
    bundle, run = _opened(where, recipe, out)
    if recipe.compress.frontier:
        from sortal.compress.frontier.study import explore_frontier  # loads torch

        return explore_frontier(bundle, run, source, name=where.name, recipe=recipe, out=out, listener=listener)
    material = gather_images(bundle, run, source, count=recipe.compress.calibration_images, listener=listener)
    if recipe.compress.prune > 0:
        from sortal.compress.prune.study import prune_model  # loads torch

        return prune_model(bundle, run, material, name=where.name, recipe=recipe, out=out, listener=listener)
    outcome = quantized_artifacts(bundle, run, material, recipe=recipe, out=out, listener=listener)
    report = compression_report(outcome, where.name)
    paths = {name: str(path) for name, path in outcome.attached.items()}
    report = report.model_copy(update={"paths": paths})
    with _folder(run, where.name) as pages:
        return _written(report, pages)


def _opened(where: Path, recipe: Recipe, out: Path | None) -> tuple[Bundle, RunFolder | None]:
    if not (recipe.compress.int8 or recipe.compress.frontier or recipe.compress.prune > 0):
        hint = "sortal compress RUN compress.int8=true, or compress.prune=0.3"
        raise InputError("nothing was asked for", hint=hint)
    bundle = bundle_of(where)
    if bundle is None:
        raise BundleError("neither a run nor a bundle", where=str(where), hint="give a folder such as runs/photos-1")
    if ORIGINAL not in bundle.artifacts():
        hint = "train with export.artifacts=[onnx]"
        raise BundleError("int8 is made from the ONNX artifact, and there is none", where=str(bundle.path), hint=hint)
    if out is not None and out.exists():
        raise InputError("something is here already", where=str(out), hint="name a folder that does not exist")
    if recipe.contract is not None:
        check_classes(recipe.contract, bundle.labels.names, where="contract")
    return bundle, run_of(where)


def _written(report: Report, folder: Path) -> Report:
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw_candidates(report, folder / "candidates.png")
    report = report.model_copy(update={"paths": {**report.paths, "picture": str(picture)}})
    return write_report(report, folder, {"accuracy, time and size of every candidate": picture})


@contextmanager
def _folder(run: RunFolder | None, name: str) -> Iterator[Path]:
    root = Path("compressions") if run is None else run.path / "compressions"
    with new_run(root, name) as numbered:
        yield numbered.path
