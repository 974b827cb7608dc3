"""The cuts of one pruning: each a bundle of its own, smaller than the one before, judged on validation images.

    compressions/steps/<digest>/step.json bundle/ metrics.jsonl ...

A step is put in place as a whole when it is done; the same command finds it again, so that what was broken off goes on
after the last finished cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from sortal.compress.judge import Price, answer, price
from sortal.compress.pricing import Budget
from sortal.compress.prune.amounts import Measure
from sortal.compress.prune.cutting import cut_to, total
from sortal.compress.prune.ground import Ground
from sortal.compress.prune.tuning import epochs_after_cut, recipe_after_cut, tuned
from sortal.compress.ship import MODEL, ORIGINAL
from sortal.core.bundle import Bundle, open_bundle
from sortal.core.canonical import digest, parse, pretty
from sortal.core.predictions import Predictions
from sortal.core.publish import publish_folder
from sortal.models.backbones import load_network
from sortal.models.network import Network
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.macs import count_graph_macs
from sortal.runtime.threads import allowed_cpus

STEP = "step.json"
LAST = 2
"""The last cut is followed by so many times the epochs of those before."""


class StepRecord(BaseModel):
    """`step.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    share: float
    """Of multiplications or weights, cut away so far."""
    epochs: int
    before: float
    """Accuracy on validation images after the cut, before training."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The network as it was (`share` 0) or after a cut and its training."""

    share: float
    bundle: Bundle
    parameters: int
    macs: int
    size_bytes: int
    """Of its ONNX file."""
    answers: Predictions
    price: Price | None = None
    """Against the network as it was."""
    objection: str = ""
    """Why it is not within the budget; empty where it is."""
    epochs: int = 0
    before: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def graph(self) -> Path:
        """Its ONNX file."""
        return self.bundle.artifact(ORIGINAL) / MODEL


def original_stage(ground: Ground) -> Stage:
    """The network as it is."""
    return _measured(ground, ground.bundle, share=0.0)


def cut_stages(
    ground: Ground, network: Network, original: Stage, home: Path, *, share: float, measure: Measure, budget: Budget
) -> list[Stage]:
    """Cut `share` of the multiplications or weights away in `compress.prune_steps` cuts, each with its training.

    Every cut takes the same part of what the one before left. Finished ones are found in `home`. Raises RecipeError
    where the network cannot be cut so far.
    """
    section = ground.recipe.compress
    whole = total(network, ground, measure)
    epochs = epochs_after_cut(section.prune_epochs, len(ground.table.split_rows("train")))
    stages, before = list[Stage](), network
    what = "multiplications" if measure == "macs" else "weights"
    for number in range(1, section.prune_steps + 1):
        goal = (1 - share) ** (number / section.prune_steps)
        many = epochs * (LAST if number == section.prune_steps else 1)
        folder = home / _key(ground, number, share, measure, many)
        ground.listener.say(f"cut {number} of {section.prune_steps}: {1 - goal:.1%} of the {what} go")
        if not (folder / STEP).is_file():
            _make(ground, before, folder, goal=int(goal * whole), share=1 - goal, measure=measure, epochs=many)
        stage = _stage(ground, original, folder, budget)
        stages.append(stage)
        ground.listener.say(_sentence(stage))
        if number < section.prune_steps:
            assert stage.bundle.weights_path is not None
            before = load_network(stage.bundle.manifest.model, stage.bundle.weights_path)
    return stages


def _make(
    ground: Ground, network: Network, folder: Path, *, goal: int, share: float, measure: Measure, epochs: int
) -> None:
    def write(made: Path) -> None:
        cut = cut_to(network, ground, goal=goal, measure=measure, criterion=ground.recipe.compress.criterion)
        before = _live_accuracy(ground, cut.network)
        found = tuned(cut.network, ground, made, epochs=epochs)
        said = tuple(one.message for one in found if one.severity != "info" and one.code != "weak_teacher")
        record = StepRecord(share=share, epochs=epochs, before=before, notes=said)
        (made / STEP).write_text(pretty(record.model_dump(mode="json")), encoding="utf-8")

    publish_folder(folder, write)


def _live_accuracy(ground: Ground, network: Network) -> float:
    from sortal.compress.prune.ground import accuracy_on

    return accuracy_on(network, ground, ground.material.judged, len(ground.material.judged.labels))


def _stage(ground: Ground, original: Stage, folder: Path, budget: Budget) -> Stage:
    known = parse((folder / STEP).read_text(encoding="utf-8"), where=str(folder / STEP))
    record = StepRecord.model_validate(known)
    made = _measured(ground, open_bundle(folder / "bundle"), share=record.share)
    cost = price(
        original.answers,
        made.answers,
        ground.material.judged,
        contract=budget.contract,
        sizes=(original.size_bytes, made.size_bytes),
    )
    return Stage(
        **{**vars(made), "price": cost, "objection": budget.objection(cost)}
        | {"epochs": record.epochs, "before": record.before, "notes": record.notes}
    )


def _measured(ground: Ground, bundle: Bundle, *, share: float) -> Stage:
    graph = bundle.artifact(ORIGINAL) / MODEL
    engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=allowed_cpus())
    try:
        answers = answer(engine, bundle, ground.material.judged)
    finally:
        engine.close()
    return Stage(
        share=share,
        bundle=bundle,
        parameters=bundle.manifest.model.parameters,
        macs=count_graph_macs(graph),
        size_bytes=graph.stat().st_size,
        answers=answers,
    )


def _key(ground: Ground, number: int, share: float, measure: Measure, epochs: int) -> str:
    """What a step depends on, as a folder's name."""
    section = ground.recipe.compress
    facts: dict[str, Any] = {
        "bundle": ground.bundle.id,
        "images": ground.material.digest,
        "steps": [number, section.prune_steps, share, measure, section.criterion, epochs],
        "calibration": section.calibration_images,
        "unlabelled": section.unlabelled,
        "recipe": recipe_after_cut(ground, epochs).model_dump(mode="json", exclude={"compress", "distill"}),
        "teacher": section.teacher
        if section.teacher is None or isinstance(section.teacher, str)
        else list(section.teacher),
    }
    return digest(facts)[:16]


def _sentence(stage: Stage) -> str:
    assert stage.price is not None
    assert stage.before is not None
    verdict = stage.objection or "within the budget"
    return (
        f"{stage.parameters:,} parameters, {stage.macs / 1e6:,.1f} million multiplications: accuracy "
        f"{stage.before:.1%} after the cut, {stage.price.accuracy.value:.1%} after training; {verdict}"
    )
