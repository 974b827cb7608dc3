"""Which architectures exist, and what timm says about the weights published for them. Nothing is downloaded."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from sortal.core.errors import WeightsError, nearest
from sortal.models import BACKBONES
from sortal.models.cards import CardInput

TORCHVISION = "torchvision:"
"""Prefix of architectures that come from torchvision, as in `torchvision:resnet50`."""


def check_architecture(name: str) -> None:
    """Raises WeightsError, naming the nearest known architectures, unless `name` can be created."""
    if name in BACKBONES.names():
        return
    known = _torchvision_names() if name.startswith(TORCHVISION) else _timm_names()
    if name in known or name.partition(".")[0] in known:
        return
    close = get_close_matches(name, [*BACKBONES.names(), *known], n=3, cutoff=0.6)
    hint = nearest(name, close) if close else "`sortal models` lists recommended architectures"
    raise WeightsError("unknown architecture", received=name, hint=hint)


def published_config(name: str) -> Any:
    """timm's description of the published weights of an architecture, with or without tag; None where unknown."""
    if name in BACKBONES.names() or name.startswith(TORCHVISION):
        return None
    import timm

    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        arch = name.partition(".")[0]
        tags = [known for known in timm.list_pretrained() if known.partition(".")[0] == arch]
        raise WeightsError("no such published weights", received=name, hint=nearest(name, tags)) from error


def published_input(published: Any) -> CardInput | None:
    """What timm says about the input of published weights; None where it says nothing."""
    if published is None:
        return None
    return CardInput(
        size=published.input_size[-1],
        crop=published.crop_pct,
        interpolation=published.interpolation,
        mean=published.mean,
        std=published.std,
    )


def _torchvision_names() -> set[str]:
    from torchvision.models import list_models

    return {TORCHVISION + name for name in list_models()}


def _timm_names() -> set[str]:
    import timm

    return set(timm.list_models())
