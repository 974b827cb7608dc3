"""int8 of one bundle: candidates by every method, judged, timed in turns with float32, and what passes attached.

It can be called for any bundle that has an ONNX artifact: that of a run, a pruned one, one of another input size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from sortal.compress.fused_form import fused_form, rounded_layers, zero_points
from sortal.compress.images import Material, further_images
from sortal.compress.judge import answer
from sortal.compress.outside import outside_candidates
from sortal.compress.pricing import TENSORRT, Answered, Budget, Candidate, Pricing
from sortal.compress.report import Outcome, compression_report
from sortal.compress.search import Found, Search
from sortal.compress.ship import MODEL, ORIGINAL, ship
from sortal.compress.verdict import Timed, may_gain, timed, verdicts
from sortal.core.bundle import Bundle
from sortal.core.errors import InternalError
from sortal.core.preprocess import normalize
from sortal.core.progress import Listener
from sortal.core.publish import disk_errors
from sortal.core.recipe import Recipe
from sortal.core.run import RunFolder
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.threads import allowed_cpus

_ENGINES = ("onnxruntime", "openvino")


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What one compression works with."""

    search: Search
    original: Path
    recipe: Recipe
    folder: Path
    listener: Listener

    @property
    def pricing(self) -> Pricing:
        return self.search.pricing


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

    `material` has been prepared for this bundle (`images.gather_images`); the report is called after `run`, where the
    bundle was trained, if that is known. The outcome tells what was tried; `attached` is
    empty where nothing passed, and then nothing was written. Raises BundleError where the bundle was altered or its
    graph cannot be quantized, MachineError for a full disk.
    """
    original = bundle.artifact(ORIGINAL) / MODEL
    budget = Budget(max_drop=recipe.compress.max_drop, contract=recipe.contract or bundle.contract)
    with TemporaryDirectory(prefix="sortal-") as work:
        folder = Path(work)
        with disk_errors(folder):
            pricing = _pricing(bundle, material, original, budget, listener)
            bits = recipe.compress.weight_bits
            search = Search(original, pricing, folder=folder, listener=listener, weight_bits=bits)
            bench = _Bench(search=search, original=original, recipe=recipe, folder=folder, listener=listener)
            outcome = _judged(bench)
        name = (bundle.path if run is None else run.path).name
        return replace(outcome, attached=ship(outcome, compression_report(outcome, name), out))


def _pricing(bundle: Bundle, material: Material, original: Path, budget: Budget, listener: Listener) -> Pricing:
    further = further_images(material, bundle.preprocess, listener)
    more = 0 if further is None else len(further.labels)
    listener.say(f"float32 answers {len(material.judged.labels):,} validation images and {more:,} training images")
    engine: Engine = ENGINES.get("onnxruntime").open(original, threads=allowed_cpus())
    try:
        answers = answer(engine, bundle, material.judged)
        agreed = None if further is None else Answered(images=further, original=answer(engine, bundle, further))
    finally:
        engine.close()
    return Pricing(
        bundle=bundle,
        material=material,
        original=answers,
        size_bytes=original.stat().st_size,
        budget=budget,
        further=agreed,
    )


def _judged(bench: _Bench) -> Outcome:
    """Everything that is made without training; training where that is asked for or may help; the verdicts."""
    found = bench.search.run()
    candidates = list(found.candidates)
    if bench.recipe.compress.method == "all" and bench.recipe.compress.weight_bits != 7:
        candidates += outside_candidates(bench.original, bench.search, bench.folder, bench.listener)
    if find_spec("openvino") is not None:
        candidates += [bench.search.fused(one) for one in found.forms]
    if bench.recipe.compress.tensorrt:
        candidates.append(_for_tensorrt(bench, found))
    measured, plain_ms = _timed(bench, candidates)
    budget, wished = bench.pricing.budget, bench.recipe.compress.qat
    if wished is True or (wished == "auto" and may_gain(measured, budget)):
        measured += _timed(bench, _trained(bench, found.best))[0]
    return Outcome(
        bundle=bench.pricing.bundle,
        material=bench.pricing.material,
        original=bench.pricing.original,
        original_bytes=bench.pricing.size_bytes,
        original_ms=plain_ms,
        found=found,
        judged=tuple(verdicts(measured, budget)),
        budget=budget,
    )


def _trained(bench: _Bench, start: Candidate) -> list[Candidate]:
    """The candidate `start` after training with its rounding, for each engine here."""
    from sortal.compress.qat import train_rounded  # loads torch

    bench.listener.say("training with rounded weights and activations")
    made = train_rounded(
        bench.search, start, bench.original, bench.folder, recipe=bench.recipe, listener=bench.listener
    )
    name = f"trained {bench.recipe.compress.qat_epochs} epochs, {start.name}"
    one = bench.search.candidate(made, name, method="QAT", ranges=start.ranges, narrow=start.narrow)
    return [one, *([bench.search.fused(one)] if find_spec("openvino") is not None else [])]


def _for_tensorrt(bench: _Bench, found: Found) -> Candidate:
    """All layers in integers and symmetric activations, as TensorRT takes them; run by ONNX Runtime for the verdict."""
    start = found.best
    made = fused_form(bench.search.graph_of(start, symmetric=True))
    left = [name for name, rounded in rounded_layers(made).items() if not rounded]
    uneven = [name for name, zero in zero_points(made).items() if zero]
    if left or uneven:
        raise InternalError("not every layer is in symmetric integers", received=", ".join([*left, *uneven][:5]))
    one = bench.search.candidate(made, f"symmetric {start.name}", method="PTQ", ranges=start.ranges)
    return replace(one, target=TENSORRT)


def _timed(bench: _Bench, candidates: Sequence[Candidate]) -> tuple[list[Timed], dict[str, float]]:
    """All candidates in turns with float32, engine by engine; and float32's own medians."""
    bench.listener.say("timing all in turns")
    image = normalize(bench.pricing.bundle.preprocess, bench.pricing.material.judged.pixels[:1])
    measured, plain_ms = list[Timed](), dict[str, float]()
    for engine in _ENGINES:
        mine = [one for one in candidates if one.engine == engine]
        if mine:
            times, plain_ms[engine] = timed(mine, bench.original, engine, image)
            measured += times
    return measured, plain_ms
