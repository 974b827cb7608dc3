"""Channels taken out: from a network and the channels that go, to a new network without them, dense and smaller.

The weights that stay are copies of the old ones; the result is built as a bundle's network is (`models.backbones`), so
what can be cut can be stored and opened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sortal.compress.prune.channels import Anatomy, Slot, places_gone
from sortal.core.errors import InternalError, RecipeError, SortalError, WeightsError
from sortal.models.backbones import rebuild, record, whole_backbone
from sortal.models.cut import cut_of, kept_part
from sortal.models.network import Network

Gone = Mapping[int, frozenset[int]]
"""Number of a set in `Anatomy.sets` -> its channels that go."""


def without(network: Network, found: Anatomy, gone: Gone) -> Network:
    """A new network, in evaluation mode, without the channels `gone`; the given one stays as it is.

    `found` is the anatomy of this very network. Raises RecipeError where the smaller network would not run.
    """
    if not any(gone.values()):
        raise InternalError("nothing to cut away")
    state = network.state_dict()
    lost = defaultdict[tuple[str, int], set[int]](set)
    for slot, places in places_gone(found.sets, gone):
        for name, dimension, inside in _tensors(network.backbone, slot, places):
            lost[f"backbone.{name}", dimension] |= inside
    for name, dimension, inside in _head_columns(network, found, gone):
        lost[name, dimension] |= inside
    kept = defaultdict[str, dict[int, Tensor]](dict)
    for (name, dimension), inside in lost.items():
        stays = [place for place in range(state[name].shape[dimension]) if place not in inside]
        kept[name][dimension] = torch.tensor(stays)
    return _rebuilt(network, kept_part(state, kept))


def _rebuilt(network: Network, state: dict[str, Tensor]) -> Network:
    spec = record(network)
    inside = {name.removeprefix("backbone."): tensor for name, tensor in state.items() if name.startswith("backbone.")}
    cut = cut_of(whole_backbone(spec), inside)
    spec = spec.model_copy(update={"cut": cut, "hidden": _hidden(network)})
    try:
        small = rebuild(spec)
        small.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError, TypeError, SortalError) as error:
        if isinstance(error, SortalError) and not isinstance(error, WeightsError | InternalError):
            raise
        raise RecipeError(
            f"{network.architecture} does not run with fewer channels: {error}",
            where="compress.prune",
            hint="compress.int8=true works without cutting channels",
        ) from error
    small.wiring = replace(small.wiring, hidden=network.wiring.hidden or spec.hidden)
    return small.eval()


def _hidden(network: Network) -> int | None:
    """An `mlp` head keeps the width of its hidden layer, though the embedding gets shorter."""
    return network.linear.in_features if network.wiring.head == "mlp" else None


def _tensors(backbone: nn.Module, slot: Slot, places: set[int]) -> Iterator[tuple[str, int, set[int]]]:
    """Name, dimension and positions of all that a slot loses."""
    modules = dict(backbone.named_modules())
    if slot.name not in modules:
        yield slot.name, slot.dimension, places
        return
    module = modules[slot.name]
    depthwise = isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels
    if isinstance(module, nn.Conv2d | nn.Linear) and slot.axis == "in" and not depthwise:
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            each = module.in_channels // module.groups
            places = {place for place in places if place < each}  # the same ones in every group
        yield f"{slot.name}.weight", 1, places
        return
    names = ("weight", "bias", "running_mean", "running_var")
    for name in _present(module, names):
        yield f"{slot.name}.{name}", 0, places


def _present(module: nn.Module, names: Iterable[str]) -> list[str]:
    return [name for name in names if isinstance(getattr(module, name, None), Tensor)]


def _head_columns(network: Network, found: Anatomy, gone: Gone) -> Iterator[tuple[str, int, set[int]]]:
    """Columns of the layers that take the embedding (and the middle map) which go."""
    lost = [set[int]() for _ in found.tap_widths]
    for number, channels in gone.items():
        for tap, seen, of in found.sets[number].taps:
            lost[tap] |= {place for place, channel in zip(seen, of, strict=True) if channel in channels}
    if network.wiring.head == "multi_scale":
        yield "head.reduce.weight", 1, lost.pop()
    columns, begin = set[int](), 0
    for number, (width, places) in enumerate(zip(found.tap_widths, lost, strict=False)):
        for _ in range(1 if number == 0 else 2):  # the embedding; then mean and deviation of each stage
            columns |= {begin + place for place in places}
            begin += width
    first = {"linear": "head.1", "mlp": "head.0", "multi_scale": "head.main.1"}[network.wiring.head]
    yield f"{first}.weight", 1, columns
