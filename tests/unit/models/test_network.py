"""Network and its creation: outputs, freezing, groups, randomness, sizes, and writing and reading it again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sortal.core.errors import InternalError, WeightsError
from sortal.core.manifest import ModelSpec
from sortal.models.backbones import create, load_network, record
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.weights import load_weights, save_weights, weights_bytes


def _network(name: str = "sortal_tiny", *, classes: int = 5, **options: object) -> Network:
    source = ModelSource(name=name, architecture=name, arguments=dict(options.pop("arguments", {})))  # type: ignore[call-overload]
    return create(source, classes=classes, size=options.pop("size", (32, 32)), **options)  # type: ignore[arg-type]


def _images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _changed(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second, other = _network(seed=3), _network(seed=3), _network(seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weights_bytes(first) == weights_bytes(second) != weights_bytes(other)


@pytest.mark.parametrize("name", ["sortal_tiny", "test_resnet", "test_vit"])
def test_freezing_leaves_all_but_the_head_untouched_in_training_mode(name: str) -> None:
    network = _network(name, dropout=0.2)
    network.freeze_backbone()
    network.train()
    before = _state(network)
    optimizer = torch.optim.SGD(network.parameter_groups(0.01), lr=0.5)
    for _ in range(2):
        logits, _, _ = network(_images(8, 3, 32, 32) * 5 + 3)
        nn.functional.cross_entropy(logits, torch.arange(8) % 5).backward()
        optimizer.step()
    assert _changed(network, before) == {"head.1.weight", "head.1.bias"}
    assert network.head.training
    assert not any(module.training for module in network.backbone.modules())


def test_unfreezing_lets_statistics_and_weights_move_again() -> None:
    network = _network()
    network.freeze_backbone()
    network.train()
    network.unfreeze()
    before = _state(network)
    network(_images(8, 3, 32, 32) * 5 + 3)
    assert "backbone.stem.norm.running_mean" in _changed(network, before)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_norms_biases_and_position_tables_are_not_decayed() -> None:
    network = _network("test_vit")
    groups = {group["weight_decay"]: {id(p) for p in group["params"]} for group in network.parameter_groups(0.05)}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed = {names[key] for key in groups[0.05]}
    spared = {names[key] for key in groups[0.0]}
    assert len(decayed) + len(spared) == len(names)
    assert "head.1.weight" in decayed
    assert {"head.1.bias", "backbone.body.pos_embed", "backbone.body.norm.weight"} <= spared
    assert all(parameter.ndim > 1 for name, parameter in network.named_parameters() if name in decayed)


def test_the_head_can_be_replaced_by_one_for_other_classes() -> None:
    network = _network()
    network.set_head(nn.Linear(network.embedding_dim, 9))
    assert network.classes == 9
    assert network(_images(2, 3, 32, 32))[0].shape == (2, 9)
    with pytest.raises(InternalError, match="embedding"):
        network.set_head(nn.Linear(3, 9))


def test_logits_are_the_linear_layer_of_the_embedding() -> None:
    network = _network().eval()
    images = _images(3, 3, 32, 32)
    logits, embedding, feature_map = network(images)
    assert torch.allclose(network.linear(embedding), logits)
    assert torch.equal(network.embed(images), embedding)
    assert torch.allclose(feature_map.mean((2, 3)), embedding, atol=1e-6)


@pytest.mark.parametrize("name", ["sortal_small", "mobilenetv3_small_100", "test_vit"])
def test_a_saved_network_reopens_with_the_same_outputs(name: str, tmp_path: Path) -> None:
    network = _network(name, channels=1, dropout=0.3, size=(48, 40)).eval()
    save_weights(network, tmp_path / "weights.safetensors")
    again = load_network(record(network), tmp_path / "weights.safetensors")
    images = _images(2, 1, 48, 40)
    assert not again.training
    for mine, theirs in zip(network(images), again(images), strict=True):
        assert torch.equal(mine, theirs)
    with pytest.raises(WeightsError, match="do not fit"):
        load_weights(_network(name), tmp_path / "weights.safetensors")


def test_swin_runs_on_sizes_that_its_patches_and_windows_do_not_divide() -> None:
    network = _network("swin_tiny_patch4_window7_224", size=(90, 70), arguments={"depths": [1, 1, 1, 1]}).eval()
    with torch.no_grad():
        assert network(_images(1, 3, 90, 70))[2].shape == (1, 768, 3, 3)
        assert network(_images(1, 3, 122, 65))[2].shape == (1, 768, 4, 3)


def test_a_vision_transformer_takes_another_resolution_by_interpolating_its_position_table() -> None:
    network = _network("test_vit", size=(64, 64)).eval()
    table = network.backbone.body.pos_embed
    assert isinstance(table, nn.Parameter)
    nn.init.normal_(table, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert network(_images(1, 3, 64, 64))[2].shape == (1, 64, 4, 4)
        with_positions, _, larger = network(_images(1, 3, 96, 80))
        assert larger.shape == (1, 64, 6, 5)
        table.zero_()
        assert not torch.allclose(network(_images(1, 3, 96, 80))[0], with_positions)


def test_torchvision_networks_answer_the_same_way() -> None:
    network = _network("torchvision:mobilenet_v3_small").eval()
    logits, embedding, feature_map = network(_images(2, 3, 64, 64))
    assert (logits.shape, embedding.shape, feature_map.shape) == ((2, 5), (2, 1024), (2, 576, 2, 2))
    with pytest.raises(WeightsError, match="convolutional"):
        _network("torchvision:vit_b_16")


@pytest.mark.parametrize("argument", ["pretrained", "checkpoint_path", "pretrained_cfg_overlay", "num_classes"])
def test_arguments_that_would_load_or_contradict_are_refused(argument: str) -> None:
    for name in ("resnet18", "sortal_tiny", "torchvision:resnet18"):
        with pytest.raises(WeightsError, match=argument):
            _network(name, arguments={argument: True})


@pytest.mark.parametrize("name", ["resnet18", "sortal_tiny"])
def test_arguments_that_the_architecture_does_not_take_are_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="wdith"):
        _network(name, arguments={"wdith": 2})


def test_a_sub_module_that_does_not_exist_cannot_become_the_identity() -> None:
    source = ModelSource(name="resnet18", architecture="resnet18", identity=("layer9.act",))
    with pytest.raises(WeightsError, match=r"layer9\.act"):
        create(source, classes=2)


def test_a_bundle_cannot_name_an_architecture_from_elsewhere(tmp_path: Path) -> None:
    spec = ModelSpec(architecture="hf-hub:someone/net", classes=2, embedding=1, parameters=0)
    with pytest.raises(WeightsError, match="unknown architecture"):
        load_network(spec, tmp_path / "weights.safetensors")


def test_frozen_statistics_stay_while_the_scale_is_learned() -> None:
    network = _network("sortal_tiny")
    network.freeze_statistics()
    network.train()
    norm = next(module for module in network.backbone.modules() if isinstance(module, nn.BatchNorm2d))
    mean, scale = norm.running_mean.clone(), norm.weight.detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.rand(4, 3, 32, 32) + 1.0)[0].square().sum().backward()
    optimizer.step()
    assert torch.equal(norm.running_mean, mean)
    assert not torch.equal(norm.weight, scale)
    network.unfreeze()
    network.train()
    network(torch.rand(4, 3, 32, 32) + 1.0)
    assert not torch.equal(norm.running_mean, mean)


def test_a_bundle_from_before_hidden_layers_were_kept_still_opens(tmp_path: Path) -> None:
    name = "torchvision:mobilenet_v3_small"
    state = {key: value for key, value in _state(_network(name)).items() if not key.startswith("backbone.classifier.")}
    save_file({**state, "head.1.weight": torch.zeros(5, 576)}, tmp_path / "old.safetensors")
    old = ModelSpec(architecture=name, classes=5, embedding=576, parameters=0)
    assert load_network(old, tmp_path / "old.safetensors").embed(_images(1, 3, 64, 64)).shape == (1, 576)


def test_a_hybrid_of_convolutions_and_attention_learns() -> None:
    network = _network("test_coatnet", classes=2, size=(32, 32), seed=1).train()
    kinds = {type(module).__name__.removesuffix("Cl").removesuffix("2d") for module in network.modules()}
    assert {"Conv", "Attention"} <= kinds
    labels = torch.arange(16) % 2
    images = _images(16, 3, 32, 32) + 2.0 * labels.view(-1, 1, 1, 1)
    optimizer = torch.optim.AdamW(network.parameter_groups(0.01), lr=3e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images)[0], labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
