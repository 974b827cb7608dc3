from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gratings import SOURCE
from sortal.core.errors import InternalError
from sortal.core.sections import OptimSection
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.train.optim import (
    Average,
    RunningMean,
    block_depths,
    block_names,
    check_optimizer,
    clip,
    make_optimizer,
    set_rate,
)


@pytest.fixture
def network() -> Network:
    return create(SOURCE, classes=3, size=(16, 16))


def build(
    network: Network,
    *,
    lr: float = 1e-3,
    backbone_lr: float | None = None,
    layer_decay: float = 1.0,
    **settings: object,
) -> torch.optim.Optimizer:
    section = OptimSection.model_validate(settings)
    return make_optimizer(network, section, lr=lr, backbone_lr=backbone_lr or lr, layer_decay=layer_decay)


def of_each(optimizer: torch.optim.Optimizer, key: str) -> dict[int, float]:
    return {id(p): group[key] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_every_trainable_parameter_is_in_one_group_and_norms_and_biases_do_not_decay(
    network: Network, name: str
) -> None:
    optimizer = build(network, name=name, weight_decay=0.05)
    given = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in network.parameters())
    decay = of_each(optimizer, "weight_decay")
    for label, parameter in network.named_parameters():
        assert decay[id(parameter)] == (0.05 if parameter.ndim > 1 else 0.0), label


def test_what_a_module_asks_to_spare_does_not_decay() -> None:
    table = create(SOURCE, classes=3, size=(16, 16))
    first = table.backbone.get_submodule("")
    name = next(label for label, p in first.named_parameters() if p.ndim > 1)
    first.no_weight_decay = lambda: {name}  # type: ignore[assignment]
    decay = of_each(build(table, weight_decay=0.05), "weight_decay")
    assert decay[id(first.get_parameter(name))] == 0.0
    assert decay[id(table.linear.weight)] == 0.05


def test_rates_of_head_uppermost_block_and_blocks_below(network: Network) -> None:
    """The paper's rates: 1e-3 at the head, 1e-5 at the base."""
    optimizer = build(network, lr=1e-3, backbone_lr=1e-4, layer_decay=0.5)
    set_rate(optimizer, 1e-3)
    rate = of_each(optimizer, "lr")
    depths = block_depths([name for name, _ in network.backbone.named_parameters()])
    assert rate[id(network.linear.weight)] == rate[id(network.linear.bias)] == 1e-3
    for name, parameter in network.backbone.named_parameters():
        assert rate[id(parameter)] == pytest.approx(1e-4 * 0.5 ** (depths[name] - 1)), name
    assert len(set(depths.values())) > 2
    set_rate(optimizer, 2e-3)
    assert of_each(optimizer, "lr")[id(network.linear.weight)] == 2e-3


