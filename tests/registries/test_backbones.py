"""The contract of every backbone: our own, and one of each kind that timm builds differently."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sortal.models import BACKBONES
from sortal.models.backbones import create
from sortal.models.resolve import ModelSource

KINDS = [
    "mobilenetv3_small_100",
    "test_byobnet",
    "test_coatnet",
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_resnet",
    "test_vit",
]
NAMES = [*BACKBONES.names(), *KINDS]
CLASSES, HEIGHT, WIDTH = 5, 64, 96


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("channels", [1, 3])
def test_three_outputs_of_the_declared_shapes_that_depend_on_no_neighbor(name: str, channels: int) -> None:
    source = ModelSource(name=name, architecture=name)
    network = create(source, classes=CLASSES, channels=channels, dropout=0.5, size=(HEIGHT, WIDTH)).eval()
    images = torch.randn(3, channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, embedding, feature_map = network(images)
        alone = network(images[1:2])
    assert logits.shape == (3, CLASSES)
    assert embedding.shape == (3, network.embedding_dim)
    assert feature_map.shape[:2] == (3, network.feature_dim)
    assert 1 < feature_map.shape[3] / feature_map.shape[2] <= 2
    for together, single in zip((logits, embedding, feature_map), alone, strict=True):
        assert torch.allclose(together[1:2], single, rtol=1e-3, atol=1e-4)


def test_one_step_moves_every_parameter(name: str) -> None:
    network = create(ModelSource(name=name, architecture=name), classes=CLASSES, size=(HEIGHT, WIDTH), seed=1).train()
    images = torch.randn(4, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    logits, _, _ = network(images)
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    without = [label for label, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("own", BACKBONES.names())
def test_a_graph_for_any_batch_size_can_be_taken(own: str) -> None:
    network = create(ModelSource(name=own, architecture=own), classes=CLASSES, size=(48, 48)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (torch.zeros(2, 3, 48, 48),), dynamic_shapes=({0: batch},))
    images = torch.randn(5, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for taken, live in zip(program.module()(images), network(images), strict=True):
            assert torch.allclose(taken, live, atol=1e-5)
