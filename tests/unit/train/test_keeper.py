"""Training that is broken off anywhere and taken up again is training that never was: weights, rows and rates."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from gratings import SOURCE, gratings, recipe
from sortal.core.errors import ImageError, RecipeError
from sortal.core.recipe import Recipe
from sortal.core.run import RunFolder, new_run
from sortal.data.table import ImageTable
from sortal.models.resolve import ModelSource
from sortal.models.weights import save_weights
from sortal.train import keeper, loop
from sortal.train.checkpoint import Shelf
from sortal.train.fit import FitResult, fit
from sortal.train.plan import make_plan
from sortal.train.store import Images

MakeTable = Callable[..., ImageTable]
TIMES = {"images_per_s", "data_s", "forward_s", "backward_s", "step_s", "eval_s", "epoch_s", "features_s", "head_s"}


class Killed(BaseException):
    """Stands for the end of the process; `tests/flows` and the benchmark end real ones."""


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """Some weights of a network."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.set_num_threads(1)
    table = gratings(folder / "many.npz", classes=4, train=12, val=0)
    result = trained(table, recipe("train.epochs=2", "augment=none"))
    save_weights(result.network, folder / "weights.safetensors")
    return ModelSource(
        name="t",
        architecture=SOURCE.architecture,
        arguments=SOURCE.arguments,
        weights_path=folder / "weights.safetensors",
        licence="none",
    )


def trained(table: ImageTable, chosen: Recipe, source: ModelSource = SOURCE, **more: Any) -> FitResult:
    plan = make_plan(chosen, table, source).model_copy(update={"threads": 1})
    return fit(chosen, table, source=source, plan=plan, **more)


