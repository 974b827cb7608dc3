"""Read weights files into networks and write networks to weights files: safetensors only, every tensor accounted for.

Two kinds of files exist: ours (keys `backbone.…`, `head.…` and `attention.…`, as in a
bundle) and published ones (the keys of timm or
torchvision, classifier included). Choosing the file is `models.resolve`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sortal.core.errors import WeightsError
from sortal.core.publish import publish_file
from sortal.models.network import Network
from sortal.models.wrapped import TimmBackbone, VisionBackbone

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

_OURS = ("backbone.", "head.", "attention.")


def state_for_bundle(network: Network) -> State:
    """Every learned number and running statistic, on the CPU, contiguous, under the network's own names."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}


def weights_bytes(network: Network) -> bytes:
    """`state_for_bundle` as the content of a safetensors file; equal weights give equal bytes."""
    from safetensors.torch import save

    return save(state_for_bundle(network))


def save_weights(network: Network, path: Path) -> None:
    """Write `weights_bytes` as a whole. Raises MachineError when the disk refuses."""
    publish_file(path, weights_bytes(network))


def load_weights(network: Network, path: Path) -> None:
    """Load a file written by `save_weights`, strictly. Raises WeightsError that names the first keys that differ."""
    _load_strictly(network, read_state(path), path)


def load_pretrained(network: Network, path: Path) -> None:
    """Load the backbone from a published file or one of ours; the head only where it has as many classes.

    Every tensor must fit, apart from the classifier, the first convolution (adapted to the channels) and position
    tables (interpolated). Raises WeightsError that names the first keys that differ.
    """
    state = read_state(path)
    if all(name.startswith(_OURS) for name in state):
        _load_ours(network, state, path)
    elif isinstance(network.backbone, TimmBackbone):
        _load_timm(network, network.backbone.body, state, path)
    else:
        _load_other(network, state, path)


def read_state(path: Path) -> State:
    """The tensors of a safetensors file. Raises WeightsError when it is absent, damaged or holds no finite numbers."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: State = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError("there is no such weights file", where=str(path)) from error
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(f"not a sound safetensors file: {error}", where=str(path)) from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError("the weights hold NaN or infinity", where=str(path), received=name)
    return state


def _load_ours(network: Network, state: State, path: Path) -> None:
    """A file of ours: the head is left as it is where kind or classes differ, the attention where the file has none."""
    own = network.state_dict()
    fits = _shapes(_part(own, "head.")) == _shapes(_part(state, "head."))
    kept = {} if fits else _part(own, "head.")
    kept |= {} if _part(state, "attention.") else _part(own, "attention.")
    taken = {name: tensor for name, tensor in state.items() if fits or not name.startswith("head.")}
    _load_strictly(network, {**taken, **kept}, path)


def _part(state: State, prefix: str) -> State:
    return {name: tensor for name, tensor in state.items() if name.startswith(prefix)}


def _load_other(network: Network, state: State, path: Path) -> None:
    """A published file for a backbone that is not of timm: its last classifier (`fc`, `classifier`, `head`) is dropped,
    or taken where it has as many classes."""
    backbone = network.backbone
    if isinstance(backbone, VisionBackbone):
        state = {backbone.own_name(name): tensor for name, tensor in state.items()}
    own = backbone.state_dict()
    dropped = [name for name in state if name not in own and name.startswith(("fc.", "classifier.", "head."))]
    _load_strictly(backbone, {name: tensor for name, tensor in state.items() if name not in dropped}, path)
    _take_classifier(network, state, tuple({name.rpartition(".")[0] for name in dropped}))


def _load_timm(network: Network, body: Any, state: State, path: Path) -> None:
    names = _classifier_names(body)
    rest = {key: tensor for key, tensor in state.items() if key.rpartition(".")[0] not in names}
    if _shapes(rest) != _shapes(body.state_dict()):
        rest = _converted(network, body, state, names, path)
    body.load_state_dict(rest, strict=True)
    _take_classifier(network, state, names)


def _converted(network: Network, body: Any, state: State, names: tuple[str, ...], path: Path) -> State:
    """`state` brought to the shape of `body` by timm's rules: renamed keys, other channels, other position grids."""
    import timm

    classes = next((state[f"{name}.weight"].shape[0] for name in names if f"{name}.weight" in state), 0)
    arguments = {key: value for key, value in network.arguments.items() if key != "in_chans"}
    overlay = {"state_dict": dict(state), "num_classes": classes, "custom_load": False, "label_offset": 0}
    try:
        loaded = timm.create_model(
            network.architecture.partition(".")[0],
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            num_classes=classes,
            in_chans=network.arguments.get("in_chans", 3),
            **arguments,
        )
    except Exception as error:  # timm's conversion of a file it was not made for can fail in any way
        raise _mismatch(_shapes(body.state_dict()), _shapes(state), path, network.architecture, names) from error
    return {key: t for key, t in loaded.state_dict().items() if key.rpartition(".")[0] not in names}


def _take_classifier(network: Network, state: State, names: tuple[str, ...]) -> None:
    if len(names) != 1 or network.wiring.head == "mlp":
        return
    weight, bias = state.get(f"{names[0]}.weight"), state.get(f"{names[0]}.bias")
    linear = network.linear
    if weight is not None and bias is not None and weight.shape == linear.weight.shape:
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)


def _classifier_names(body: Any) -> tuple[str, ...]:
    named = body.pretrained_cfg.get("classifier")
    return (named,) if isinstance(named, str) else tuple(named or ())


def _load_strictly(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    expected, found = _shapes(module.state_dict()), _shapes(state)
    if expected != found:
        raise _mismatch(expected, found, path, getattr(module, "architecture", "this architecture"), ())
    module.load_state_dict(dict(state), strict=True)


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _mismatch(expected: Shapes, found: Shapes, path: Path, architecture: str, dropped: tuple[str, ...]) -> WeightsError:
    """Says how many keys are missing, unexpected or of another shape, and names the first of each."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected and name.rpartition(".")[0] not in dropped]
    misshapen = [name for name in expected if name in found and found[name] != expected[name]]
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing, first {missing[0]!r}")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected, first {unexpected[0]!r}")
    if misshapen:
        first = misshapen[0]
        parts.append(f"{len(misshapen)} of another shape, first {first!r}: {found[first]}, not {expected[first]}")
    return WeightsError(
        f"the weights do not fit {architecture}: {'; '.join(parts)}",
        where=str(path),
        hint="check that model.name (and model.arguments) is the architecture the file was saved from",
    )
