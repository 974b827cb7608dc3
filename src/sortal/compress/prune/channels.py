"""Which channels of a network can only go together, and which rows and columns of its weights go with them.

The dependencies are found by torch-pruning, which follows the graph of gradients (Fang et al. 2023, "DepGraph: Towards
any structural pruning"). Here they become plain data: for every set of coupled layers (a residual stream, the inside of
a block) its channels, and for each channel the places in tensors. Heads of attention are not among them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from sortal.core.errors import MissingExtraError, RecipeError
from sortal.models.heads import MultiScaleHead
from sortal.models.network import HasMiddle, Network
from sortal.models.pooling import LAST_STAGES, stage_modules

Axis = Literal["out", "in"]

LAYERS = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
"""Layers whose tensors are understood; loose parameters beside them are cut along one dimension."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One side of a layer, or a loose parameter, that loses places when a set loses channels."""

    name: str
    """Of the module or the parameter in the backbone."""
    axis: Axis
    """`out`: what the layer gives (norms and loose parameters too); `in`: what it takes."""
    places: tuple[int, ...]
    channels: tuple[int, ...]
    """As long as `places`: the channel of the set that each place belongs to."""
    dimension: int = 0
    """Of a loose parameter."""

    def of(self, gone: frozenset[int]) -> tuple[int, ...]:
        """The places that go when these channels of the set go."""
        return tuple(place for place, channel in zip(self.places, self.channels, strict=True) if channel in gone)


@dataclass(frozen=True, kw_only=True)
class ChannelSet:
    """Channels that many layers share: taken from one of them, a channel is taken from all."""

    name: str
    """The layer that gives them."""
    count: int
    fold: int
    """Grouped convolutions lose the same channels in each of so many groups; 1 where there are none."""
    slots: tuple[Slot, ...]
    taps: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    """What the head takes: number of the tap, places in it, channels of the set."""


class Tap(nn.Linear):
    """Stands where the head takes channels, so that the dependencies say which of them are left."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The sets of a network, and the layers that they concern. `group_of` gives what torch-pruning's criteria take."""

    sets: tuple[ChannelSet, ...]
    groups: tuple[Any, ...]
    """Of torch-pruning, one for each set, without the taps."""
    tap_widths: tuple[int, ...]