def test_biases_of_norms_have_a_factor_of_their_own(network: Network) -> None:
    scale = of_each(build(network, norm_lr_factor=64.0), "scale")
    shifts = {id(m.bias) for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert shifts
    for parameter in network.parameters():
        assert scale[id(parameter)] == (64.0 if id(parameter) in shifts else 1.0)


def test_frozen_parameters_are_in_no_group_and_unfrozen_ones_change(network: Network) -> None:
    """The trap: everything frozen, then a stage given to the optimizer, which silently stays as it is."""
    network.freeze_stages(1)
    optimizer = build(network, lr=0.1)
    given = of_each(optimizer, "lr")
    assert set(given) == {id(p) for p in network.parameters() if p.requires_grad}
    assert set(given) != {id(p) for p in network.parameters()}
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    network(torch.randn(4, 3, 16, 16))[0].square().sum().backward()
    optimizer.step()
    changed = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert all(network.get_parameter(name).requires_grad for name in changed)
    assert any(name.startswith("backbone.") for name in changed)
    assert "head.1.weight" in changed


def test_an_optimizer_with_frozen_missing_or_double_parameters_is_refused(network: Network) -> None:
    everything = torch.optim.SGD(network.parameters(), lr=0.1)
    check_optimizer(everything, network)
    network.freeze_stages(1)
    with pytest.raises(InternalError, match="not trainable"):
        check_optimizer(everything, network)
    network.freeze_stages("all")
    with pytest.raises(InternalError, match="lacks"):
        check_optimizer(torch.optim.SGD(network.head.parameters(), lr=0.1), network)
    everything.param_groups.append({**everything.param_groups[0], "params": [network.linear.weight]})
    with pytest.raises(InternalError, match="twice"):
        check_optimizer(everything, network)


def test_a_network_without_trainable_parameters_is_refused(network: Network) -> None:
    network.requires_grad_(requires_grad=False)
    with pytest.raises(InternalError):
        build(network)


def test_plain_sgd_needs_no_momentum_although_nesterov_is_the_default(network: Network) -> None:
    optimizer = build(network, name="sgd", momentum=0.0)
    assert not optimizer.param_groups[0]["nesterov"]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_moments_of_another_memory_layout_give_the_same_steps(network: Network, name: str) -> None:
    """Checkpoints hold moments contiguous, weights may be channels_last, and fused steps do not look at strides."""
    network.to(memory_format=torch.channels_last)
    twin = create(SOURCE, classes=3, size=(16, 16))
    twin.load_state_dict(network.state_dict())
    twin.to(memory_format=torch.channels_last)
    optimizers = build(network, name=name), build(twin, name=name)
    for step in range(3):
        for net, optimizer in zip((network, twin), optimizers, strict=True):
            if step == 2 and net is twin:
                scramble(optimizer)
            for parameter, gradient in zip(net.parameters(), gradients(net, step), strict=True):
                parameter.grad = gradient if net is twin else gradient.clone(memory_format=torch.preserve_format)
            optimizer.step()
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def gradients(network: Network, step: int) -> Iterator[Tensor]:
    random = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        yield torch.randn(parameter.shape, generator=random)  # contiguous


def scramble(optimizer: torch.optim.Optimizer) -> None:
    for values in optimizer.state.values():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.ndim == 4:
                values[key] = value.contiguous()


def test_blocks_are_told_from_the_names() -> None:
    names = ["conv_stem.weight", "bn1.weight", "blocks.0.0.w", "blocks.0.1.w", "blocks.1.0.w", "conv_head.weight"]
    assert list(block_depths(names).values()) == [5, 4, 3, 2, 1, 1]
    assert list(block_names(names).values()) == ["stem", "bn1", "blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.0"]


def test_clipping_limits_the_total_norm_and_returns_the_norm_before() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    weights[0].grad, weights[1].grad = torch.full((3,), 30.0), torch.full((2,), -40.0)
    before = clip(weights, 1.0)
    assert before == pytest.approx((3 * 900 + 2 * 1600) ** 0.5)
    after = sum(float((w.grad**2).sum()) for w in weights if w.grad is not None) ** 0.5
    assert after <= 1.0 + 1e-6
    assert clip(weights, 0.0) == pytest.approx(after)
    assert float(weights[0].grad[0]) == pytest.approx(30 / before, rel=1e-4)


def counters(network: Network) -> list[str]:
    return [name for name, value in network.state_dict().items() if not value.is_floating_point()]


def test_the_average_follows_the_weights_and_copies_counters(network: Network) -> None:
    average = Average(network, 0.99)
    with torch.no_grad():
        network.linear.bias.fill_(1.0)
    counter = counters(network)[0]
    network.get_buffer(counter).fill_(7)
    average.update(network, 0)
    assert torch.allclose(average.state["head.1.bias"], torch.full((3,), 0.9))  # keeps (1 + 0) / (10 + 0)
    assert int(average.state[counter]) == 7
    for step in range(1, 400):
        average.update(network, step)
    assert torch.allclose(average.state["head.1.bias"], torch.ones(3), atol=1e-3)


def test_the_running_mean_weighs_all_updates_alike_and_can_be_taken_up_again(network: Network) -> None:
    random = torch.Generator().manual_seed(0)
    values = 100 + torch.randn(500, 3, generator=random)
    mean = RunningMean(network)
    for number, value in enumerate(values):
        with torch.no_grad():
            network.linear.bias.copy_(value)
        if number == 200:
            mean = RunningMean(network, count=mean.count, state=mean.state)
        mean.update(network)
    expected = values.double().mean(0)
    assert torch.allclose(mean.state["head.1.bias"].double(), expected, rtol=1e-6)
    running = next(name for name in mean.state if name.endswith("running_var"))
    assert torch.allclose(mean.state[running], network.state_dict()[running])  # statistics are averaged too
