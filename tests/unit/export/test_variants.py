"""Every head, attention and view is inside the exported graph, which answers as the live network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sortal.core.errors import BundleError
from sortal.core.preprocess import PreprocessSpec
from sortal.export.graph import export_onnx
from sortal.export.head import WEIGHT, set_head
from sortal.models.backbones import create
from sortal.models.resolve import ModelSource
from sortal.runtime.engines import ENGINES

SPEC = PreprocessSpec(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize(
    "options",
    [
        {"head": "mlp", "dropout": 0.5, "drop_path": 0.5},
        {"views": "mirror", "attention": "cbam"},
        {"head": "multi_scale", "fusion": "learned", "views": "mirror", "attention": "cbam", "attention_stage": 1},
    ],
    ids=["mlp", "mirror", "multi_scale"],
)
def test_the_graph_of_every_variant_answers_as_the_live_network(options: dict[str, object], tmp_path: Path) -> None:
    source = ModelSource(name="sortal_tiny", architecture="sortal_tiny")
    network = create(source, classes=5, size=(32, 32), **options).train()  # type: ignore[arg-type]
    if network.attention is not None:
        for parameter in network.attention.parameters():
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    file = export_onnx(network, SPEC, tmp_path / "model.onnx")
    assert network.training
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = ENGINES.get("onnxruntime").open(file, threads=1).run(images.numpy())
    with torch.no_grad():
        expected = network.eval()(images)
    for mine, theirs in zip((found.logits, found.embedding, found.feature_map), expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-5)
    _check_graph(onnx.load(file), linear=network.linear_head)
    if not network.linear_head:
        with pytest.raises(BundleError, match="no linear head"):
            set_head(file, np.zeros((5, 160), np.float32), np.zeros(5, np.float32))


def _check_graph(model: onnx.ModelProto, *, linear: bool) -> None:
    """Norms are folded into the convolutions, nothing random is left, and only a linear head is named as one."""
    operations = {node.op_type for node in model.graph.node}
    assert not operations & {"BatchNormalization", "Dropout", "RandomUniform", "RandomUniformLike"}
    assert (WEIGHT in {tensor.name for tensor in model.graph.initializer}) is linear
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
