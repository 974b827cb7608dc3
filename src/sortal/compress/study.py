"""The story of `sortal compress`: an int8 within a budget of accuracy and faster than float32, or none and why.

The bundle's own float32 artifact is where it starts; nothing of it is changed. What passes is attached beside it, or
goes into a new bundle that names it as its parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sortal.compress.images import Material, gather_images
from sortal.compress.judge import answer
from sortal.compress.picture import draw_candidates
from sortal.compress.report import Judged, Outcome, compression_report
from sortal.compress.search import Budget, Candidate, Found, Search
from sortal.compress.ship import MODEL, NAMES, ORIGINAL, ship
from sortal.compress.speed import interleaved_ms, is_faster, time_ratio
from sortal.core.bundle import Bundle
from sortal.core.contract import check_classes
from sortal.core.errors import BundleError, InputError
from sortal.core.preprocess import normalize
from sortal.core.progress import Listener
from sortal.core.publish import disk_errors, publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Report
from sortal.core.run import RunFolder, new_run
from sortal.data.table import ImageTable
from sortal.evaluate.compare.sides import bundle_of, run_of
from sortal.evaluate.pages.page import render_page
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.threads import allowed_cpus


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
    original = bundle.artifact(ORIGINAL) / MODEL
    material = gather_images(bundle, run, source, count=recipe.compress.calibration_images, listener=listener)
    budget = Budget(max_drop=recipe.compress.max_drop, contract=recipe.contract or bundle.contract)
    with TemporaryDirectory(prefix="sortal-") as folder:
        with disk_errors(Path(folder)):
            outcome = _searched(bundle, material, original, budget, Path(folder), listener)
        report = compression_report(outcome, where.name)
        paths = {name: str(path) for name, path in ship(outcome, report, out).items()}
    report = report.model_copy(update={"paths": paths})
    with _folder(run, where.name) as pages:
        return _written(report, pages)


def _opened(where: Path, recipe: Recipe, out: Path | None) -> tuple[Bundle, RunFolder | None]:
    if not recipe.compress.int8:
        raise InputError("nothing was asked for", hint="sortal compress RUN compress.int8=true")
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


def _searched(
    bundle: Bundle, material: Material, original: Path, budget: Budget, folder: Path, listener: Listener
) -> Outcome:
    engine: Engine = ENGINES.get("onnxruntime").open(original, threads=allowed_cpus())
    listener.say(f"float32 answers {len(material.judged.labels)} validation images")
    answers = answer(engine, bundle, material.judged)
    engine.close()
    search = Search(original, bundle, material, answers, budget=budget, folder=folder, listener=listener)
    found = search.run()
    judged, plain_ms = _judged(found, search, bundle, material, original, budget, listener)
    shipped = {NAMES[one.engine]: one.candidate.name for one in judged if one.verdict == "shipped"}
    return Outcome(
        bundle=bundle,
        material=material,
        original=answers,
        original_bytes=original.stat().st_size,
        original_ms=plain_ms,
        found=found,
        judged=tuple(judged),
        shipped=shipped,
        budget=budget,
    )


def _judged(
    found: Found,
    search: Search,
    bundle: Bundle,
    material: Material,
    original: Path,
    budget: Budget,
    listener: Listener,
) -> tuple[list[Judged], dict[str, float]]:
    """Every candidate timed in turns with float32, and the chosen one on OpenVINO too, where that is installed."""
    listener.say("timing all in turns")
    image = normalize(bundle.preprocess, material.judged.pixels[:1])
    judged, plain_ms = list[Judged](), dict[str, float]()
    engines = ["onnxruntime", *(["openvino"] if find_spec("openvino") is not None else [])]
    for name in engines:
        timed = list(found.candidates) if name == "onnxruntime" else [one for one in (found.chosen,) if one is not None]
        if not timed:
            continue
        opened = [ENGINES.get(name).open(path, threads=1) for path in (original, *(one.path for one in timed))]
        times = interleaved_ms(opened, image)
        for one in opened:
            one.close()
        plain_ms[name] = float(np.median(times[0]))
        for one, mine in zip(timed, times[1:], strict=True):
            cost = one.price if name == "onnxruntime" else search.price_of(one.path, name)
            ratio = time_ratio(times[0], mine)
            verdict = _verdict(one, found, budget.objection(cost), faster=is_faster(ratio))
            judged.append(
                Judged(candidate=one, engine=name, price=cost, ms=float(np.median(mine)), ratio=ratio, verdict=verdict)
            )
    return judged, plain_ms


def _verdict(one: Candidate, found: Found, objection: str, *, faster: bool) -> str:
    if objection:
        return objection
    if not faster:
        return "not faster than float32 on this machine"
    return "shipped" if one is found.chosen else "fits"


def _written(report: Report, folder: Path) -> Report:
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw_candidates(report, folder / "candidates.png")
    paths = {"report": str(folder / "report.html"), "json": str(folder / "report.json"), "picture": str(picture)}
    report = report.model_copy(update={"paths": {**report.paths, **paths}})
    page = render_page(report, {"accuracy, time and size of every candidate": picture})
    publish_file(folder / "report.html", page.encode())
    publish_file(folder / "report.json", report.to_json().encode())
    return report


@contextmanager
def _folder(run: RunFolder | None, name: str) -> Iterator[Path]:
    root = Path("compressions") if run is None else run.path / "compressions"
    with new_run(root, name) as numbered:
        yield numbered.path
