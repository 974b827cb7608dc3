from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gratings import SOURCE, recipe
from sortal.evaluate.diagnose.health import GRADIENT_NORMS, diagnose_gradients, overfitting_finding
from sortal.models.backbones import create
from sortal.models.heads import Widths, Wiring
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.train.health import gradient_norms


class Chain(nn.Module):
    """Convolutions in a row without norms or residuals, weights `gain` times what keeps variances."""

    def __init__(self, act: Callable[[Tensor], Tensor], *, depth: int, gain: float):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 if i == 0 else 16, 16, 3, padding=1) for i in range(depth))
        self.act = act
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=gain / (9 * layer.in_channels) ** 0.5)  # type: ignore[arg-type, operator]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            x = self.act(layer(x))
        return x.mean((2, 3)), x


def chain(act: Callable[[Tensor], Tensor], *, depth: int, gain: float) -> Network:
    return Network(
        Chain(act, depth=depth, gain=gain),
        architecture="chain",
        arguments={},
        identity=(),
        classes=5,
        dropout=0.0,
        widths=Widths(embedding=16, features=16),
        wiring=Wiring(),
    )


def norms(network: Network) -> dict[str, float]:
    torch.manual_seed(0)
    logits = network.train()(torch.randn(8, 3, 32, 32))[0]
    nn.functional.cross_entropy(logits, torch.arange(8) % network.classes).backward()
    return gradient_norms(network)


def rows(*values: dict[str, float]) -> list[dict[str, object]]:
    return [{"epoch": number, GRADIENT_NORMS: value} for number, value in enumerate(values, start=1)]


def test_norms_are_those_of_the_blocks_and_frozen_ones_are_left_out() -> None:
    network = create(SOURCE, classes=3, size=(32, 32))
    network.freeze_stages(1)
    found = norms(network)
    assert list(found)[-1] == "head"
    assert len(found) < len(norms(create(SOURCE, classes=3, size=(32, 32))))
    expected = sum(float(p.grad.square().sum()) for p in network.head.parameters() if p.grad is not None) ** 0.5
    assert found["head"] == pytest.approx(expected, rel=1e-5)


def test_vanishing_gradients_are_named_and_clipping_is_not_the_remedy() -> None:
    torch.manual_seed(0)
    (finding,) = diagnose_gradients(rows(norms(chain(torch.sigmoid, depth=10, gain=1.0))))
    assert finding.code == "gradients_vanish"
    assert "layers.0" in finding.message
    assert "layers.9" not in finding.message
    assert "residual" in str(finding.hint)
    assert "clipping gradients does not help" in str(finding.hint)


def test_exploding_gradients_are_named_and_clipping_is_the_remedy() -> None:
    torch.manual_seed(0)
    (finding,) = diagnose_gradients(rows(norms(chain(torch.relu, depth=10, gain=5.0))))
    assert finding.code == "gradients_explode"
    assert "layers.5" in finding.message
    assert "optim.clip=1.0" in str(finding.hint)


def test_gradients_that_are_all_zero_are_named() -> None:
    nothing = {"layers.0": 0.0, "layers.1": 0.0, "head": 0.0}
    (finding,) = diagnose_gradients([{"gradient_norms": nothing}] * 3)
    assert (finding.code, finding.severity) == ("gradients_zero", "error")
    something = {**nothing, "head": 1e-3}
    assert "gradients_zero" not in {found.code for found in diagnose_gradients([{"gradient_norms": something}] * 3)}


@pytest.mark.parametrize("name", ["sortal_tiny", "test_resnet", "test_vit"])
def test_sound_networks_are_not_accused(name: str) -> None:
    size = 160 if name.startswith("test_") else 32
    network = create(ModelSource(name=name, architecture=name), classes=5, size=(size, size))
    if size != 32:
        images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
        nn.functional.cross_entropy(network(images)[0], torch.arange(4)).backward()
        assert diagnose_gradients(rows(gradient_norms(network))) == ()
    else:
        assert diagnose_gradients(rows(norms(network))) == ()


def test_a_single_epoch_of_small_gradients_is_no_finding_but_one_explosion_is() -> None:
    calm = {"a": 1.0, "b": 2.0, "head": 5.0}
    assert diagnose_gradients(rows(calm, {**calm, "a": 1e-9}, calm)) == ()
    assert diagnose_gradients(rows(calm, {**calm, "a": 1e-9}, {**calm, "a": 0.0}))[0].code == "gradients_vanish"
    for bad in (float("nan"), float("inf"), 1e4, 250.0):
        (finding,) = diagnose_gradients(rows(calm, {**calm, "b": bad}, calm))
        assert finding.code == "gradients_explode"
        assert " b" in finding.message
    small = {name: norm / 1000 for name, norm in calm.items()}
    assert diagnose_gradients(rows(small, small, {**small, "b": 2.0}))[0].code == "gradients_explode"  # a jump


def test_rows_without_norms_and_no_rows_are_no_finding() -> None:
    assert diagnose_gradients([]) == ()
    assert diagnose_gradients([{"epoch": 1, "val_loss": 1.0}]) == ()


def test_overfitting_names_the_gap_and_which_remedies_are_on() -> None:
    history = [{"train_loss": 1.0, "val_loss": 1.0}, {"train_loss": 0.1, "val_loss": 0.9}]
    finding = overfitting_finding(history, recipe("optim.weight_decay=0.01", "train.patience=1"))
    assert finding is not None
    assert finding.code == "overfitting"
    assert "0.10 against 0.90" in finding.message
    on, off = finding.message.split("Off:")
    assert "weight decay 0.01" in on
    assert "augmentation basic" in on
    assert "early stopping after 1 epochs" in on
    assert "dropout" in off
    assert "model.dropout=0.3" in str(finding.hint)


def test_overfitting_goes_by_accuracies_where_they_are_known() -> None:
    def found(train: float, val: float) -> bool:
        row = {"train_accuracy": train, "val_accuracy": val, "train_loss": 0.0, "val_loss": 9.0}
        return overfitting_finding([row], recipe()) is not None

    assert found(0.99, 0.85)
    assert not found(0.99, 0.92)


def test_a_sound_run_and_a_run_without_validation_are_not_accused() -> None:
    assert overfitting_finding([{"train_loss": 0.9, "val_loss": 0.7}], recipe()) is None
    assert overfitting_finding([{"train_loss": 0.02, "val_loss": 0.05}], recipe()) is None  # both small
    assert overfitting_finding([{"train_loss": 0.1}], recipe()) is None
    assert overfitting_finding([], recipe()) is None
