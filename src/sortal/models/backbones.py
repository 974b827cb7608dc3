"""Create networks: from a ModelSource for training, or from what a bundle records for running.

Random numbers come from the given seed alone, and torch's global generator is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from sortal.core.errors import WeightsError
from sortal.core.manifest import ModelSpec
from sortal.models import BACKBONES
from sortal.models.attention import attend
from sortal.models.cut import Cut, shrink
from sortal.models.heads import PLAIN, Wiring, hidden_width
from sortal.models.network import Network, measure_widths
from sortal.models.pooling import Pooling
from sortal.models.published import TORCHVISION, check_architecture
from sortal.models.resolve import ModelSource
from sortal.models.stages import find_stages
from sortal.models.weights import load_pretrained, load_weights
from sortal.models.wrapped import (
    IN_CHANS,
    PRE_LOGITS,
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
    def cut(self) -> Cut: ...
    @property
    def classes(self) -> int: ...
    @property
    def head(self) -> str: ...
    @property
    def hidden(self) -> int | None: ...
    @property
    def fusion(self) -> float | Literal["learned"]: ...
    @property
    def attention(self) -> str | None: ...
    @property
    def attention_stage(self) -> int | None: ...
    @property
    def pooling(self) -> str: ...
    @property
    def views(self) -> str: ...


def create(
    source: ModelSource,
    *,
    classes: int,
    channels: int = 3,
    dropout: float = 0.0,
    size: tuple[int, int] = DEFAULT_SIZE,
    seed: int = 0,
    head: str = "linear",
    hidden: int | Literal["auto"] = "auto",
    fusion: float | Literal["learned"] = 0.7,
    attention: str | None = None,
    attention_stage: int | None = None,
    drop_path: float = 0.0,
    pooling: str = "mean",
    views: str = "single",
) -> Network:
    """A network on the CPU for `classes` classes and images of `size` (height, width) pixels, in training mode.

    Weights of `source` are loaded strictly; the head starts anew unless it has as many classes. The same seed gives the
    same network. `head`, `hidden`, `fusion`, `attention`, `drop_path` and `views` are those of a recipe's `model`
    section (see `heads.Wiring`); `attention_stage` is an index in `Network.stages()`, None for the last stage.
    Raises WeightsError when the architecture does not take its arguments, has no such stage or no stochastic depth, or
    the weights do not fit.
    """
    wiring = Wiring(
        head=head,
        hidden=None if hidden == "auto" else hidden,
        fusion=fusion,
        attention=attention,
        attention_stage=attention_stage,
        pooling=pooling,
        views=views,
    )
    with isolated_randomness(seed):
        backbone, arguments = _fitted(source, channels, size, drop_path=drop_path)
        network = _around(backbone, source, arguments, wiring, classes=classes, dropout=dropout, size=size)
        if source.weights_path is not None:
            load_pretrained(network, source.weights_path)
    return network


def load_network(model: Rebuildable, weights: Path) -> Network:
    """The network of a bundle, on the CPU, in evaluation mode. Raises WeightsError when the weights do not fit."""
    network = rebuild(model)
    load_weights(network, weights)
    return network.eval()


def rebuild(model: Rebuildable) -> Network:
    """The network that a bundle records, as it is before its weights are loaded."""
    wiring = Wiring(
        head=model.head,
        hidden=model.hidden,
        fusion=model.fusion,
        attention=model.attention,
        attention_stage=model.attention_stage,
        pooling=model.pooling,
        views=model.views,
    )
    with isolated_randomness(0):
        backbone = _build(model.architecture, model.arguments, model.identity)
        shrink(backbone, model.cut, architecture=model.architecture)
        size = _size_of(model.arguments)
        return _around(backbone, model, model.arguments, wiring, classes=model.classes, dropout=0.0, size=size)


def whole_backbone(model: Rebuildable) -> nn.Module:
    """The backbone that the architecture has before anything is cut: shapes and no numbers."""
    with torch.device("meta"):
        return _build(model.architecture, model.arguments, model.identity)


def record(network: Network, *, source: str | None = None) -> ModelSpec:
    """What a bundle records of a network, so that `load_network` builds it again; `source` says where it started."""
    wiring = network.wiring
    return ModelSpec(
        architecture=network.architecture,
        arguments=dict(network.arguments),
        identity=network.identity,
        cut=dict(network.cut),
        head=wiring.head,
        hidden=hidden_width(wiring, network.embedding_dim) if wiring.head == "mlp" else None,
        fusion=wiring.fusion,
        attention=wiring.attention,
        attention_stage=wiring.attention_stage,
        pooling=wiring.pooling,
        views=wiring.views,
        classes=network.classes,
        embedding=network.embedding_dim,
        parameters=network.parameter_count,
        source=source,
    )


def create_on_meta(
    architecture: str,
    *,
    classes: int,
    channels: int = 3,
    size: tuple[int, int] = DEFAULT_SIZE,
    dropout: float = 0.0,
    wiring: Wiring = PLAIN,
) -> Network:
    """A network that has shapes and no numbers: for counting, without memory and without weights."""
    source = ModelSource(name=architecture, architecture=architecture)
    with torch.device("meta"):
        backbone, arguments = _fitted(source, channels, size, drop_path=0.0)
        return _around(backbone, source, arguments, wiring, classes=classes, dropout=dropout, size=size)


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """torch's CPU generator seeded inside and restored after; other devices are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _fitted(
    source: ModelSource, channels: int, size: tuple[int, int], *, drop_path: float
) -> tuple[nn.Module, dict[str, Any]]:
    """A backbone made for the channels and the image size, and the complete arguments that build it again."""
    architecture, identity = source.architecture, source.identity
    check_arguments(architecture, source.arguments)
    complete = dict(source.arguments) if channels == 3 else {**source.arguments, IN_CHANS: channels}
    backbone = _build(architecture, {**complete, PRE_LOGITS: True}, identity, drop_path=drop_path)
    if isinstance(backbone, VisionBackbone) and len(backbone.classifier):
        complete[PRE_LOGITS] = True
    if isinstance(backbone, TimmBackbone):
        sized = size_arguments(backbone.body, complete, size)
        if sized != complete:
            backbone, complete = _build(architecture, sized, identity, drop_path=drop_path), sized
    shrink(backbone, source.cut, architecture=architecture)
    return backbone, complete


