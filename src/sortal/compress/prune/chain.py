"""The chain of `sortal compress` where channels are cut: prune, train, then int8 of what is left, in one new bundle.

The budget holds for the chain as a whole: what pruning has cost is no longer there for int8.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sortal.compress.images import Material
from sortal.compress.int8 import quantized_artifacts
from sortal.compress.judge import Price, answer, price
from sortal.compress.pricing import Budget
from sortal.compress.prune.ground import ground_of
from sortal.compress.prune.sensitivity import Sensitivity, sensitivity
from sortal.compress.prune.story import Pruned, check_share, pruned
from sortal.compress.prune.teachers import check_teachers
from sortal.compress.report import Outcome
from sortal.compress.speed import interleaved_ms, time_ratio
from sortal.core.bundle import Bundle, open_bundle
from sortal.core.preprocess import normalize
from sortal.core.progress import Listener
from sortal.core.publish import publish_folder
from sortal.core.recipe import Recipe
from sortal.core.report import Metric
from sortal.runtime.engines import ENGINES
from sortal.runtime.locate import locate
from sortal.runtime.threads import allowed_cpus


@dataclass(frozen=True, kw_only=True)
class Link:
    """One cut or step of the chain as it was measured: in turns with, and against, the network as it was."""

    name: str
    method: str
    """`FP32`, or how int8 was made."""
    engine: str
    parameters: int | None
    macs: int | None
    size_bytes: int
    price: Price
    ms: float
    ratio: Metric
    before: float | None
    """Accuracy after the cut, before training."""
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What came out."""

    bundle: Bundle | None
    """The new one; None where no cut kept the budget, and then nothing was written."""
    pruned: Pruned
    sensitivity: Sensitivity
    int8: Outcome | None
    links: tuple[Link, ...]
    material: Material
    budget: Budget

    @property
    def last(self) -> Link:
        """The fastest link that was shipped, else the original."""
        shipped = [link for link in self.links if link.verdict == "shipped"]
        return min(shipped, key=lambda link: link.ms) if shipped else self.links[0]


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A graph that takes part in the timing."""

    path: Path
    engine: str
    name: str
    verdict: str
    size_bytes: int
    price: Price
    parameters: int | None = None
    macs: int | None = None
    before: float | None = None
    method: str = "FP32"


def compress_chain(
    bundle: Bundle, material: Material, *, recipe: Recipe, home: Path, target: Path, listener: Listener
) -> Chain:
    """Prune `bundle`, make int8 of the result where `recipe.compress.int8`, and leave the bundle at `target`.

    `home` is where finished cuts are kept. See `story.pruned` for the errors.
    """
    budget = Budget(max_drop=recipe.compress.max_drop, contract=recipe.contract or bundle.contract)
    check_share(recipe)
    ground, network = ground_of(bundle, material, recipe=recipe, listener=listener)
    check_teachers(recipe, ground.table, bundle.preprocess, listener)
    seen = sensitivity(network, ground, recipe.compress.criterion)
    found = pruned(bundle, material, recipe=recipe, home=home, budget=budget, listener=listener)
    made = int8 = None
    if found.taken:
        taken = found.stage.bundle.path
        publish_folder(target, lambda folder: _copied(taken, folder))
        made = open_bundle(target)
        if recipe.compress.int8:
            int8 = _int8(made, found, material, recipe, listener)
    points = _points(found, int8, made, material, budget)
    return Chain(
        bundle=made,
        pruned=found,
        sensitivity=seen,
        int8=int8,
        links=_timed(points, bundle, material, listener),
        material=material,
        budget=budget,
    )


def _copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _int8(made: Bundle, found: Pruned, material: Material, recipe: Recipe, listener: Listener) -> Outcome:
    """int8 of the pruned bundle, attached to it, with what is left of the budget."""
    cost = found.stage.price
    spent = 0.0 if cost is None else max(0.0, cost.drop)
    left = recipe.compress.model_copy(update={"max_drop": max(0.0, recipe.compress.max_drop - spent)})
    return quantized_artifacts(
        made, None, material, recipe=recipe.model_copy(update={"compress": left}), out=None, listener=listener
    )


def _points(
    found: Pruned, int8: Outcome | None, made: Bundle | None, material: Material, budget: Budget
) -> list[_Point]:
    original, images = found.original, material.judged
    points = []
    for number, stage in enumerate(found.stages):
        cost = stage.price or price(original.answers, stage.answers, images)
        verdict = "shipped" if number == found.taken else stage.objection or "fits"
        points.append(
            _Point(
                path=stage.graph,
                engine="onnxruntime",
                name="the original" if not number else f"{stage.share:.0%} cut",
                verdict=verdict if number else "the original",
                size_bytes=stage.size_bytes,
                price=cost,
                parameters=stage.parameters,
                macs=stage.macs,
                before=stage.before,
            )
        )
    if int8 is None or made is None:
        return points
    if any(name.startswith("openvino") for name in int8.attached):
        points.append(replace(points[0], engine="openvino"))  # its int8 has to be held against it there
    for name, folder in int8.attached.items():
        model = locate(folder).model
        engine = "openvino" if name.startswith("openvino") else "onnxruntime"
        size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".onnx", ".xml", ".bin"))
        cost = _price_of(model, engine, made, found, material, budget, size)
        verdict = budget.objection(cost) or "shipped"
        title = f"{found.stage.share:.0%} cut, {name}"
        method = next(
            one.candidate.method for one in int8.judged if (one.candidate.artifact, one.verdict) == (name, "shipped")
        )
        points.append(
            _Point(path=model, engine=engine, name=title, verdict=verdict, size_bytes=size, price=cost, method=method)
        )
    return points


def _price_of(
    model: Path, engine: str, made: Bundle, found: Pruned, material: Material, budget: Budget, size: int
) -> Price:
    opened = ENGINES.get(engine).open(model, threads=allowed_cpus())
    try:
        answers = answer(opened, made, material.judged)
    finally:
        opened.close()
    original = found.original
    sizes = (original.size_bytes, size)
    return price(original.answers, answers, material.judged, contract=budget.contract, sizes=sizes)


def _timed(points: list[_Point], bundle: Bundle, material: Material, listener: Listener) -> tuple[Link, ...]:
    """CPU time of one image on one thread, all in turns; each is a share of the original's on the same engine."""
    listener.say("timing all in turns")
    image = normalize(bundle.preprocess, material.judged.pixels[:1])
    opened = [ENGINES.get(point.engine).open(point.path, threads=1) for point in points]
    try:
        times = interleaved_ms(opened, image)
    finally:
        for engine in opened:
            engine.close()
    wholes = {point.engine: mine for point, mine in zip(points, times, strict=True) if point.path == points[0].path}
    return tuple(
        Link(
            name=point.name,
            method=point.method,
            engine=point.engine,
            parameters=point.parameters,
            macs=point.macs,
            size_bytes=point.size_bytes,
            price=point.price,
            ms=float(np.median(mine)),
            ratio=time_ratio(wholes[point.engine], mine),
            before=point.before,
            verdict=point.verdict,
        )
        for point, mine in zip(points, times, strict=True)
    )
