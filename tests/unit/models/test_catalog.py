"""The catalog: exact counts, suggestions, and the listing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sortal.core.errors import WeightsError
from sortal.models.anatomy import Anatomy
from sortal.models.catalog import describe, list_models
from sortal.models.listing import models_report
from sortal.models.recommended import RECOMMENDED


@pytest.mark.parametrize(
    ("name", "with_head_m", "without_head_m", "embedding"),
    [
        ("resnet18", 11.69, 11.18, 512),
        ("resnet50", 25.56, 23.51, 2048),
        ("resnet152", 60.19, 58.14, 2048),
        ("mobilenetv3_small_100", 2.54, 1.52, 1024),
        ("mobilenetv3_large_100", 5.48, 4.20, 1280),
        ("efficientnet_b0", 5.29, 4.01, 1280),
        ("efficientnet_b3", 12.23, 10.70, 1536),
        ("convnext_tiny", 28.59, 27.82, 768),
        ("vit_base_patch16_224", 86.57, 85.80, 768),
    ],
)
def test_parameters_are_counted_with_and_without_head(
    name: str, with_head_m: float, without_head_m: float, embedding: int
) -> None:
    cost = describe(name)
    assert round(cost.parameters / 1e6, 2) == with_head_m
    assert round(cost.parameters_without_head / 1e6, 2) == without_head_m
    assert cost.embedding_dim == embedding
    assert cost.parameters - cost.parameters_without_head == 1000 * (embedding + 1)


def test_the_head_follows_the_classes_and_the_work_follows_the_size() -> None:
    whole, half = describe("resnet18", classes=12, size=(224, 224)), describe("resnet18", classes=12, size=(112, 112))
    assert whole.parameters == whole.parameters_without_head + 12 * 513
    assert abs(whole.macs / 1.814e9 - 1) < 0.01
    assert 0.24 < half.macs / whole.macs < 0.27
    assert whole.size_mb == pytest.approx(whole.parameters * 4e-6)


def test_an_unknown_architecture_is_not_described() -> None:
    with pytest.raises(WeightsError, match="unknown architecture"):
        describe("resnet_fifty")


@pytest.mark.parametrize(
    ("name", "depth", "normalization", "skip", "depthwise"),
    [
        ("resnet18", 18, "batch", "additive x8", 0),
        ("resnet50", 50, "batch", "additive x16", 0),
        ("densenet121", 121, "batch", "concatenating x58", 0),
        ("mobilenetv2_100", 53, "batch", "additive x10", 17),
        ("test_vit", 26, "layer", "additive x12", 0),
        ("torchvision:alexnet", 8, "none", "none", 0),
    ],
)
def test_depth_normalization_and_skips_are_read_from_the_computation(
    name: str, depth: int, normalization: str, skip: str, depthwise: int
) -> None:
    expected = Anatomy(depth=depth, normalization=normalization, skip=skip, depthwise=depthwise)
    assert describe(name).anatomy == expected


def test_alexnet_keeps_its_hidden_layers() -> None:
    cost = describe("torchvision:alexnet")
    assert round(cost.parameters / 1e6, 1) == 61.1
    assert cost.embedding_dim == 4096
    assert cost.parameters - cost.parameters_without_head == 1000 * 4097


def test_transformers_come_with_a_warning_against_training_from_scratch() -> None:
    assert all("pretrained" in item.why for item in RECOMMENDED if "Transformer" in item.family)


def test_the_listing_shows_cards_with_licence_and_hash(
    make_card: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_card()
    monkeypatch.setenv("SORTAL_ZOO", str(path.parent))
    row = list_models()[0]
    assert (row.name, row.licence, row.path) == ("sortal_tiny", "Apache-2.0", str(path))
    assert row.sha256 is not None
    report = models_report()
    text = report.to_markdown()
    assert row.sha256[:12] in text
    assert all(item.name in text for item in RECOMMENDED)
    columns, rows = report.tables["architectures"].columns, report.tables["architectures"].rows
    resnet = dict(zip(columns, next(row for row in rows if row[0] == "resnet50"), strict=True))
    assert (resnet["depth"], resnet["normalization"], resnet["skip"]) == (50, "batch", "additive x16")
    assert (resnet["ImageNet top-1 %, float32"], resnet["of weights"]) == (81.2, "a1_in1k, 288 px")
    assert "float32" in report.provenance["top-1"]
