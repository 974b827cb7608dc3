"""Stages: every parameter in one, and freezing by them is exact, statistics included."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sortal.models.backbones import create, create_on_meta
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.stages import find_stages


def _network(name: str) -> Network:
    return create(ModelSource(name=name, architecture=name), classes=3, size=(64, 64))


def _step(network: Network) -> set[str]:
    """Names of all numbers that one training step changes."""
    network.train()
    for module in network.modules():  # residual branches that begin at zero pass no gradient in their first step
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.constant_(module.weight, 0.1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 3 + 1
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(images)[0], torch.arange(6) % 3).backward()
    optimizer.step()
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet50", ("stem", "layer1", "layer2", "layer3", "layer4")),
        ("mobilenetv2_100", ("stem", *(f"blocks.{number}" for number in range(7)))),
        ("convnext_tiny", ("stem", *(f"stages.{number}" for number in range(4)))),
        ("swin_tiny_patch4_window7_224", ("stem", *(f"layers.{number}" for number in range(4)))),
        ("test_vit", ("stem", *(f"blocks.{number}" for number in range(6)))),
        ("sortal_small", ("stem", *(f"stages.{number}" for number in range(3)))),
        ("torchvision:resnet18", ("stem", *(f"features.{number}" for number in range(4, 8)))),
    ],
)
def test_stages_are_named_as_the_authors_do(name: str, stages: tuple[str, ...]) -> None:
    network = create_on_meta(name, classes=3)
    assert network.stages() == stages
    members = [member for group in find_stages(network.backbone).values() for member in group]
    tensors = {*dict(network.backbone.named_parameters()), *dict(network.backbone.named_buffers())}
    assert len(members) == len(set(members))
    assert set(members) == tensors


def test_each_parameter_knows_its_stage() -> None:
    network = create_on_meta("resnet18", classes=3)
    found = network.parameter_stages()
    assert found["backbone.body.conv1.weight"] == found["backbone.body.bn1.bias"] == 0
    assert found["backbone.body.layer3.0.conv1.weight"] == 3
    assert found["head.1.weight"] == 5
    assert list(found) == [name for name, _ in network.named_parameters()]


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "sortal_tiny"])
@pytest.mark.parametrize("keep_last", [0, 1, 2, "all"])
def test_exactly_the_last_stages_and_the_head_learn(name: str, keep_last: int | str) -> None:
    network = _network(name)
    network.freeze_stages(keep_last)  # type: ignore[arg-type]
    stages = len(network.stages())
    first = 0 if keep_last == "all" else stages - int(keep_last)
    expected = {name for name, stage in network.parameter_stages().items() if stage >= first}
    assert {name for name, p in network.named_parameters() if p.requires_grad} == expected


def test_frozen_stages_keep_weights_and_statistics_and_a_newly_unfrozen_one_changes() -> None:
    network = _network("test_resnet")
    network.freeze_stages(1)
    changed = _step(network)
    assert {name.split(".")[2] for name in changed if name.startswith("backbone.")} == {"layer4"}
    assert "backbone.body.layer4.0.bn1.running_mean" in changed
    assert "head.1.weight" in changed
    network.freeze_stages(2)
    changed = _step(network)
    assert {name.split(".")[2] for name in changed if name.startswith("backbone.")} == {"layer3", "layer4"}
    assert {"backbone.body.layer3.0.conv1.weight", "backbone.body.layer3.0.bn1.running_mean"} <= changed
    network.freeze_stages(0)
    assert _step(network) == {"head.1.weight", "head.1.bias"}


def test_frozen_stages_and_frozen_statistics_go_together() -> None:
    network = _network("test_resnet")
    network.freeze_stages(1)
    network.freeze_statistics()
    assert not any("running" in name for name in _step(network))
    network.unfreeze()
    changed = _step(network)
    assert {"backbone.body.bn1.running_mean", "backbone.body.layer1.0.conv1.weight"} <= changed


def test_more_stages_than_there_are_means_all_of_them() -> None:
    network = _network("sortal_tiny")
    network.freeze_stages(99)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not network.backbone_frozen


def test_what_a_backbone_was_built_with_as_fixed_stays_fixed() -> None:
    network = _network("sortal_tiny")
    network.backbone.stem.conv.weight.requires_grad_(requires_grad=False)
    fixed = Network(
        network.backbone,
        architecture="sortal_tiny",
        arguments={},
        identity=(),
        classes=3,
        dropout=0.0,
        widths=network.widths,
        wiring=network.wiring,
    )
    fixed.freeze_stages(1)
    fixed.freeze_stages("all")
    assert "backbone.stem.conv.weight" not in _step(fixed)