def _around(
    backbone: nn.Module,
    model: ModelSource | Rebuildable,
    arguments: Mapping[str, Any],
    wiring: Wiring,
    *,
    classes: int,
    dropout: float,
    size: tuple[int, int],
) -> Network:
    """The network: head and attention put around a backbone, as wide as it is."""
    channels = int(arguments.get(IN_CHANS, 3))
    middle = wiring.head == "multi_scale"
    pooling = Pooling(wiring.pooling, backbone, tuple(find_stages(backbone)))
    widths = measure_widths(backbone, channels=channels, size=size, middle=middle, pooling=pooling)
    attention = None
    if wiring.attention is not None:
        attention = attend(backbone, wiring, image=(channels, *size))
    return Network(
        backbone,
        architecture=model.architecture,
        arguments=arguments,
        identity=model.identity,
        classes=classes,
        dropout=dropout,
        widths=widths,
        wiring=wiring,
        attention=attention,
        pooling=pooling,
        cut=model.cut,
    )


def _build(
    architecture: str, arguments: Mapping[str, Any], identity: tuple[str, ...], *, drop_path: float = 0.0
) -> nn.Module:
    check_architecture(architecture)
    own = {key: value for key, value in arguments.items() if key not in (IN_CHANS, PRE_LOGITS)}
    check_arguments(architecture, own)
    if drop_path > 0.0:
        return _with_drop_path(architecture, arguments, identity, drop_path)
    channels = int(arguments.get(IN_CHANS, 3))
    if _is_timm(architecture):
        body = timm_body(architecture, own, channels=channels)
        replace_by_identity(body, identity)
        backbone: nn.Module = TimmBackbone(body)
    elif architecture.startswith(TORCHVISION):
        if channels != 3:
            raise WeightsError("torchvision's networks take three channels", received=str(channels), hint="use timm")
        pre_logits = bool(arguments.get(PRE_LOGITS))
        backbone = VisionBackbone(vision_body(architecture, own), pre_logits=pre_logits)
        replace_by_identity(backbone, identity)
    else:
        backbone = _own_backbone(architecture, own, channels)
        replace_by_identity(backbone, identity)
    return backbone


def _with_drop_path(
    architecture: str, arguments: Mapping[str, Any], identity: tuple[str, ...], rate: float
) -> nn.Module:
    """As `_build`, with stochastic depth, which only training knows of: it is no recorded argument."""
    key = "drop_path_rate" if _is_timm(architecture) else "drop_path"
    refusal = WeightsError(
        f"{architecture} has no stochastic depth", received=f"model.drop_path={rate}", hint="set model.drop_path=0"
    )
    try:
        backbone = _build(architecture, {**arguments, key: rate}, identity)
    except WeightsError as error:
        raise (refusal if key in error.what else error) from error
    if not any(getattr(module, "drop_prob", None) for module in backbone.modules()):
        raise refusal
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
