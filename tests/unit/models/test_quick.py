"""The quick network: what whitening does to patches, that training starts well, and that it can be rebuilt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sortal.core.errors import InternalError, WeightsError
from sortal.models.backbones import create, load_network, record
from sortal.models.network import Network
from sortal.models.quick import PATCH_PX, QuickNet, Whitening, sortal_quick
from sortal.models.resolve import ModelSource
from sortal.models.weights import save_weights


def _random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _photos(count: int, *, channels: int = 3, size_px: int = 32) -> Tensor:
    """Smooth images whose channels go together, as those of photographs do."""
    coarse = torch.randn(count, 1, 8, 8, generator=_random()) + 0.3 * torch.randn(
        count, channels, 8, 8, generator=_random()
    )
    fine = 0.2 * torch.randn(count, channels, size_px, size_px, generator=_random())
    return functional.interpolate(coarse, size=(size_px, size_px), mode="bilinear") + fine


def _network(*, width: float = 0.25, seed: int = 0) -> Network:
    source = ModelSource(name="sortal_quick", architecture="sortal_quick", arguments={"width": width})
    return create(source, classes=10, size=(32, 32), seed=seed)


def _quick(network: Network) -> QuickNet:
    assert isinstance(network.backbone, QuickNet)
    return network.backbone


def _components(layer: Whitening, images: Tensor) -> Tensor:
    """(patches, components): the first half of the channels, before the learned bias."""
    outputs: Tensor = layer(images)[:, : layer.bias.numel() // 2]
    return outputs.transpose(0, 1).flatten(1).T


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_of_training_images_come_out_uncorrelated_with_unit_power(channels: int) -> None:
    layer, images = Whitening(channels), _photos(200, channels=channels)
    before = _components(layer, images)
    layer.fit(images)
    after = _components(layer, images)
    identity = torch.eye(channels * PATCH_PX**2)
    assert (before.T @ before / len(before) - identity).abs().max() > 0.4
    assert (after.T @ after / len(after) - identity).abs().max() < 0.03


def test_each_component_comes_with_its_negative_and_the_strongest_is_first() -> None:
    layer, images = Whitening(3), _photos(100)
    layer.fit(images)
    positive, negative = layer(images).chunk(2, dim=1)
    assert torch.equal(positive, -negative)
    assert layer.weight[0].norm() < layer.weight[11].norm()
    assert not layer.weight.requires_grad


def test_a_direction_without_variance_is_not_blown_up() -> None:
    layer, images = Whitening(3), _photos(100)[:, :1].repeat(1, 3, 1, 1)
    layer.fit(images)
    assert layer.weight.isfinite().all()
    assert layer.weight.flatten(1).norm(dim=1).max() < 50


def test_initialization_takes_images_from_the_whole_set_and_gives_the_same_layer_again() -> None:
    images = torch.cat([_photos(3000, size_px=8), 3 * _photos(3000, size_px=8).flip(3)])
    nets = [sortal_quick(width=0.25) for _ in range(2)]
    for net in nets:
        net.initialize_from_images(images)
    first, second = (net.whitening.weight for net in nets)
    assert torch.equal(first, second)
    whole = Whitening(3)
    whole.fit(images)
    assert torch.allclose(first.flatten(1).norm(dim=1), whole.weight.flatten(1).norm(dim=1), rtol=0.05)


@pytest.mark.parametrize("shape", [(0, 3, 32, 32), (4, 1, 32, 32), (3, 32, 32)])
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InternalError, match="3 channels"):
        sortal_quick(width=0.25).initialize_from_images(torch.zeros(shape))


@pytest.mark.parametrize(("size_px", "map_px"), [(9, 1), (16, 1), (28, 3), (32, 3), (48, 5), (64, 7)])
def test_the_embedding_is_the_scaled_maximum_of_the_feature_map(size_px: int, map_px: int) -> None:
    net = sortal_quick(width=0.25).eval()
    with torch.no_grad():
        embedding, feature_map = net(_photos(2, size_px=size_px))
    assert feature_map.shape == (2, 48, map_px, map_px)
    assert torch.allclose(embedding, feature_map.flatten(2).max(2).values / 9)


def test_the_whole_network_has_about_a_million_parameters_and_width_scales_them() -> None:
    counts = [sum(p.numel() for p in sortal_quick(width=width).parameters()) for width in (0.5, 1.0, 2.0)]
    assert 0.5e6 < counts[1] < 1.0e6
    assert 3.5 < counts[1] / counts[0] < 4.2
    assert 3.7 < counts[2] / counts[1] < 4.2
    with pytest.raises(WeightsError, match="width"):
        sortal_quick(width=0.01)


def test_steps_of_training_lower_the_loss_and_leave_the_whitening_alone() -> None:
    network, images = _network(), _photos(40)
    labels = torch.arange(40) % 10
    _quick(network).initialize_from_images(images)
    before = _quick(network).whitening.weight.clone()
    losses = []
    for _ in range(12):
        loss = functional.cross_entropy(network(images)[0], labels, label_smoothing=0.2)
        losses.append(loss.item())
        parameters = list(network.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.data -= gradient
    assert losses[0] == pytest.approx(2.303, abs=0.02)
    assert losses[-1] < losses[0] - 0.3
    assert torch.equal(_quick(network).whitening.weight, before)


def test_a_seed_decides_the_network_and_its_weights_travel_with_the_whitening(tmp_path: Path) -> None:
    network, other = _network(seed=1), _network(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), _network(seed=1).parameters(), strict=True))
    assert not torch.equal(network.linear.weight, other.linear.weight)
    _quick(network).initialize_from_images(_photos(50))
    save_weights(network, tmp_path / "weights.safetensors")
    again = load_network(record(network), tmp_path / "weights.safetensors")
    images = _photos(3)
    with torch.no_grad():
        assert torch.equal(again(images)[0], network.eval()(images)[0])
