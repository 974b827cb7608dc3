"""int8 of one bundle: candidates by every method, judged, timed in turns with float32, and what passes attached.

It can be called for any bundle that has an ONNX artifact: that of a run, a pruned one, one of another input size.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sortal.compress.images import Material
from sortal.compress.judge import answer
from sortal.compress.report import Judged, Outcome, compression_report
from sortal.compress.search import Budget, Candidate, Found, Search
from sortal.compress.ship import MODEL, ORIGINAL, ship
from sortal.compress.speed import interleaved_ms, is_faster, time_ratio
from sortal.core.bundle import Bundle
from sortal.core.preprocess import normalize
from sortal.core.progress import Listener
from sortal.core.publish import disk_errors
from sortal.core.recipe import Recipe
from sortal.core.run import RunFolder
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.threads import allowed_cpus


def quantized_artifacts(
    bundle: Bundle,
    run: RunFolder | None,
    material: Material,
    *,
    recipe: Recipe,
    out: Path | None,
    listener: Listener,
) -> Outcome:
    """Make int8 of `bundle` as `recipe.compress` and the contract allow, and attach it to the bundle, or to a new one
    at `out` that names it as its parent.

    `material` has been prepared for this bundle (`images.gather_images`); `run` is where it was trained, if that is
    known. The outcome tells what was tried; `attached` is empty where nothing passed, and then nothing was written.
    Raises BundleError where the bundle was altered or its graph cannot be quantized, MachineError for a full disk.
    """
    original = bundle.artifact(ORIGINAL) / MODEL
    budget = Budget(max_drop=recipe.compress.max_drop, contract=recipe.contract or bundle.contract)
    with TemporaryDirectory(prefix="sortal-") as folder:
        with disk_errors(Path(folder)):
            outcome = _searched(bundle, material, original, budget, Path(folder), listener)
        return replace(outcome, attached=ship(outcome, compression_report(outcome, bundle.path.name), out))


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
    return Outcome(
        bundle=bundle,
        material=material,
        original=answers,
        original_bytes=original.stat().st_size,
        original_ms=plain_ms,
        found=found,
        judged=tuple(judged),
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
