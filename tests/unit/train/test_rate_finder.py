from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from gratings import SOURCE
from sortal.core.errors import RecipeError
from sortal.core.sections import OptimSection
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.train.optim import copy_state
from sortal.train.rate_finder import RateCurve, draw_rate_curve, find_rate

SGD = OptimSection(name="sgd", momentum=0.0, weight_decay=0.0, clip=0.0)


@pytest.fixture
def network() -> Network:
    return create(SOURCE, classes=3, size=(16, 16))


def batches(count: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Classes that differ in brightness, so that there is something to learn."""
    random = torch.Generator().manual_seed(0)
    targets = torch.arange(8) % 3
    return [(torch.randn(8, 3, 16, 16, generator=random) + targets[:, None, None, None], targets) for _ in range(count)]


def test_the_loss_falls_then_rises_and_the_suggestion_lies_before_its_least(network: Network) -> None:
    curve = find_rate(network, batches(), cross_entropy, OptimSection(), low=1e-6, high=10.0, steps=80)
    assert np.all(np.diff(curve.rates) > 0)
    assert len(curve.rates) == len(curve.losses)
    assert curve.losses.min() < 0.8 * curve.losses[0]
    assert curve.suggested <= curve.lowest / 10 * 1.06
    assert 1e-5 < curve.suggested < 1.0


def test_weights_statistics_and_random_state_stay(network: Network) -> None:
    state, random = copy_state(network), torch.random.get_rng_state()
    find_rate(network, batches(), cross_entropy, OptimSection(), steps=20)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(p.grad is None for p in network.parameters())


def test_the_same_seed_gives_the_same_curve(network: Network) -> None:
    first, second = (find_rate(network, batches(), cross_entropy, OptimSection(), steps=15) for _ in range(2))
    assert np.array_equal(first.losses, second.losses)


def far_from_7(logits: Tensor, _targets: Tensor) -> Tensor:
    return (logits - 7).square().mean()


def test_it_stops_where_training_diverges(network: Network) -> None:
    """With a loss that has no ceiling; separable classes reach a cross-entropy of nothing at the wildest rates."""
    curve = find_rate(network, batches(), far_from_7, SGD, low=1e-4, high=1e6, steps=60)
    assert len(curve.rates) < 60
    assert np.all(np.isfinite(curve.losses))
    assert curve.losses.max() <= 4 * curve.losses.min() + 1e-9


def test_the_rates_are_those_of_the_head_and_the_backbone_has_its_share(network: Network) -> None:
    """With no share for the backbone its weights would not move: seen by a loss that only the backbone could lower."""
    network.linear.requires_grad_(requires_grad=False)

    def bright(_logits: Tensor, _targets: Tensor) -> Tensor:
        return _logits.square().mean()

    still = find_rate(network, batches(), bright, SGD, low=1e-3, high=1.0, steps=20, backbone_share=1e-12)
    moving = find_rate(network, batches(), bright, SGD, low=1e-3, high=1.0, steps=20)
    assert not np.allclose(still.losses, moving.losses, rtol=1e-6)


def test_a_loss_that_is_never_a_number_and_ranges_without_sense_are_refused(network: Network) -> None:
    with pytest.raises(RecipeError, match="finite"):
        find_rate(network, batches(), lambda logits, targets: logits.sum() * float("nan"), SGD, steps=10)
    for low, high, steps in ((1.0, 0.1, 50), (0.0, 1.0, 50), (1e-6, 1.0, 3)):
        with pytest.raises(RecipeError):
            find_rate(network, batches(), cross_entropy, SGD, low=low, high=high, steps=steps)


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    rates = np.geomspace(1e-6, 1, 50)
    losses = 2 - np.exp(-((np.log10(rates) + 2) ** 2))
    curve = RateCurve(rates=rates, losses=losses, suggested=1e-3, steepest=2e-3, lowest=1e-2)
    draw_rate_curve(curve, tmp_path / "rates.png")
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.format == "PNG"
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20) or []}
    assert (0x1A, 0x7F, 0x37) in colors
    assert (0xB3, 0x26, 0x1E) in colors


def test_what_comes_after_the_first_spike_does_not_count(network: Network) -> None:
    """A lower loss by luck at a rate where training is unstable already."""
    drops = iter([*np.linspace(1.0, 0.5, 40), *np.linspace(0.5, 2.0, 10), *np.linspace(2.0, 0.01, 50)])

    def scripted(logits: Tensor, _targets: Tensor) -> Tensor:
        return logits.sum() * 0.0 + next(drops)

    curve = find_rate(network, batches(), scripted, SGD, low=1e-5, high=1.0, steps=100)
    assert 39 <= int(np.searchsorted(curve.rates, curve.lowest)) <= 46
    assert int(np.argmin(curve.losses)) > 90
    assert curve.suggested <= curve.lowest / 10 * 1.06


def test_a_loss_that_does_not_fall_is_no_reason_for_the_least_rate(network: Network) -> None:
    """The head was fitted before: what can be said is which rate it bears."""
    noise = np.random.default_rng(0).normal(0, 0.08, 100)
    losses = iter(np.where(np.arange(100) < 60, 1.0, np.geomspace(0.05, 4.0, 100) + 1.0) + noise)

    def scripted(logits: Tensor, _targets: Tensor) -> Tensor:
        return logits.sum() * 0.0 + next(losses)

    curve = find_rate(network, batches(), scripted, SGD, low=1e-6, high=1.0, steps=100)
    assert not curve.falls
    assert 58 <= int(np.searchsorted(curve.rates, curve.lowest)) <= 66
    assert curve.suggested == pytest.approx(curve.lowest / 10, rel=0.06)
