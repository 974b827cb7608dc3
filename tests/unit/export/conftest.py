"""A network small enough to export in a second, with what real ones have: batch norm, in-place activation, dropout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.export.graph import export_onnx
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.runtime.metadata import ArtifactInfo, to_metadata


class Tiny(nn.Module):
    def __init__(self, classes: int = 4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU6(inplace=True))
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(12, classes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feature_map = self.body(self.stem(x))
        embedding = feature_map.mean((2, 3))
        return self.head(embedding), embedding, feature_map


@pytest.fixture(scope="session")
def spec() -> PreprocessSpec:
    return PreprocessSpec(size=(24, 20), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))


@pytest.fixture(scope="session")
def labels() -> LabelSet:
    return LabelSet(names=("bolt", "nut", "washer", "gear"))


@pytest.fixture(scope="session")
def network() -> Tiny:
    """In training mode, with batch statistics that are not the initial ones."""
    torch.manual_seed(3)
    made = Tiny().train()
    with torch.no_grad():
        for _ in range(4):
            made(torch.randn(16, 3, 24, 20))
        made.head[1].weight.mul_(6.0)
    return made


@pytest.fixture(scope="session")
def pixels() -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (40, 24, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, network: Tiny, spec: PreprocessSpec, labels: LabelSet) -> Path:
    info = ArtifactInfo(
        labels=labels, preprocess=spec, decision=DecisionSpec(), bundle_id="0" * 64, licence="Apache-2.0"
    )
    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    return export_onnx(network, spec, file, metadata=to_metadata(info))


@pytest.fixture(scope="session", params=[56, 64])
def small_vit(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, labels: LabelSet
) -> tuple[Network, Path]:
    """A ViT and its file for images of 56 px. Its position embedding, for images of that size or of another, is larger
    than the exporter folds by itself."""
    arguments = {"patch_size": 4, "img_size": request.param, "embed_dim": 48, "depth": 1, "num_heads": 2}
    source = ModelSource(name="vit", architecture="vit_tiny_patch16_224", arguments=arguments)
    made = create(source, classes=len(labels), size=(56, 56))
    spec = PreprocessSpec(size=(56, 56), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    info = ArtifactInfo(labels=labels, preprocess=spec, decision=DecisionSpec(), bundle_id="0" * 64, licence="MIT")
    file = tmp_path_factory.mktemp("vit") / "model.onnx"
    return made, export_onnx(made, spec, file, metadata=to_metadata(info))
