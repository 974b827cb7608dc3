from __future__ import annotations

import pytest
import torch

from gratings import SOURCE
from sortal.core.errors import InternalError
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.train.optim import Average, adamw, block_depths, clip, set_rate


@pytest.fixture
def network() -> Network:
    return create(SOURCE, classes=3, size=(16, 16))


def test_every_trainable_parameter_is_optimized_and_norms_and_biases_do_not_decay(network: Network) -> None:
    optimizer = adamw(network, lr=1e-3, weight_decay=0.05)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decay) == {id(p) for p in network.parameters()}
    for name, parameter in network.named_parameters():
        assert decay[id(parameter)] == (0.05 if parameter.ndim > 1 else 0.0), name


def test_decay_is_decoupled_from_the_gradient(network: Network) -> None:
    """With a zero gradient a weight shrinks by lr * decay exactly, whatever its size (L2 in the gradient would not)."""
    optimizer = adamw(network, lr=0.1, weight_decay=0.5)
    before = network.linear.weight.detach().clone()
    bias = network.linear.bias.detach().clone()
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(network.linear.weight, before * (1 - 0.1 * 0.5))
    assert torch.equal(network.linear.bias, bias)


def test_layer_decay_gives_the_head_the_full_rate_and_the_stem_the_least(network: Network) -> None:
    optimizer = adamw(network, lr=1.0, weight_decay=0.0, layer_decay=0.5)
    set_rate(optimizer, 0.2)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(network.linear.weight)] == pytest.approx(0.2)
    rates = [rate[id(p)] for p in network.backbone.parameters()]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] == pytest.approx(0.1)


def test_blocks_are_counted_from_the_names() -> None:
    names = ["conv_stem.weight", "bn1.weight", "blocks.0.0.w", "blocks.0.1.w", "blocks.1.0.w", "conv_head.weight"]
    assert list(block_depths(names).values()) == [5, 4, 3, 2, 1, 1]


def test_clipping_limits_the_total_norm_and_returns_the_norm_before() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    weights[0].grad, weights[1].grad = torch.full((3,), 30.0), torch.full((2,), -40.0)
    before = clip(weights, 1.0)
    assert before == pytest.approx((3 * 900 + 2 * 1600) ** 0.5)
    after = sum(float((w.grad**2).sum()) for w in weights if w.grad is not None) ** 0.5
    assert after <= 1.0 + 1e-6
    assert clip(weights, 0.0) == pytest.approx(after)
    assert float(weights[0].grad[0]) == pytest.approx(30 / before, rel=1e-4)


def test_a_network_without_trainable_parameters_is_refused(network: Network) -> None:
    network.requires_grad_(requires_grad=False)
    with pytest.raises(InternalError):
        adamw(network, lr=1e-3, weight_decay=0.0)


def test_the_average_follows_the_weights_and_copies_counters(network: Network) -> None:
    average = Average(network, 0.99)
    with torch.no_grad():
        network.linear.bias.fill_(1.0)
    counters = [name for name, value in network.state_dict().items() if not value.is_floating_point()]
    network.get_buffer(counters[0]).fill_(7)
    average.update(network, 0)
    assert torch.allclose(average.state["head.1.bias"], torch.full((3,), 0.9))  # keeps (1 + 0) / (10 + 0)
    assert int(average.state[counters[0]]) == 7
    for step in range(1, 400):
        average.update(network, step)
    assert torch.allclose(average.state["head.1.bias"], torch.ones(3), atol=1e-3)
