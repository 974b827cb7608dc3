"""The story of a run: images in, a trained network out. It knows no bundle, no ONNX, and never sees a test image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from sortal.core.errors import InternalError
from sortal.core.preprocess import PreprocessSpec
from sortal.core.progress import Listener, Silent
from sortal.core.recipe import Recipe
from sortal.core.run import RunFolder
from sortal.data.table import ImageTable
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.train.allocator import keep_freed_memory
from sortal.train.context import Context, Outcome, Remedy
from sortal.train.features import Extractor, live_extractor
from sortal.train.gradient import train
from sortal.train.imbalance import stacking_finding
from sortal.train.linear import fit_probe
from sortal.train.plan import Plan
from sortal.train.remedies import settled, with_remedy
from sortal.train.team import SOLO, Team
from sortal.train.trackers import Trackers


@dataclass(frozen=True, kw_only=True)
class FitResult(Outcome):
    """A trained network and how it came about: an `Outcome` with the network and how its images are prepared.

    `val_logits` (N, C), `val_labels` (N,) and `val_rows` (N,) are empty without a validation split, and come from a
    network that never saw those images: from before the refit, where there was one. `stopped` is `done`, `early`,
    `time` or `interrupted`; `best_epoch` is 0 where the linear head on frozen features was best; `train_batch` holds up
    to 16 training images as the network saw them, uint8 (N, height, width, channels), and their labels.
    """

    network: Network
    """On the CPU, in evaluation mode, with the best weights."""
    spec: PreprocessSpec


def fit(
    recipe: Recipe,
    table: ImageTable,
    run: RunFolder | None = None,
    *,
    source: ModelSource,
    plan: Plan,
    listener: Listener | None = None,
    network: Network | None = None,
    extractor: Extractor | None = None,
    deadline_s: float | None = None,
    team: Team = SOLO,
    trackers: Trackers | None = None,
    resuming: bool = False,
    started_s: float | None = None,
) -> FitResult:
    """Train as `plan` says on the split `train` of `table`, choosing by the split `val`.

    `network` is one that the caller made already with `new_network`; `extractor` computes its embeddings faster than
    the live network (an exported graph). `deadline_s`, on `time.monotonic`, is when training has to have ended, and
    `started_s` is when the run began. With `run`, rows and checkpoints are written there; `resuming` goes on from its
    newest checkpoint. Raises DataError when nothing can be read, RecipeError when training diverges, MachineError when
    the disk refuses.
    """
    with reproducible(plan.threads):
        network = network or new_network(recipe, table, source, plan)
        context = Context(
            recipe=recipe,
            table=table,
            run=run,
            plan=plan,
            spec=plan.preprocess(recipe),
            listener=listener or Silent(),
            deadline_s=deadline_s,
            source=source,
            team=team,
            trackers=trackers,
            resuming=resuming,
            started_s=started_s,
        )
        outcome: Outcome | None = None
        if "probe" in plan.stages:
            engine = "live" if extractor is None else "onnxruntime"
            outcome = fit_probe(context, network, extractor or live_extractor(network), engine=engine)
        if "gradient" in plan.stages:
            remedy = _told(team, (outcome and outcome.remedy) or settled(context))
            outcome = train(with_remedy(context, remedy), network, outcome, notes=remedy.notes)
    if outcome is None:
        raise InternalError("a plan without stages", received=str(plan.stages))
    stacked = stacking_finding(recipe.loss)
    if stacked is not None:
        outcome = replace(outcome, findings=(*outcome.findings, stacked))
    return FitResult(network=network.eval(), spec=context.spec, **vars(outcome))


def _told(team: Team, remedy: Remedy) -> Remedy:
    """Process 0 decides: batches of different samplers would not fit each other."""
    name, tau = team.tell([remedy.name, remedy.tau])
    return replace(remedy, name=name, tau=tau)


def new_network(recipe: Recipe, table: ImageTable, source: ModelSource, plan: Plan) -> Network:
    """The network that a run starts from; the same one for the same recipe."""
    return create(
        source,
        classes=len(table.labels),
        channels=recipe.input.channels,
        dropout=recipe.model.dropout,
        head=recipe.model.head,
        hidden=recipe.model.hidden,
        fusion=recipe.model.fusion,
        attention=recipe.model.attention,
        attention_stage=recipe.model.attention_stage,
        drop_path=recipe.model.drop_path,
        pooling=plan.pooling if plan.stages == ("probe",) else "mean",
        views=recipe.model.views,
        size=plan.size,
        seed=recipe.seed,
    )


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Inside, torch uses `threads` threads and deterministic algorithms alone; both are put back on the way out."""
    keep_freed_memory()
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(mode=before[1])
