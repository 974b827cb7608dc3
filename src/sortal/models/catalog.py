"""What networks cost: counted exactly on the meta device, timed on this machine when asked, listed with their licence.

`sortal models` prints `list_models`. Nothing is downloaded. The table of recommendations is `models.recommended`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

import torch

from sortal.models import BACKBONES
from sortal.models.anatomy import Anatomy, read_anatomy
from sortal.models.backbones import create, create_on_meta
from sortal.models.cards import zoo_cards
from sortal.models.published import check_architecture
from sortal.models.recommended import PUBLISHED_IN, RECOMMENDED, Recommended
from sortal.models.resolve import ModelSource


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What an architecture costs for `classes` classes at `size`; `macs` are multiply-accumulates of one image."""

    name: str
    classes: int
    size: tuple[int, int]
    parameters: int
    parameters_without_head: int
    embedding_dim: int
    macs: int
    anatomy: Anatomy

    @property
    def size_mb(self) -> float:
        """Of the float32 weights, in 10^6 bytes."""
        return 4 * self.parameters / 1e6


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One line of `sortal models`. `sha256` and `path` belong to a weights card of the zoo."""

    name: str
    family: str
    cost: ModelCost
    top1_percent: float | None
    published: str
    weights: str
    """Tag and size of the published weights that `top1_percent` belongs to."""
    licence: str
    sha256: str | None = None
    path: str | None = None
    why: str = ""


@lru_cache(maxsize=256)
def describe(name: str, *, classes: int = 1000, size: tuple[int, int] | None = None) -> ModelCost:
    """Count an architecture exactly, without building its numbers. `size` (height, width) is the native one if None.

    Raises WeightsError for an unknown architecture.
    """
    check_architecture(name)
    size = size or _native_size(name)
    network = create_on_meta(name, classes=classes, size=size).eval()
    image = torch.zeros(1, 3, *size, device="meta", requires_grad=True)
    macs, logits = _count(network, image)
    return ModelCost(
        name=name,
        classes=classes,
        size=size,
        parameters=network.parameter_count,
        parameters_without_head=sum(parameter.numel() for parameter in network.backbone_parameters()),
        embedding_dim=network.embedding_dim,
        macs=macs,
        anatomy=read_anatomy(network, image, logits[0]),
    )


def count_macs(network: torch.nn.Module, images: torch.Tensor) -> int:
    """Multiply-accumulates of convolutions, matrix products and attention in one forward pass over `images`."""
    with torch.no_grad():
        return _count(network, images)[0]


def measure_latency_ms(name: str, *, size: tuple[int, int] | None = None, repeats: int = 20) -> float:
    """Median time of one image through the network in torch on this CPU, in milliseconds, after five warm-up passes."""
    size = size or _native_size(name)
    network = create(ModelSource(name=name, architecture=name), classes=10, size=size).eval()
    image = torch.zeros(1, 3, *size)
    times_ms = []
    with torch.inference_mode():
        for _ in range(5 + repeats):
            start = time.perf_counter()
            network(image)
            times_ms.append(1000 * (time.perf_counter() - start))
    return median(times_ms[5:])


def list_models() -> tuple[ModelRow, ...]:
    """Weights cards of the zoo first, then the recommended architectures. Raises WeightsError for a broken card."""
    return (*_zoo_rows(), *map(_recommended_row, RECOMMENDED))


def _count(network: torch.nn.Module, images: torch.Tensor) -> tuple[int, Any]:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        outputs = network(images)
    return int(counter.get_total_flops()) // 2, outputs


def _zoo_rows() -> list[ModelRow]:
    families = {item.name: item.family for item in RECOMMENDED}
    return [
        ModelRow(
            name=stored.card.architecture,
            family=families.get(stored.card.architecture, "timm"),
            cost=describe(stored.card.architecture),
            top1_percent=None,
            published=stored.card.source,
            weights="",
            licence=stored.card.licence,
            sha256=stored.card.sha256,
            path=str(stored.path),
        )
        for stored in zoo_cards()
    ]


def _recommended_row(item: Recommended) -> ModelRow:
    own = item.name in BACKBONES.names()
    return ModelRow(
        name=item.name,
        family=item.family,
        cost=describe(item.name),
        top1_percent=item.top1_percent,
        published=f"{item.name}.{item.weights} at {item.tested_px} px: {PUBLISHED_IN}" if item.weights else "",
        weights=f"{item.weights}, {item.tested_px} px" if item.weights else "",
        licence="no pretrained weights" if own else _licence(item),
        why=item.why,
    )


def _licence(item: Recommended) -> str:
    import timm

    if item.weights is None:
        return "no published weights; a weights card may bring some"
    published = timm.get_pretrained_cfg(f"{item.name}.{item.weights}")
    return str(published.license) if published else "unknown"


def _native_size(name: str) -> tuple[int, int]:
    if name == "sortal_small":
        return (96, 96)
    if name in ("lenet5", "sortal_quick", "sortal_tiny"):
        return (32, 32)
    import timm

    published = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
    return (published.input_size[1], published.input_size[2]) if published else (224, 224)
