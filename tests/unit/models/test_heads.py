"""Heads, attention, views and stochastic depth: layers, widths, formulas, and what a bundle rebuilds."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sortal.core.errors import InternalError, WeightsError
from sortal.core.manifest import ModelSpec
from sortal.models.attention import Cbam
from sortal.models.backbones import create, create_on_meta, load_network, record
from sortal.models.heads import MultiScaleHead, Wiring
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.weights import save_weights

VARIANTS: dict[str, dict[str, object]] = {
    "mlp": {"head": "mlp", "hidden": 24, "dropout": 0.5},
    "fixed": {"head": "multi_scale", "fusion": 0.6, "views": "mirror"},
    "learned": {"head": "multi_scale", "fusion": "learned"},
    "attention": {"attention": "cbam", "views": "mirror"},
    "early attention": {"attention": "cbam", "attention_stage": 1, "head": "mlp"},
}


def _network(name: str = "sortal_tiny", *, size: tuple[int, int] = (32, 32), **options: object) -> Network:
    source = ModelSource(name=name, architecture=name)
    return create(source, classes=5, size=size, **options)  # type: ignore[arg-type]


def _images(count: int = 3, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def _disturb(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def test_an_mlp_head_on_2048_numbers_is_2048_1024_relu_dropout_classes() -> None:
    head = create_on_meta("resnet50", classes=7, dropout=0.5, wiring=Wiring(head="mlp")).head
    assert isinstance(head, nn.Sequential)
    first, activation, dropout, last = head
    assert (first.in_features, first.out_features, last.in_features, last.out_features) == (2048, 1024, 1024, 7)
    assert isinstance(activation, nn.ReLU)
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.5


def test_a_multi_scale_head_is_as_wide_as_the_stages_it_taps() -> None:
    head = create_on_meta("convnext_tiny", classes=208, wiring=Wiring(head="multi_scale")).head
    assert isinstance(head, MultiScaleHead)
    assert head.main[-1].weight.shape == (208, 768)
    assert head.reduce.weight.shape == (256, 384, 1, 1)
    assert head.middle.weight.shape == (208, 256)


@pytest.mark.parametrize("fusion", [0.7, "learned"])
def test_fused_logits_are_the_weighted_sum_of_two_branches_of_real_stages(fusion: object) -> None:
    network = _network("test_resnet", size=(64, 64), head="multi_scale", fusion=fusion).eval()
    assert isinstance(network.head, MultiScaleHead)
    stage: list[Tensor] = []
    network.backbone.body.layer3.register_forward_hook(lambda _m, _x, output: stage.append(output))
    images = _images(size=64)
    with torch.no_grad():
        (fused, main, middle), embedding = network.training_outputs(images)
        side = network.head.middle(network.head.reduce(stage[0]).mean((2, 3)))
    assert torch.allclose(middle, side)
    assert torch.allclose(main, network.linear(embedding))
    assert torch.allclose(fused, 0.7 * main + 0.3 * middle, atol=1e-6)
    assert torch.equal(network(images)[0], fused)


def test_a_learned_share_stays_between_0_and_1_and_learns() -> None:
    network = _network(head="multi_scale", fusion="learned")
    assert isinstance(network.head, MultiScaleHead)
    logits = network.training_logits(_images(4))
    assert len(logits) == 3
    sum(nn.functional.cross_entropy(one, torch.arange(4)) for one in logits).backward()  # type: ignore[union-attr]
    assert network.head.share_logit.grad.abs() > 0
    assert network.head.reduce.weight.grad.abs().sum() > 0
    with torch.no_grad():
        network.head.share_logit.fill_(12.0)
        assert 0.99 < float(network.head.share) < 1.0


@pytest.mark.parametrize("name", ["test_vit", "test_coatnet", "test_convnext", "test_efficientnet", "test_mambaout"])
def test_tapping_a_middle_stage_changes_nothing_else(name: str) -> None:
    backbone = _network(name, size=(64, 96), head="multi_scale").backbone.eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        embedding, feature_map = backbone(images)
        again, map_again, middle = backbone.forward_with_middle(images)
    assert torch.equal(embedding, again)
    assert torch.equal(feature_map, map_again)
    assert middle.shape[2] >= feature_map.shape[2]
    assert middle.shape[3] > middle.shape[2]


@pytest.mark.parametrize("side", [32, 45, 64])
def test_any_resolution_gives_one_vector(side: int) -> None:
    network = _network(head="multi_scale").eval()
    assert network(_images(2, side))[0].shape == (2, 5)
    assert network.embed(_images(2, side)).shape == (2, network.embedding_dim)


def test_a_backbone_without_stages_has_no_multi_scale_head() -> None:
    with pytest.raises(WeightsError, match="multi_scale"):
        _network("lenet5", head="multi_scale")
    with pytest.raises(WeightsError, match="mlp"):
        _network(head="attention")


def test_attention_starts_as_the_identity_and_follows_the_formula() -> None:
    cbam, x = Cbam(8), torch.randn(2, 8, 5, 4)
    assert torch.equal(cbam(x), x)
    _disturb(cbam)
    channel = cbam.channel
    pooled = [channel.expand(channel.reduce(pool).relu()) for pool in (x.mean((2, 3)), x.flatten(2).max(2).values)]
    y = x * (2 * torch.sigmoid(pooled[0] + pooled[1])).view(2, 8, 1, 1)
    maps = torch.stack([y.mean(1), y.max(1).values], 1)
    expected = y * (
        2 * torch.sigmoid(nn.functional.conv2d(maps, cbam.spatial.conv.weight, cbam.spatial.conv.bias, padding=3))
    )
    assert torch.allclose(cbam(x), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "stage"), [("sortal_tiny", 1), ("test_resnet", 2), ("test_efficientnet", None)])
def test_attention_acts_behind_its_stage(name: str, stage: int | None) -> None:
    plain = _network(name, size=(64, 64)).eval()
    network = _network(name, size=(64, 64), attention="cbam", attention_stage=stage).eval()
    images = _images(size=64)
    with torch.no_grad():
        assert torch.equal(network(images)[1], plain(images)[1])
        _disturb(network.attention)  # type: ignore[arg-type]
        assert not torch.allclose(network(images)[1], plain(images)[1])
        other = copy.deepcopy(network)
        assert torch.equal(other(images)[0], network(images)[0])
        nn.init.zeros_(other.attention.spatial.conv.weight)  # type: ignore[union-attr, arg-type]
        assert not torch.equal(other(images)[1], network(images)[1])


def test_attention_learns_with_the_head_on_a_frozen_backbone() -> None:
    network = _network(attention="cbam")
    network.freeze_backbone()
    network.train()
    nn.functional.cross_entropy(network(_images(4))[0], torch.arange(4)).backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in network.named_parameters() if not name.startswith("backbone.")}
    assert {id(p) for p in network.head_parameters()} == {id(p) for p in network.parameters() if p.requires_grad}


@pytest.mark.parametrize(("name", "stage"), [("test_vit", None), ("sortal_tiny", 7), ("test_mambaout", None)])
def test_attention_is_refused_where_there_are_no_maps(name: str, stage: int | None) -> None:
    with pytest.raises(WeightsError, match="stage"):
        _network(name, size=(64, 64), attention="cbam", attention_stage=stage)


@pytest.mark.parametrize("head", ["linear", "multi_scale"])
def test_mirrored_views_average_the_logits_and_the_maps_as_the_image_lies(head: str) -> None:
    single, mirrored = _network(head=head).eval(), _network(head=head, views="mirror").eval()
    images = _images()
    with torch.no_grad():
        plain, flipped = single(images), single(images.flip(3))
        logits, embedding, feature_map = mirrored(images)
    assert torch.allclose(logits, (plain[0] + flipped[0]) / 2, atol=1e-6)
    assert torch.allclose(embedding, (plain[1] + flipped[1]) / 2, atol=1e-6)
    assert torch.allclose(feature_map, (plain[2] + flipped[2].flip(3)) / 2, atol=1e-6)
    assert torch.equal(mirrored.embed(images), embedding)


def test_training_sees_single_views() -> None:
    single, mirrored = _network().train(), _network(views="mirror").train()
    assert torch.equal(single(_images())[0], mirrored(_images())[0])


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_variant_is_rebuilt_from_what_a_bundle_records(variant: dict[str, object], tmp_path: Path) -> None:
    network = _network(**variant).eval()
    _disturb(network.head)
    save_weights(network, tmp_path / "weights.safetensors")
    recorded = ModelSpec.model_validate_json(record(network, source="a test").model_dump_json())
    again = load_network(recorded, tmp_path / "weights.safetensors")
    for mine, theirs in zip(network(_images()), again(_images()), strict=True):
        assert torch.equal(mine, theirs)
    assert record(again, source="a test") == recorded


def test_a_plain_network_records_nothing_that_the_first_format_lacked() -> None:
    recorded = record(_network()).model_dump(mode="json")
    known = {"architecture", "arguments", "identity", "head", "classes", "embedding", "parameters", "source"}
    assert set(recorded) == known


def test_a_fitted_linear_layer_goes_where_the_head_has_a_place_for_it() -> None:
    fitted = nn.Linear(160, 9)
    plain, both, mlp = _network(), _network(head="multi_scale"), _network(head="mlp")
    assert (plain.linear_head, both.linear_head, mlp.linear_head) == (True, False, False)
    assert plain.set_head(fitted)
    assert both.set_head(fitted)
    assert plain.linear is both.linear is fitted
    assert both(_images())[0].shape == (3, 9)
    before = mlp.linear.weight.clone()
    assert not mlp.set_head(fitted)
    assert torch.equal(mlp.linear.weight, before)
    with pytest.raises(InternalError, match="embedding"):
        mlp.set_head(nn.Linear(3, 9))
    mlp.replace_head(9, dropout=0.2)
    assert mlp(_images())[0].shape == (3, 9)


def test_weights_with_another_head_or_without_attention_still_start_a_training(tmp_path: Path) -> None:
    old = _network(seed=1)
    save_weights(old, tmp_path / "old.safetensors")
    source = ModelSource(name="t", architecture="sortal_tiny", weights_path=tmp_path / "old.safetensors")
    for options in ({"head": "mlp"}, {"head": "multi_scale"}, {"attention": "cbam"}):
        new = create(source, classes=5, size=(32, 32), seed=2, **options)  # type: ignore[arg-type]
        assert torch.equal(new.backbone.stem.conv.weight, old.backbone.stem.conv.weight)
        assert torch.equal(new.linear.weight, old.linear.weight) is ("attention" in options)


@pytest.mark.parametrize("name", ["sortal_tiny", "test_resnet", "test_vit"])
def test_stochastic_depth_acts_in_training_alone_and_is_not_recorded(name: str) -> None:
    plain, deep = _network(name, size=(64, 64)), _network(name, size=(64, 64), drop_path=0.9)
    images = _images(8, 64)
    assert plain.arguments == deep.arguments
    for module in [*plain.modules(), *deep.modules()]:  # branches that begin at zero cannot be missed
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    with torch.no_grad():
        assert torch.equal(plain.eval()(images)[0], deep.eval()(images)[0])
        deep.train()
        torch.manual_seed(0)
        assert not torch.equal(deep(images)[0], deep(images)[0])


@pytest.mark.parametrize("name", ["lenet5", "torchvision:resnet18", "vgg11"])
def test_stochastic_depth_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(WeightsError, match="stochastic depth"):
        _network(name, drop_path=0.1)
