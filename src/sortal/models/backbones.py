"""Create networks: from a ModelSource for training, or from what a bundle records for running.

Random numbers come from the given seed alone, and torch's global generator is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from sortal.core.errors import WeightsError
from sortal.models import BACKBONES
from sortal.models.network import Network, measure_widths
from sortal.models.published import TORCHVISION, check_architecture
from sortal.models.resolve import ModelSource
from sortal.models.weights import load_pretrained, load_weights
from sortal.models.wrapped import (
    TimmBackbone,
    VisionBackbone,
    check_arguments,
    replace_by_identity,
    size_arguments,
    timm_body,
    vision_body,
)

DEFAULT_SIZE = (224, 224)


class Rebuildable(Protocol):
    """What a bundle records of its network (`core.manifest.ModelSpec`)."""

    @property
    def architecture(self) -> str: ...
    @property
    def arguments(self) -> dict[str, Any]: ...
    @property
    def identity(self) -> tuple[str, ...]: ...
    @property
    def classes(self) -> int: ...


def create(
    source: ModelSource,
    *,
    classes: int,
    channels: int = 3,
    dropout: float = 0.0,
    size: tuple[int, int] = DEFAULT_SIZE,
    seed: int = 0,
) -> Network:
    """A network on the CPU for `classes` classes and images of `size` (height, width) pixels, in training mode.

    Weights of `source` are loaded strictly; the head starts anew unless it has as many classes. The same seed gives the
    same network. Raises WeightsError when the architecture does not take its arguments or the weights do not fit.
    """
    with isolated_randomness(seed):
        backbone, arguments = _fitted(source.architecture, source.arguments, source.identity, channels, size)
        network = _with_head(backbone, source, arguments, classes=classes, dropout=dropout, size=size)
        if source.weights_path is not None:
            load_pretrained(network, source.weights_path)
    return network


def load_network(model: Rebuildable, weights: Path) -> Network:
    """The network of a bundle, on the CPU, in evaluation mode. Raises WeightsError when the weights do not fit."""
    with isolated_randomness(0):
        backbone = _build(model.architecture, model.arguments, model.identity)
        size = _size_of(model.arguments)
        network = _with_head(backbone, model, model.arguments, classes=model.classes, dropout=0.0, size=size)
    load_weights(network, weights)
    return network.eval()


def create_on_meta(
    architecture: str, *, classes: int, channels: int = 3, size: tuple[int, int] = DEFAULT_SIZE
) -> Network:
    """A network that has shapes and no numbers: for counting, without memory and without weights."""
    source = ModelSource(name=architecture, architecture=architecture)
    with torch.device("meta"):
        backbone, arguments = _fitted(architecture, {}, (), channels, size)
        return _with_head(backbone, source, arguments, classes=classes, dropout=0.0, size=size)


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """torch's CPU generator seeded inside and restored after; other devices are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _fitted(
    architecture: str, arguments: Mapping[str, Any], identity: tuple[str, ...], channels: int, size: tuple[int, int]
) -> tuple[nn.Module, dict[str, Any]]:
    """A backbone made for the channels and the image size, and the complete arguments that build it again."""
    check_arguments(architecture, arguments)
    complete = dict(arguments) if channels == 3 else {**arguments, "in_chans": channels}
    backbone = _build(architecture, complete, identity)
    if isinstance(backbone, TimmBackbone):
        sized = size_arguments(backbone.body, complete, size)
        if sized != complete:
            return _build(architecture, sized, identity), sized
    return backbone, complete


def _with_head(
    backbone: nn.Module,
    model: ModelSource | Rebuildable,
    arguments: Mapping[str, Any],
    *,
    classes: int,
    dropout: float,
    size: tuple[int, int],
) -> Network:
    channels = int(arguments.get("in_chans", 3))
    embedding_dim, feature_dim = measure_widths(backbone, channels=channels, size=size)
    return Network(
        backbone,
        architecture=model.architecture,
        arguments=arguments,
        identity=model.identity,
        classes=classes,
        dropout=dropout,
        embedding_dim=embedding_dim,
        feature_dim=feature_dim,
    )


def _build(architecture: str, arguments: Mapping[str, Any], identity: tuple[str, ...]) -> nn.Module:
    check_architecture(architecture)
    own = {key: value for key, value in arguments.items() if key != "in_chans"}
    check_arguments(architecture, own)
    channels = int(arguments.get("in_chans", 3))
    if _is_timm(architecture):
        body = timm_body(architecture, own, channels=channels)
        replace_by_identity(body, identity)
        return TimmBackbone(body)
    if architecture.startswith(TORCHVISION):
        if channels != 3:
            raise WeightsError("torchvision's networks take three channels", received=str(channels), hint="use timm")
        backbone: nn.Module = VisionBackbone(vision_body(architecture, own))
    else:
        backbone = _own_backbone(architecture, own, channels)
    replace_by_identity(backbone, identity)
    return backbone


def _own_backbone(architecture: str, arguments: Mapping[str, Any], channels: int) -> nn.Module:
    try:
        backbone: nn.Module = BACKBONES.get(architecture)(in_chans=channels, **arguments)
    except TypeError as error:
        raise WeightsError(f"{architecture} cannot be created with these arguments: {error}") from error
    return backbone


def _is_timm(architecture: str) -> bool:
    return architecture not in BACKBONES.names() and not architecture.startswith(TORCHVISION)


def _size_of(arguments: Mapping[str, Any]) -> tuple[int, int]:
    size = arguments.get("img_size", DEFAULT_SIZE)
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
