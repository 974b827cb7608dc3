"""Own building blocks: what skips, depthwise convolutions and compound scaling are there for, measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sortal.core.errors import WeightsError
from sortal.models.blocks import (
    ConvNormAct,
    DepthwiseSeparable,
    DropPath,
    ResidualBlock,
    SqueezeExcite,
    compound_scaling,
    scaled_depth,
    scaled_width,
)
from sortal.models.catalog import count_macs
from sortal.models.small import sortal_small, sortal_tiny


def _first_gradient(*, skip: bool, depth: int = 40) -> float:
    """Norm of the loss gradient at the first convolution of a deep plain or residual net without normalization."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stem = nn.Conv2d(3, 16, 3, padding=1)
        blocks = nn.Sequential(*(ResidualBlock(16, 16, skip=skip) for _ in range(depth)))
        for module in blocks.modules():  # batch norm in evaluation mode is the identity: only the skips can help
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
        blocks.eval()
        images = torch.randn(2, 3, 8, 8)
    blocks(stem(images)).mean((2, 3)).logsumexp(1).sum().backward()
    assert stem.weight.grad is not None
    return float(stem.weight.grad.norm())


def test_skips_carry_the_gradient_to_the_first_layer_of_a_deep_net() -> None:
    assert _first_gradient(skip=True) > 1e4 * _first_gradient(skip=False)


def test_a_residual_block_changes_shape_at_odd_sizes_too() -> None:
    block = ResidualBlock(4, 8, stride=2, squeeze=True)
    assert block(torch.randn(2, 4, 9, 7)).shape == (2, 8, 5, 4)


def test_a_depthwise_separable_convolution_costs_a_fraction_of_a_standard_one() -> None:
    channels, width, side = 64, 128, 14
    separable, standard = DepthwiseSeparable(channels, width), ConvNormAct(channels, width)
    weights = sum(m.weight.numel() for m in separable.modules() if isinstance(m, nn.Conv2d))
    assert weights == 9 * channels + channels * width
    assert standard.conv.weight.numel() == 9 * channels * width
    images = torch.zeros(1, channels, side, side)
    assert count_macs(separable, images) == weights * side * side
    assert count_macs(standard, images) == 9 * channels * width * side * side
    assert separable(images).shape == standard(images).shape


def test_a_batch_norm_folded_into_its_convolution_gives_the_same_output() -> None:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    block = ConvNormAct(4, 6)
    for _ in range(3):
        block(torch.randn(8, 4, 9, 9) * 2 + 1)
    block.eval()
    fused = fuse_conv_bn_eval(block.conv, block.norm)
    images = torch.randn(2, 4, 9, 9)
    assert torch.allclose(torch.relu(fused(images)), block(images), atol=1e-5)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean() -> None:
    layer = DropPath(0.25).train()
    torch.manual_seed(0)
    y = layer(torch.ones(20_000, 2, 1, 1))
    assert torch.equal(y[:, 0], y[:, 1])
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert abs(float(y.mean()) - 1.0) < 0.02
    assert torch.equal(layer.eval()(y), y)


def test_squeeze_excite_scales_whole_channels_by_at_most_one() -> None:
    x = torch.rand(2, 16, 5, 5) + 0.1
    gate: Tensor = SqueezeExcite(16)(x) / x
    assert torch.allclose(gate, gate[:, :, :1, :1].expand_as(gate), atol=1e-5)
    assert bool(((gate > 0) & (gate < 1)).all())


@pytest.mark.parametrize(
    ("phi", "depth", "width", "resolution"),
    [(0, 1.0, 1.0, 224), (0.5, 1.1, 1.0, 240), (1, 1.2, 1.1, 260), (2, 1.4, 1.2, 300)],
)
def test_compound_scaling_gives_the_published_family(phi: float, depth: float, width: float, resolution: int) -> None:
    scaling = compound_scaling(phi)
    assert (scaling.depth, scaling.width, scaling.resolution_px) == (depth, width, resolution)


@pytest.mark.parametrize(("name", "phi"), [("efficientnet_b0", 0), ("efficientnet_b3", 2)])
def test_scaling_the_base_gives_the_stages_that_timm_builds(name: str, phi: float) -> None:
    import timm

    with torch.device("meta"):
        body = timm.create_model(name)
    scaling = compound_scaling(phi)
    stages = [(16, 1), (24, 2), (40, 2), (80, 3), (112, 3), (192, 4), (320, 1)]
    expected = [(scaled_width(width, scaling.width), scaled_depth(count, scaling.depth)) for width, count in stages]
    assert [
        (stage[-1].bn3.num_features if hasattr(stage[-1], "bn3") else stage[-1].bn2.num_features, len(stage))
        for stage in body.blocks
    ] == expected


def test_negative_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match="phi"):
        compound_scaling(-1)


def test_own_networks_scale_and_refuse_nonsense() -> None:
    def count(net: nn.Module) -> int:
        return sum(parameter.numel() for parameter in net.parameters())

    assert 600_000 < count(sortal_small()) < 800_000
    assert 350_000 < count(sortal_tiny()) < 550_000
    assert count(sortal_small(width=0.5)) < count(sortal_small()) < count(sortal_small(depth=2))
    with pytest.raises(WeightsError, match="width"):
        sortal_small(width=1000)
