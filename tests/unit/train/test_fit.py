from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gratings import SOURCE, gratings, recipe
from sortal.core.errors import RecipeError
from sortal.core.recipe import Recipe
from sortal.core.run import new_run
from sortal.data.table import ImageTable
from sortal.models.resolve import ModelSource
from sortal.models.weights import save_weights
from sortal.train import loop
from sortal.train.checkpoint import load
from sortal.train.fit import FitResult, fit
from sortal.train.plan import make_plan
from sortal.train.stopping import Preempted

MakeTable = Callable[..., ImageTable]


def trained(table: ImageTable, chosen: Recipe, source: ModelSource = SOURCE, **more: Any) -> FitResult:
    plan = make_plan(chosen, table, source).model_copy(update={"threads": 1})
    return fit(chosen, table, source=source, plan=plan, **more)


def weights(result: FitResult) -> dict[str, torch.Tensor]:
    return result.network.state_dict()


def same(one: FitResult, other: FitResult) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """Weights learned on plenty of gratings of six classes."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.set_num_threads(1)
    table = gratings(folder / "many.npz", classes=6, train=40, val=0)
    result = trained(table, recipe("train.epochs=6", "augment=none", "train.batch=16"))
    path = folder / "weights.safetensors"
    save_weights(result.network, path)
    return ModelSource(
        name="t", architecture=SOURCE.architecture, arguments=SOURCE.arguments, weights_path=path, licence="none"
    )


def test_the_same_seed_gives_the_same_weights_to_the_bit_for_any_number_of_workers(make_table: MakeTable) -> None:
    table = make_table(train=6)
    settings = ("model.dropout=0.3", "augment.mixup=0.2", "optim.ema=0.9")
    first = trained(table, recipe(*settings))
    torch.rand(5)  # global state is not used
    assert same(first, trained(table, recipe(*settings, "train.workers=2")))
    assert not same(first, trained(table, recipe(*settings, "seed=1")))


def test_training_does_not_touch_torchs_global_generator(make_table: MakeTable) -> None:
    before = torch.random.get_rng_state()
    trained(make_table(train=3), recipe("train.epochs=1", "model.dropout=0.5"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_frozen_backbone_keeps_every_weight_and_every_statistic(
    make_table: MakeTable, pretrained: ModelSource
) -> None:
    table = make_table(classes=4)
    result = trained(table, recipe("train.freeze=backbone", "train.epochs=1"), pretrained)
    assert result.history[-1]["epoch"] == 1
    from safetensors.torch import load_file

    assert pretrained.weights_path is not None
    before, after = load_file(pretrained.weights_path), weights(result)
    backbone = [name for name in before if name.startswith("backbone.")]
    assert any("running_mean" in name for name in backbone)
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    probe = trained(table, recipe("train.freeze=backbone", "train.epochs=0"), pretrained)
    assert not torch.equal(result.network.linear.weight, probe.network.linear.weight) or result.best_epoch == 0


def test_given_weights_beat_training_from_scratch(make_table: MakeTable, pretrained: ModelSource) -> None:
    table = make_table(classes=6, train=3, val=12)
    scratch = trained(table, recipe("train.epochs=3"))
    tuned = trained(table, recipe("train.epochs=3"), pretrained)
    probed = trained(table, recipe("train.epochs=0"), pretrained)

    def accuracy(result: FitResult) -> float:
        return float((result.val_logits.argmax(1) == result.val_labels).mean())

    assert accuracy(tuned) > accuracy(scratch) + 0.2
    assert accuracy(probed) > accuracy(scratch) + 0.2
    assert accuracy(tuned) >= accuracy(probed) - 0.1


def test_the_returned_network_is_the_one_that_earned_the_best_validation(make_table: MakeTable) -> None:
    table = make_table(train=10, val=8)
    result = trained(table, recipe("train.epochs=4", "optim.lr=0.01"))
    best = max(result.history, key=lambda row: (row["val_macro_f1"], -row["val_loss"]))
    assert result.best_epoch == best["epoch"]
    accuracy = float((result.val_logits.argmax(1) == result.val_labels).mean())
    assert accuracy == pytest.approx(best["val_accuracy"])
    assert not result.network.training


def test_rows_say_what_was_done(make_table: MakeTable, tmp_path: Path) -> None:
    with new_run(tmp_path / "runs", "g") as run:
        result = trained(make_table(train=6), recipe("optim.clip=1.0"), run=run)
        rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
        assert rows == list(result.history)
        assert not (run.path / "cache").exists()
    row = rows[-1]
    expected = {"lr", "train_loss", "grad_norm", "images_per_s", "val_loss", "val_accuracy", "val_macro_f1"}
    assert expected | {"data_s", "forward_s", "backward_s", "step_s", "eval_s"} <= set(row)
    assert row["step"] == row["steps"] == 6
    assert result.train_batch[0].shape == (16, 16, 16, 3)


@pytest.mark.parametrize("classes", [2, 12, 208, 1000])
def test_any_number_of_classes_goes_the_same_way(make_table: MakeTable, classes: int) -> None:
    table = make_table(classes=classes, train=2 if classes < 200 else 1, val=1, size=8, noise=2.0)
    result = trained(table, recipe("train.epochs=1", "train.batch=64"))
    assert result.val_logits.shape == (classes, classes)
    assert np.isfinite(result.val_logits).all()


def test_dropout_is_off_when_answering(make_table: MakeTable) -> None:
    network = trained(make_table(train=3), recipe("train.epochs=1", "model.dropout=0.5")).network
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(images)[0], network(images)[0])
        network.train()
        ones = torch.ones(2, network.embedding_dim)
        assert not torch.equal(network.head(ones), network.head(ones))


def test_a_loss_that_is_not_a_number_stops_training(make_table: MakeTable) -> None:
    with pytest.raises(RecipeError, match="diverged") as caught:
        trained(make_table(), recipe("optim.lr=1e30", "optim.clip=0", "train.epochs=5", "schedule.warmup=0.0"))
    assert caught.value.where == "optim.lr"


def test_scores_that_are_not_numbers_are_never_the_best() -> None:
    good = loop.Scores(loss=1.0, accuracy=0.1, macro_f1=0.1)
    odd = loop.Scores(loss=float("nan"), accuracy=1.0, macro_f1=1.0)
    assert not odd.better(None, "accuracy")
    assert not odd.better(good, "macro_f1")
    assert loop.Scores(loss=0.9, accuracy=0.1, macro_f1=0.1).better(good, "accuracy")


def test_training_stops_when_validation_does_not_get_better(make_table: MakeTable) -> None:
    chosen = recipe("train.epochs=30", "train.patience=2", "optim.lr=1e-9")
    result = trained(make_table(train=3, val=2), chosen)
    assert result.stopped == "early"
    assert len(result.history) == result.best_epoch + 2 < 30


def interrupting(monkeypatch: pytest.MonkeyPatch, at_step: int, number: int) -> None:
    """Send this process a signal during a training step."""
    step = loop._train_step

    def stepping(state: Any, *rest: Any) -> None:
        step(state, *rest)
        if state.step == at_step:
            signal.raise_signal(number)

    monkeypatch.setattr(loop, "_train_step", stepping)


def test_a_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupting(monkeypatch, at_step=8, number=signal.SIGINT)  # 6 steps an epoch: in the second one
    with new_run(tmp_path / "runs", "g") as run:
        run.state_path.write_text("{}", encoding="utf-8")  # as `sortal train` keeps what it needs to go on
        result = trained(make_table(train=16), recipe("train.epochs=9"), run=run)
        last, best = load(run.path / "checkpoints" / "step-8"), load(run.path / "checkpoints" / "best-1")
        assert f"sortal train --resume {run.path}" in result.notes[-1]
    assert signal.getsignal(signal.SIGINT) is before
    assert result.stopped == "interrupted"
    assert last.progress["step"] == 8
    assert best.progress["epoch"] == result.best_epoch == 1
    assert all(torch.equal(value, weights(result)[name]) for name, value in best.weights.items())
    assert any(name.endswith("exp_avg_sq") for name in last.moments)


def test_a_sigterm_saves_a_checkpoint_and_leaves_at_once(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, at_step=8, number=signal.SIGTERM)
    with new_run(tmp_path / "runs", "g") as run:
        run.state_path.write_text("{}", encoding="utf-8")
        with pytest.raises(Preempted, match=f"sortal train --resume {run.path}"):
            trained(make_table(train=16), recipe("train.epochs=9"), run=run)
    assert load(run.path / "checkpoints" / "step-8").progress["step"] == 8


def test_training_inside_other_work_names_no_run_to_go_on_with(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, at_step=8, number=signal.SIGINT)
    with new_run(tmp_path / "runs", "g") as run:
        result = trained(make_table(train=16), recipe("train.epochs=9"), run=run)
    assert result.stopped == "interrupted"
    assert not [note for note in result.notes if "--resume" in note]


def test_an_interrupt_in_the_first_epoch_keeps_the_state_there_is(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, at_step=2, number=signal.SIGINT)
    with new_run(tmp_path / "runs", "g") as run:
        result = trained(make_table(train=16), recipe(), run=run)
        assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["step-2"]  # nothing is best yet
    assert result.stopped == "interrupted"
    assert len(result.val_logits) == len(result.val_labels) > 0


def test_a_probe_refits_on_validation_images_only_where_there_is_a_test_split(
    make_table: MakeTable, pretrained: ModelSource
) -> None:
    table = make_table(classes=4, train=8, val=6)
    chosen = recipe("train.epochs=0")
    with_test = trained(table, chosen, pretrained)
    kept = table.select(table.frame["split"] != "test")
    without = trained(kept, chosen, pretrained)
    assert any("fitted again on 56" in note for note in with_test.notes)
    assert not any("again" in note for note in without.notes)
    assert np.array_equal(with_test.val_logits, without.val_logits)
    assert not torch.equal(with_test.network.linear.weight, without.network.linear.weight)


def test_the_test_split_is_never_read(make_table: MakeTable, pretrained: ModelSource) -> None:
    table = make_table(classes=4)
    forbidden = set(table.split_rows("test").tolist())
    seen: list[int] = []

    class Watched(type(table)):  # type: ignore[misc]
        def read(self, row: int) -> Any:
            seen.append(row)
            return super().read(row)

    watched = Watched(**{name: getattr(table, name) for name in table.__dataclass_fields__})
    trained(watched, recipe("train.epochs=1"), pretrained)
    assert seen
    assert not forbidden & set(seen)


def test_without_validation_images_the_probe_chooses_by_folds_and_the_loop_keeps_the_last_state(
    make_table: MakeTable, pretrained: ModelSource
) -> None:
    table = make_table(classes=3, train=10, val=0)
    table = table.select(table.frame["split"] == "train")
    probed = trained(table, recipe("train.epochs=0"), pretrained)
    assert any("five-fold" in note for note in probed.notes)
    tuned = trained(table, recipe("train.epochs=2", "train.patience=1"))
    assert tuned.best_epoch == 2
    assert len(tuned.val_logits) == 0


def test_the_callers_extractor_computes_the_features(make_table: MakeTable, pretrained: ModelSource) -> None:
    sizes: list[tuple[int, ...]] = []

    def extractor(batch: np.ndarray) -> np.ndarray:
        sizes.append(batch.shape)
        return np.asarray(batch.reshape(len(batch), 3, -1).mean(2))

    chosen = recipe("train.epochs=0")
    table = make_table(classes=3)
    plan = make_plan(chosen, table, pretrained)
    with pytest.raises(Exception, match="head"):  # three numbers are not this network's embedding
        fit(chosen, table, source=pretrained, plan=plan, extractor=extractor)
    assert {shape[1:] for shape in sizes} == {(3, *plan.size)}


def test_fine_tuning_after_a_probe_keeps_the_statistics_that_its_head_was_fitted_on(
    make_table: MakeTable, pretrained: ModelSource
) -> None:
    from safetensors.torch import load_file

    table = make_table(classes=4, val=0)  # without validation images the last state is the best
    result = trained(table, recipe("train.freeze=none", "train.epochs=2"), pretrained)
    assert pretrained.weights_path is not None
    before, after = load_file(pretrained.weights_path), weights(result)
    assert result.best_epoch > 0, "the weights have to be those of the gradient stage"
    statistics = [name for name in before if "running_" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)


def test_a_remedy_of_the_head_is_fitted_without_validation_images_too(make_table: MakeTable) -> None:
    table = make_table(classes=3, train=10, val=0)
    table = table.select(table.frame["split"] == "train")
    plain = trained(table, recipe("train.epochs=1"))
    remedied = trained(table, recipe("train.epochs=1", "loss.imbalance=crt"))
    assert any("loss.imbalance=crt" in note for note in remedied.notes)
    assert torch.equal(plain.network.backbone.stem.conv.weight, remedied.network.backbone.stem.conv.weight)
    assert not torch.equal(plain.network.linear.weight, remedied.network.linear.weight)