def anatomy(network: Network, *, size: tuple[int, int], channels: int) -> Anatomy:
    """Follow the dependencies of a network for images of `size`, (height, width). The network is not changed.

    Raises RecipeError for networks that cannot be cut, MissingExtraError without torch-pruning.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingExtraError("torch-pruning", "compress") from error
    if network.attention is not None:
        raise _refusal(network, "attention put after a stage (model.attention) holds channels that cannot be followed")
    network = network.eval()
    image = torch.zeros(1, channels, *size)
    with torch.no_grad():
        widths = tuple(_width(seen) for seen in _seen(network, image)[1])
    traced = _Traced(network, widths)
    learning = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    network.requires_grad_(requires_grad=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = torch_pruning.DependencyGraph()
            graph.build_dependency(traced, example_inputs=image, verbose=False)
        found = list(graph.get_all_groups(ignored_layers=_left_alone(traced), root_module_types=[nn.Conv2d, nn.Linear]))
    except (RuntimeError, ValueError, IndexError, KeyError, AttributeError, AssertionError, TypeError) as error:
        raise _refusal(network, f"its dependencies cannot be followed ({error})") from error
    finally:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(learning[name])
            parameter.grad = None
    names = {module: name for name, module in network.backbone.named_modules()}
    names |= {parameter: name for name, parameter in network.backbone.named_parameters()}
    sets = [_set(group, graph, names, list(traced.taps), network) for group in found]
    usable = [(one, group) for one, group in zip(sets, found, strict=True) if one is not None]
    if not usable:
        raise _refusal(network, "no channels of it can go")
    return Anatomy(
        sets=tuple(one for one, _ in usable),
        groups=tuple(_without_taps(group) for _, group in usable),
        tap_widths=widths,
    )


class _Traced(nn.Module):
    """The backbone with a tap wherever the head takes channels."""

    def __init__(self, network: Network, widths: Sequence[int]):
        super().__init__()
        self.network = network
        self.taps = nn.ModuleList([Tap(width, 1, bias=False) for width in widths])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs, seen = _seen(self.network, image)
        taken = [tap(_channels_last(one)) for tap, one in zip(self.taps, seen, strict=True)]
        return (*outputs, *taken)


def _seen(network: Network, image: Tensor) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """The backbone's outputs, and what the head and the pooling take of it, in the order of the head's columns; the
    middle map of a `multi_scale` head comes last."""
    maps: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, given: Any, output: Tensor) -> None:  # noqa: ARG001 (torch's signature)
        maps[module] = output

    heard = stage_modules(network.backbone, network.stages()[-LAST_STAGES:])
    heard = heard if network.pooling.kind == "stages" else []
    hooks = [module.register_forward_hook(keep) for module in heard]
    try:
        if isinstance(network.head, MultiScaleHead):
            outputs = cast(HasMiddle, network.backbone).forward_with_middle(image)
        else:
            outputs = network.backbone(image)
    finally:
        for hook in hooks:
            hook.remove()
        network.pooling.forget()
    middle = list(outputs[2:])
    return outputs[:2], [outputs[0], *(maps[module] for module in heard), *middle]


def _channels_last(seen: Tensor) -> Tensor:
    return seen.permute(0, 2, 3, 1) if seen.ndim == 4 else seen


def _width(seen: Tensor) -> int:
    return int(seen.shape[1] if seen.ndim == 4 else seen.shape[-1])


def _left_alone(traced: _Traced) -> list[nn.Module]:
    """Taps, and the layers whose outputs are heads of attention."""
    found: list[nn.Module] = list(traced.taps)
    for module in traced.network.backbone.modules():
        if hasattr(module, "num_heads") or hasattr(module, "num_attention_heads"):
            found += [part for name, part in module.named_modules() if name.split(".")[-1] in _HEADS]
    return found


_HEADS = ("qkv", "q", "k", "v", "kv", "q_proj", "k_proj", "v_proj", "gate")


def _set(
    group: Any, graph: Any, names: Mapping[Any, str], taps: list[nn.Module], network: Network
) -> ChannelSet | None:
    """One group of torch-pruning as plain data; None where it also cuts what is to be left alone."""
    slots, tapped, fold = list[Slot](), [], 1
    for number in range(len(group)):
        dependency, places = group[number]
        module, channels = dependency.target.module, tuple(int(one) for one in group[number].root_idxs)
        axis: Axis = "out" if graph.is_out_channel_pruning_fn(dependency.handler) else "in"
        if isinstance(module, Tap):
            tapped.append((taps.index(module), tuple(places), channels))
        elif module in names:
            if isinstance(module, nn.Module) and not isinstance(module, LAYERS):
                if any(True for _ in module.parameters(recurse=False)):
                    raise _refusal(network, f"{names[module]} is a layer whose channels are not understood")
                continue
            if isinstance(module, nn.Conv2d) and 1 < module.groups < module.in_channels:
                fold = max(fold, module.groups)
            if isinstance(module, nn.GroupNorm):
                fold = max(fold, module.num_groups)
            slots.append(
                Slot(
                    name=names[module],
                    axis=axis,
                    places=tuple(int(one) for one in places),
                    channels=channels,
                    dimension=_dimension(module),
                )
            )
    count = 1 + max(channel for slot in slots for channel in slot.channels)
    if count % fold or count < 2 * fold:
        return None
    name = names[group[0].dep.target.module]
    return ChannelSet(name=name, count=count, fold=fold, slots=tuple(slots), taps=tuple(tapped))


def _dimension(module: Any) -> int:
    """Of a loose parameter the last dimension that is wider than 1, which torch-pruning takes too."""
    if isinstance(module, nn.Module):
        return 0
    wide = [place for place, length in enumerate(module.shape) if length > 1]
    return wide[-1] if wide else 0


def _without_taps(group: Any) -> Any:
    """What criteria look at: taps have no weights of the network."""
    import torch_pruning

    kept = torch_pruning.dependency.Group()
    kept._group = [item for item in group.items if not isinstance(item.dep.target.module, Tap)]
    kept._DG = group._DG
    return kept


def places_gone(sets: Sequence[ChannelSet], gone: Mapping[int, frozenset[int]]) -> Iterator[tuple[Slot, set[int]]]:
    """For every slot that loses something: which places, when these channels (by number of the set) go."""
    for number, channels in gone.items():
        for slot in sets[number].slots:
            places = slot.of(channels)
            if places:
                yield slot, set(places)


def _refusal(network: Network, why: str) -> RecipeError:
    return RecipeError(
        f"{network.architecture} cannot be pruned: {why}",
        where="compress.prune",
        hint="compress.int8=true works without; ResNet, MobileNet, EfficientNet, ConvNeXt and ViT can be pruned",
    )
