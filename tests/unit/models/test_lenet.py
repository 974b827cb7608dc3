"""LeNet-5: the published count, the published shapes, other sizes, and what belongs to the embedding."""

from __future__ import annotations

import pytest
import torch

from sortal.models.backbones import create
from sortal.models.lenet import lenet5
from sortal.models.network import Network
from sortal.models.resolve import ModelSource


def _network(*, channels: int = 1) -> Network:
    source = ModelSource(name="lenet5", architecture="lenet5")
    return create(source, classes=10, channels=channels, size=(32, 32))


def test_it_has_the_parameters_that_are_told_of_it() -> None:
    network = _network()
    assert network.parameter_count == 61_706
    assert sum(parameter.numel() for parameter in network.backbone_parameters()) == 60_856
    assert _network(channels=3).parameter_count == 61_706 + 2 * 6 * 25


def test_all_fully_connected_layers_but_the_last_make_the_embedding() -> None:
    network = _network().eval()
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, embedding, feature_map = network(images)
        connected = network.backbone.connected(feature_map)  # type: ignore[operator]
    assert feature_map.shape == (2, 16, 5, 5)
    assert embedding.shape == (2, 84)
    assert torch.equal(embedding, connected)
    assert torch.equal(logits, network.linear(embedding))


@pytest.mark.parametrize(("size_px", "map_px"), [(16, 1), (24, 3), (28, 4), (48, 9), (64, 13)])
def test_other_sizes_work_and_have_the_same_parameters(size_px: int, map_px: int) -> None:
    network = lenet5(in_chans=3)
    embedding, feature_map = network(torch.zeros(2, 3, size_px, size_px))
    assert embedding.shape == (2, 84)
    assert feature_map.shape == (2, 16, map_px, map_px)


def test_gradients_reach_the_first_layer() -> None:
    network = _network()
    images = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.cross_entropy(network(images)[0], torch.arange(8))
    assert all(bool(gradient.any()) for gradient in torch.autograd.grad(loss, list(network.parameters())))
