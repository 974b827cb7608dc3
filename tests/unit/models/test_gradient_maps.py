"""Grad-CAM and LayerCAM find their layers by themselves, point at what matters, and depend on the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sortal.evaluate.explain.checks import rank_correlation
from sortal.models.backbones import create
from sortal.models.heads import Widths, Wiring
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.saliency import gradient_maps, shuffled

FAMILIES = [
    ("resnet18", {}, (48, 48)),
    ("mobilenetv3_small_100", {"pooling": "stages", "views": "mirror"}, (64, 48)),
    ("vit_tiny_patch16_224", {}, (48, 64)),
    ("sortal_tiny", {"pooling": "sqrt"}, (32, 32)),
]


@pytest.mark.parametrize(("name", "wiring", "size"), FAMILIES, ids=[name for name, *_ in FAMILIES])
def test_every_family_without_naming_a_layer(name: str, wiring: dict[str, str], size: tuple[int, int]) -> None:
    network = create(ModelSource(name=name, architecture=name), classes=4, size=size, **wiring)  # type: ignore[arg-type]
    network.train()
    image = np.random.default_rng(0).normal(size=(3, *size)).astype(np.float32)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    maps = gradient_maps(network, image, 1)
    assert set(maps) == {"grad_cam", "layer_cam"}
    for values in maps.values():
        assert values.ndim == 2
        assert values.size > 1
        assert np.isfinite(values).all()
        assert values.min() >= 0
    assert maps["layer_cam"].max() > 0
    assert network.training
    assert network.wiring.views == wiring.get("views", "single")
    assert network.pooling.slack == 0.0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    twin = gradient_maps(shuffled(network), image, 1)
    assert not np.allclose(maps["layer_cam"], twin["layer_cam"])


class _Bright(nn.Module):
    """One channel that is the brightness, one that is darkness; the embedding is their mean over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, 3, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(self.layer(x))
        return features.mean((2, 3)), features


def test_the_map_of_a_class_lies_on_its_evidence() -> None:
    network = Network(
        _Bright(),
        architecture="bright",
        arguments={},
        identity=(),
        classes=2,
        dropout=0.0,
        widths=Widths(embedding=2, features=2),
        wiring=Wiring(),
    )
    with torch.no_grad():
        network.linear.weight.copy_(torch.eye(2))
    image = np.full((3, 8, 8), -0.2, np.float32)
    image[:, 1:3, 5:7] = 1.0
    maps = gradient_maps(network, image, 0)
    for values in maps.values():
        y, x = np.unravel_index(values.argmax(), values.shape)
        assert 1 <= y <= 2
        assert 5 <= x <= 6
    with torch.no_grad():
        network.linear.weight.copy_(torch.eye(2).flip(0))  # what was learned the other way round
    other = gradient_maps(network, image, 0)
    assert rank_correlation(maps["grad_cam"], other["grad_cam"]) < -0.9