def digest(result: FitResult) -> str:
    state = {name: value.contiguous() for name, value in result.network.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()


def without_times(rows: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


class Watch:
    """Notes the rate of every step and ends training after certain ones, and keeps checkpoints every few steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, save_steps: int = 4):
        self.rates: dict[int, float] = {}
        self.kill_at: int | None = None
        step = loop._train_step

        def watched(state: loop.State, job: loop.Job, *rest: Any) -> None:
            rate = loop._rate(state, job)
            assert self.rates.setdefault(state.step, rate) == rate  # a step that is done again has the same rate
            step(state, job, *rest)
            if state.step == self.kill_at:
                raise Killed

        monkeypatch.setattr(loop, "_train_step", watched)
        monkeypatch.setattr(keeper, "SAVE_EVERY_S", 0.0)
        monkeypatch.setattr(keeper.Files, "due", lambda files: next(counted) % save_steps == 0)
        counted = iter(range(1, 10**6))


def broken_and_taken_up(
    watch: Watch, kills: tuple[int, ...], table: ImageTable, chosen: Recipe, source: ModelSource, where: Path
) -> tuple[FitResult, RunFolder]:
    with new_run(where, "broken") as run:
        for number, kill_at in enumerate((*kills, None)):
            watch.kill_at = kill_at
            with nullcontext() if kill_at is None else pytest.raises(Killed):
                result = trained(table, chosen, source, run=run, resuming=number > 0)
    return result, run


CASES = {
    "plain": ((), (3, 8)),
    "everything from scratch": (
        (
            "model.dropout=0.3",
            "optim.ema=0.9",
            "train.average=0.4",
            "augment.mixup=0.4",
            "augment.erase=0.3",
            "optim.accumulate=2",
            "train.sizes=[8,16]",
            "train.workers=2",
        ),
        (5, 11, 19),
    ),
    "two heads": (("model.head=multi_scale", "optim.name=sgd", "loss.imbalance=sampler"), (7,)),
    "from a probe": (("train.freeze=none", "train.unfreeze=gradual", "model.dropout=0.2", "input.size=16"), (2, 13)),
}


@pytest.mark.parametrize("name", CASES)
def test_broken_off_and_taken_up_again_is_the_same_to_the_bit(
    name: str, make_table: MakeTable, pretrained: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, kills = CASES[name]
    source = pretrained if name == "from a probe" else SOURCE
    table, chosen = make_table(classes=4, train=10), recipe("train.epochs=4", *settings)
    watch = Watch(monkeypatch)
    with new_run(tmp_path, "whole") as whole:
        expected = trained(table, chosen, source, run=whole)
    assert len(watch.rates) == 20  # 5 steps an epoch
    result, run = broken_and_taken_up(watch, kills, table, chosen, source, tmp_path)
    assert digest(result) == digest(expected)
    assert without_times(run.records()) == without_times(whole.records())
    assert without_times(result.history) == without_times(expected.history)
    assert (result.best_epoch, result.stopped) == (expected.best_epoch, expected.stopped)


def test_chance_from_a_global_state_would_be_noticed(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: dropout from torch's own generator, which is seeded at the start as many programs do."""
    monkeypatch.setattr(loop, "torch_randomness", lambda *_, **__: nullcontext())
    table, chosen = make_table(classes=4, train=10), recipe("train.epochs=4", "model.dropout=0.3")
    watch = Watch(monkeypatch)
    torch.manual_seed(0)
    expected = trained(table, chosen)
    torch.manual_seed(0)
    assert digest(trained(table, chosen)) == digest(expected)
    torch.manual_seed(0)
    result, _ = broken_and_taken_up(watch, (8,), table, chosen, SOURCE, tmp_path)
    assert digest(result) != digest(expected)


def test_killed_after_early_stopping_it_stays_stopped(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(train=6, val=2)
    chosen = recipe("train.epochs=9", "train.patience=1", "optim.lr=1e-9")
    monkeypatch.setattr(keeper, "SAVE_EVERY_S", 0.0)
    expected = trained(table, chosen)
    assert expected.stopped == "early"
    with new_run(tmp_path, "g") as run:
        trained(table, chosen, run=run)  # checkpoints stay: whoever publishes removes them
        again = trained(table, chosen, run=run, resuming=True)
    assert again.stopped == "early"
    assert len(again.history) == len(expected.history) < 9
    assert digest(again) == digest(expected)


def test_asked_to_stop_at_the_last_step_of_an_epoch_the_epoch_is_not_lost(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    table, chosen = make_table(train=16), recipe("train.epochs=3")
    expected = trained(table, chosen)
    step = loop._train_step

    def stepping(state: Any, *rest: Any) -> None:
        step(state, *rest)
        if state.step == 12:  # 6 an epoch
            signal.raise_signal(signal.SIGINT)

    with new_run(tmp_path, "g") as run:
        with monkeypatch.context() as patched:
            patched.setattr(loop, "_train_step", stepping)
            assert trained(table, chosen, run=run).stopped == "interrupted"
        again = trained(table, chosen, run=run, resuming=True)
        assert [row["epoch"] for row in run.records()] == [1, 2, 3]
    assert without_times(again.history) == without_times(expected.history)
    assert digest(again) == digest(expected)


def test_the_best_weights_that_were_damaged_are_written_anew(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every later checkpoint would refer to the damaged ones."""
    table, chosen = make_table(train=8), recipe("train.epochs=4", "optim.lr=0.01")
    watch = Watch(monkeypatch, save_steps=1)
    expected = trained(table, chosen)
    said: list[str] = []

    class Ear:
        def say(self, text: str) -> None:
            said.append(text)

        def progress(self, *_: Any) -> None:
            pass

    with new_run(tmp_path, "g") as run:
        watch.kill_at = 10
        with pytest.raises(Killed):
            trained(table, chosen, run=run)
        for path in (run.path / "checkpoints").glob("best-*"):
            (path / "weights.safetensors").write_bytes(b"x")
        (run.path / "checkpoints" / f".tmp-step-9-{_machine()}-999999999-0123abcd").mkdir()
        watch.kill_at = None
        result = trained(table, chosen, run=run, resuming=True, listener=Ear())
        shelf = Shelf(run.path / "checkpoints")
        assert shelf.newest(say=said.append) is not None
        assert not list((run.path / "checkpoints").glob(".tmp*"))
    assert sum(text.startswith("warning: a checkpoint cannot be used") for text in said) == 2
    assert "no checkpoint to go on from" in " ".join(said)
    assert digest(result) == digest(expected)


def _machine() -> str:
    from sortal.core.publish import _machine as name

    return name()


def test_a_run_that_diverged_keeps_its_earlier_checkpoints(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, chosen = make_table(train=16), recipe("train.epochs=3")
    watch = Watch(monkeypatch)
    expected = trained(table, chosen)
    with new_run(tmp_path, "g") as run:
        with monkeypatch.context() as patched:
            step = loop._train_step

            def exploding(state: loop.State, *rest: Any) -> None:
                if state.step == 10:
                    with torch.no_grad():
                        next(state.network.parameters()).fill_(math.nan)
                step(state, *rest)

            patched.setattr(loop, "_train_step", exploding)
            with pytest.raises(RecipeError, match="diverged"):
                trained(table, chosen, run=run)
        found = Shelf(run.path / "checkpoints").newest(say=print)
        assert found is not None
        assert 6 <= found.checkpoint.progress["step"] <= 10
        tensors = [*found.checkpoint.weights.values(), *found.checkpoint.moments.values(), *found.best.values()]
        assert all(bool(torch.isfinite(value).all()) for value in tensors if value.is_floating_point())
        result = trained(table, chosen, run=run, resuming=True)
    assert digest(result) == digest(expected)
    assert watch.kill_at is None


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_fails_while_training_is_an_error_and_no_hang(
    workers: int, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are threads: what fails in one is raised in the loop."""
    take = Images.take

    def failing(images: Images, samples: Any) -> Any:
        if len(images) == 48 and 40 in samples:
            raise ImageError("missing", "gone while training", where="0040.png")
        return take(images, samples)

    monkeypatch.setattr(Images, "take", failing)
    with pytest.raises(ImageError, match="gone while training"):
        trained(make_table(train=16), recipe(f"train.workers={workers}"))


def test_a_checkpoint_knows_how_long_the_run_took(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setattr(keeper, "SAVE_EVERY_S", 0.0)
    with new_run(tmp_path, "g") as run:
        trained(make_table(), recipe("train.epochs=1"), run=run, started_s=time.monotonic() - 500)
        assert 500 < Shelf(run.path / "checkpoints").spent_s() < 800
    assert Shelf(tmp_path / "none").spent_s() == 0.0


def test_more_images_than_before_begin_the_epoch_anew(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    chosen = recipe("train.epochs=3")
    with new_run(tmp_path, "g") as run:
        watch.kill_at = 8  # of 3 x 6
        with pytest.raises(Killed):
            trained(make_table(train=16), chosen, run=run)
        watch.kill_at = None
        watch.rates.clear()
        result = trained(make_table(train=24), chosen, run=run, resuming=True)
        assert [(row["epoch"], row["step"]) for row in run.records()] == [(1, 6), (2, 18), (3, 27)]
    assert result.stopped == "done"


def test_numbers_that_are_none_survive_a_checkpoint() -> None:
    written = keeper._written({"history": [{"val_loss": math.nan, "a": math.inf, "learning": "all"}], "n": -math.inf})
    assert written == {"history": [{"val_loss": "nan", "a": "inf", "learning": "all"}], "n": "-inf"}
    back = keeper._read(written)
    assert math.isnan(back["history"][0]["val_loss"])
    assert back["history"][0]["a"] == math.inf
    assert back["history"][0]["learning"] == "all"
