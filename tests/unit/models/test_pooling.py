from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sortal.core.preprocess import PreprocessSpec
from sortal.export.graph import export_onnx
from sortal.models.backbones import create, load_network, record
from sortal.models.network import Network
from sortal.models.pooling import signed_root, statistics
from sortal.models.resolve import ModelSource
from sortal.runtime.engines import ENGINES

TINY = ModelSource(name="sortal_tiny", architecture="sortal_tiny", arguments={"width": 0.15, "depth": 0.5})


def network(pooling: str, **more: str) -> Network:
    return create(TINY, classes=3, size=(32, 32), pooling=pooling, **more).eval()  # type: ignore[arg-type]


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_statistics_are_means_and_deviations_over_positions() -> None:
    maps = torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    mean, deviation = statistics(maps)
    assert torch.allclose(mean, maps.mean((2, 3)))
    assert torch.allclose(deviation, maps.flatten(2).std(2, correction=0), atol=1e-5)
    tokens = maps.flatten(2).transpose(1, 2)
    assert all(torch.allclose(one, other) for one, other in zip(statistics(tokens), (mean, deviation), strict=True))


def test_the_signed_root_keeps_signs() -> None:
    assert torch.allclose(signed_root(torch.tensor([-4.0, 0.0, 9.0])), torch.tensor([-2.0, 0.0, 3.0]), atol=1e-5)


@torch.no_grad()
def test_an_embedding_of_stages_begins_with_the_root_of_the_plain_one_and_says_its_parts() -> None:
    plain, rich = network("mean"), network("stages")
    rich.load_state_dict({**rich.state_dict(), **{k: v for k, v in plain.state_dict().items() if "head" not in k}})
    embedding = rich.embed(images())
    assert embedding.shape[1] == rich.embedding_dim == sum(rich.pooling.parts)
    own = plain.embed(images())
    assert torch.allclose(embedding[:, : own.shape[1]], signed_root(own), atol=1e-6)
    assert rich.pooling.parts[0] == own.shape[1]
    assert len(rich.pooling.parts) == 1 + 2 * 4


@torch.no_grad()
def test_copies_listen_to_their_own_stages() -> None:
    first = network("stages")
    second = copy.deepcopy(first)
    for parameter in second.backbone.parameters():
        parameter.mul_(1.5)
    before = first.embed(images())
    assert not torch.allclose(second.embed(images()), before)
    assert torch.equal(first.embed(images()), before)


@torch.no_grad()
def test_pooling_can_be_changed_and_takes_a_new_head() -> None:
    changed = network("mean")
    features = changed(images())[2]
    changed.repool("stages", channels=3, size=(32, 32))
    assert changed.linear.in_features == changed.embedding_dim == network("stages").embedding_dim
    assert torch.equal(changed(images())[2], features)


@pytest.mark.parametrize("views", ["single", "mirror"])
def test_the_exported_graph_and_the_rebuilt_bundle_answer_the_same(tmp_path: Path, views: str) -> None:
    made = network("stages", views=views)
    spec = PreprocessSpec(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    engine = ENGINES.get("onnxruntime").open(export_onnx(made, spec, tmp_path / "model.onnx"), threads=1)
    with torch.no_grad():
        logits, embedding, _ = made(images(3))
    found = engine.run(images(3).numpy())
    engine.close()
    assert np.abs(found.embedding - embedding.numpy()).max() < 1e-4
    assert np.abs(found.logits - logits.numpy()).max() < 1e-4
    save_file({k: v.contiguous() for k, v in made.state_dict().items()}, tmp_path / "w.safetensors")
    again = load_network(record(made), tmp_path / "w.safetensors")
    with torch.no_grad():
        assert torch.equal(again(images(3))[0], logits)
