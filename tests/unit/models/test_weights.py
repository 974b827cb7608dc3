"""Loading published weights: what fits, what is adapted, what is refused and how that is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from sortal.core.errors import WeightsError
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.weights import save_weights

State = dict[str, torch.Tensor]


def _published(name: str, classes: int = 7) -> State:
    """What a hub would serve for `name`, with a classifier of `classes` classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return {key: value.clone() for key, value in timm.create_model(name, num_classes=classes).state_dict().items()}


def _load(name: str, state: State, path: Path, *, classes: int, channels: int = 3, size: int = 160) -> Network:
    save_file(state, path)
    source = ModelSource(name=name, architecture=name, weights_path=path)
    return create(source, classes=classes, channels=channels, size=(size, size), seed=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "published.safetensors"


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_logits_equal_those_of_the_published_network(name: str, path: Path) -> None:
    state = _published(name)
    original = timm.create_model(name, num_classes=7).eval()
    original.load_state_dict(state)
    network = _load(name, state, path, classes=7).eval()
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(images)[0], original(images), atol=1e-5)


def test_the_classifier_is_dropped_where_the_classes_differ(path: Path) -> None:
    state = _published("test_resnet")
    network = _load("test_resnet", state, path, classes=3)
    assert network.classes == 3
    assert torch.equal(network.backbone.body.conv1[0].weight, state["conv1.0.weight"])


def test_a_file_without_classifier_is_as_good(path: Path) -> None:
    state = {key: value for key, value in _published("test_resnet").items() if not key.startswith("fc.")}
    network = _load("test_resnet", state, path, classes=3)
    assert torch.equal(network.backbone.body.conv1[0].weight, state["conv1.0.weight"])


def test_one_channel_sums_the_three_of_the_published_weights(path: Path) -> None:
    state = _published("test_resnet")
    network = _load("test_resnet", state, path, classes=3, channels=1)
    assert torch.allclose(network.backbone.body.conv1[0].weight, state["conv1.0.weight"].sum(1, keepdim=True))
    assert network.arguments == {"in_chans": 1}


def test_a_position_table_is_interpolated_to_the_size(path: Path) -> None:
    state = _published("test_vit")
    network = _load("test_vit", state, path, classes=7, size=96)
    assert state["pos_embed"].shape[1] == 101
    assert network.backbone.body.pos_embed.shape[1] == 37
    assert torch.equal(network.backbone.body.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])


def test_a_mismatch_names_the_first_key_of_each_kind(path: Path) -> None:
    state = _published("test_resnet")
    del state["layer1.0.conv1.weight"]
    state["stranger"] = torch.zeros(1)
    state["layer4.0.bn1.weight"] = torch.zeros(3)
    with pytest.raises(WeightsError) as caught:
        _load("test_resnet", state, path, classes=3)
    text = str(caught.value)
    assert "1 missing, first 'layer1.0.conv1.weight'" in text
    assert "1 unexpected, first 'stranger'" in text
    assert "1 of another shape, first 'layer4.0.bn1.weight': (3,), not" in text
    assert "test_resnet" in text
    assert str(path) in text


@pytest.mark.parametrize("classes", [3, 7])
def test_weights_of_another_architecture_never_load_in_part(path: Path, classes: int) -> None:
    with pytest.raises(WeightsError, match="missing"):
        _load("test_resnet", _published("test_vit"), path, classes=classes)


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="safetensors"):
        create(ModelSource(name="a", architecture="sortal_tiny", weights_path=path), classes=2, size=(32, 32))


def test_numbers_that_are_none_are_refused(path: Path) -> None:
    state = _published("test_resnet")
    state["layer1.0.conv1.weight"][0] = float("nan")
    with pytest.raises(WeightsError, match="NaN") as caught:
        _load("test_resnet", state, path, classes=3)
    assert caught.value.received == "layer1.0.conv1.weight"


@pytest.mark.parametrize(("classes", "same_head"), [(4, True), (6, False)])
def test_weights_of_our_own_start_another_training(path: Path, classes: int, *, same_head: bool) -> None:
    source = ModelSource(name="sortal_tiny", architecture="sortal_tiny")
    old = create(source, classes=4, size=(32, 32), seed=1)
    save_weights(old, path)
    new = create(
        ModelSource(name="sortal_tiny", architecture="sortal_tiny", weights_path=path),
        classes=classes,
        size=(32, 32),
        seed=2,
    )
    assert torch.equal(new.backbone.stem.conv.weight, old.backbone.stem.conv.weight)
    assert (new.classes == 4 and torch.equal(new.linear.weight, old.linear.weight)) is same_head


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_converted_torchvision_weights_give_the_logits_of_torchvision(name: str, path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        original = torchvision.models.get_model(name, num_classes=7).eval()
    network = _load(f"torchvision:{name}", dict(original.state_dict()), path, classes=7, size=64).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(images)[0], original(images), atol=1e-5)
