"""Channels: which belong together, which are worth least, and a smaller network without them that answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sortal.compress.prune.amounts import channels_to_keep, kept_channels, layers_of, left
from sortal.compress.prune.channels import Anatomy, ChannelSet, anatomy
from sortal.compress.prune.criteria import least, score_channels
from sortal.compress.prune.surgery import without
from sortal.core.errors import RecipeError
from sortal.models.backbones import create, load_network, record
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.weights import save_weights

SIZE = (32, 32)


def _network(name: str = "test_resnet", **options: object) -> Network:
    network = create(ModelSource(name=name, architecture=name), classes=4, size=SIZE, seed=1, **options).eval()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():  # statistics and scales that are not all alike
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return network


def _images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def _anatomy(network: Network) -> Anatomy:
    return anatomy(network, size=SIZE, channels=3)


def _half(found: Anatomy) -> dict[int, frozenset[int]]:
    return {
        number: least(np.arange(one.count // one.fold), one.fold, (one.count - kept_channels(one, 0.5)) // one.fold)
        for number, one in enumerate(found.sets)
    }


@pytest.fixture(scope="module")
def resnet() -> tuple[Network, Anatomy]:
    network = _network()
    return network, _anatomy(network)


def test_l1_takes_the_filters_with_the_smallest_norms(resnet: tuple[Network, Anatomy]) -> None:
    network, found = resnet
    scores = score_channels(network, found, "l1")
    inside = [number for number, one in enumerate(found.sets) if sum(s.axis == "out" for s in one.slots) == 2]
    assert inside  # one filter bank and its norm: the inside of a block
    for number in inside:
        one = found.sets[number]
        norms = network.backbone.get_submodule(one.name).weight.detach().abs().sum(dim=(1, 2, 3))
        expected = torch.argsort(norms)[: one.count // 2].tolist()
        assert least(scores[number], one.fold, one.count // 2) == frozenset(expected)


def test_a_cut_network_answers_as_the_whole_one_with_those_channels_silenced(
    resnet: tuple[Network, Anatomy],
) -> None:
    """Every layer that takes a channel gets zeros in its place, which is what its absence means."""
    network, found = resnet
    gone = _half(found)
    small = without(network, found, gone)
    silenced = _network()
    for number, channels in gone.items():
        for slot in found.sets[number].slots:
            layer = silenced.backbone.get_submodule(slot.name)
            if slot.axis == "in" and isinstance(layer, nn.Conv2d):
                layer.weight.data[:, list(slot.of(channels))] = 0
        for _, places, of in found.sets[number].taps:
            lost = [place for place, channel in zip(places, of, strict=True) if channel in channels]
            silenced.linear.weight.data[:, lost] = 0
    with torch.no_grad():
        assert torch.allclose(small(_images())[0], silenced(_images())[0], atol=1e-5)
    assert small.parameter_count < 0.5 * network.parameter_count


def test_the_cut_is_the_one_that_torch_pruning_makes(resnet: tuple[Network, Anatomy]) -> None:
    network, found = resnet
    small = without(network, found, {0: frozenset(range(0, found.sets[0].count, 4))})
    import torch_pruning

    other = _network()
    graph = torch_pruning.DependencyGraph().build_dependency(other.backbone, example_inputs=_images(1), verbose=False)
    layer = other.backbone.get_submodule(found.sets[0].name)
    group = graph.get_pruning_group(
        layer, torch_pruning.prune_conv_out_channels, idxs=list(range(0, found.sets[0].count, 4))
    )
    group.prune()
    theirs = other.backbone.state_dict()
    ours = small.backbone.state_dict()
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_convnext", {}),
        ("test_efficientnet", {"pooling": "stages"}),
        ("test_vit", {}),
        ("sortal_tiny", {"head": "mlp"}),
        ("test_resnet", {"head": "multi_scale", "pooling": "mean"}),
        ("test_resnet", {"views": "mirror", "pooling": "sqrt"}),
    ],
)
def test_a_cut_network_is_stored_opened_and_cut_again(name: str, options: dict[str, object], tmp_path: Path) -> None:
    network = _network(name, **options)
    found = _anatomy(network)
    small = without(network, found, _half(found))
    save_weights(small, tmp_path / "weights.safetensors")
    again = load_network(record(small), tmp_path / "weights.safetensors")
    with torch.no_grad():
        for mine, theirs in zip(small(_images()), again(_images()), strict=True):
            assert torch.equal(mine, theirs)
    deeper = _anatomy(again)
    smaller = without(again, deeper, _half(deeper))
    assert smaller.parameter_count < small.parameter_count < network.parameter_count
    assert torch.isfinite(smaller(_images())[0]).all()


def test_eighty_percent_of_the_channels_of_every_set_stay(resnet: tuple[Network, Anatomy]) -> None:
    network, found = resnet
    kept = [kept_channels(one, 0.2) for one in found.sets]
    small = without(
        network,
        found,
        {
            n: least(np.zeros(one.count), 1, one.count - stays)
            for n, (one, stays) in enumerate(zip(found.sets, kept, strict=True))
        },
    )
    for one, stays in zip(found.sets, kept, strict=True):
        assert abs(stays - 0.8 * one.count) <= 4  # half of a granule of 8
        assert small.backbone.get_submodule(one.name).out_channels == stays
    assert torch.isfinite(small(_images())[0]).all()  # streams of residual blocks are as wide as what is added to them


@pytest.mark.parametrize("measure", ["macs", "parameters"])
def test_as_many_channels_go_as_the_goal_asks_for(resnet: tuple[Network, Anatomy], measure: str) -> None:
    network, found = resnet
    layers = layers_of(network, size=SIZE, channels=3)
    whole = left(layers, found.sets, [one.count for one in found.sets], measure)  # type: ignore[arg-type]
    kept, counted = channels_to_keep(found, layers, goal=whole // 2, measure=measure)  # type: ignore[arg-type]
    assert 0.3 * whole < counted <= whole // 2
    gone = {
        number: least(np.zeros(one.count), one.fold, (one.count - stays) // one.fold)
        for number, (one, stays) in enumerate(zip(found.sets, kept, strict=True))
    }
    small = layers_of(without(network, found, gone), size=SIZE, channels=3)
    assert sum(layer.cost(measure) for layer in small.values()) == counted  # type: ignore[arg-type]


def test_channels_that_the_loss_does_not_need_have_the_smallest_taylor_scores(
    resnet: tuple[Network, Anatomy],
) -> None:
    found, network = resnet[1], _network()
    number, one = next((n, one) for n, one in enumerate(found.sets) if sum(s.axis == "out" for s in one.slots) == 2)
    found = _anatomy(network)
    network.backbone.get_submodule(one.name).weight.data[:3] = 0  # filters that give nothing, and so do not matter
    for slot in found.sets[number].slots:
        layer = network.backbone.get_submodule(slot.name)
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data[:3] = layer.bias.data[:3] = layer.running_mean[:3] = 0  # type: ignore[index]
    labels = torch.tensor([0, 1, 2])
    scores = score_channels(network, found, "taylor", [(_images(), labels)])[number]
    assert least(scores, 1, 3) == {0, 1, 2}
    assert all(parameter.grad is None for parameter in network.parameters())


def test_equal_scores_go_in_order_and_every_fold_loses_the_same_channels() -> None:
    assert least(np.array([1.0, 0.0, 0.0, 2.0]), 1, 2) == {1, 2}
    assert least(np.array([3.0, 1.0]), 2, 1) == {1, 3}


def test_kept_channels_are_multiples_of_eight_where_there_are_enough() -> None:
    def kept(count: int, share: float, fold: int = 1) -> int:
        return kept_channels(ChannelSet(name="x", count=count, fold=fold, slots=(), taps=()), share)

    assert kept(64, 0.3) == 48
    assert kept(24, 0.3) == 16
    assert kept(10, 0.3) == 7
    assert kept(128, 0.5, fold=32) == 64
    assert kept(64, 0.0) == 64
    assert kept(64, 1.0) == 8


def test_networks_with_attention_between_stages_are_refused_in_words() -> None:
    network = _network(attention="cbam")
    with pytest.raises(RecipeError, match=r"cannot be pruned: attention"):
        _anatomy(network)
