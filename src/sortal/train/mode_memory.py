"""Modes of computing that were measured before on this machine, so that equal runs are computed in an equal way.

Two measurements of nearly equal modes can end differently, and then the weights differ in their last digits. So the
choice for a network, an input and settings is kept beside the other caches; deleting it only means measuring again.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sortal.core.canonical import digest, parse, pretty
from sortal.core.errors import SortalError
from sortal.core.places import cache_root, is_there
from sortal.core.publish import publish_file
from sortal.models.network import Network
from sortal.train.precision import Mode

_FOLDER = "modes-1"


def mode_key(network: Network, images: torch.Tensor, settings: Mapping[str, Any]) -> str:
    """What the measurement depends on: the network as it learns, the batch, the settings and the machine."""
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    machine = [platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.__version__]
    device = torch.cuda.get_device_name(images.device) if images.is_cuda else "cpu"
    network_facts = [
        network.architecture,
        json.dumps(network.arguments, sort_keys=True),
        network.classes,
        len(learning),
    ]
    return digest([*network_facts, list(images.shape), dict(settings), *machine, device, torch.get_num_threads()])


def remembered(key: str) -> Mode | None:
    """The mode that was chosen before, None where there is none that can be read."""
    path = _path(key)
    if path is None or not is_there(path):
        return None
    try:
        return Mode.from_plain(parse(path.read_bytes(), where=str(path)))
    except (SortalError, OSError, TypeError, KeyError):
        return None


def remember(key: str, mode: Mode) -> None:
    """Keep a choice; nothing happens where the cache cannot be written."""
    path = _path(key)
    if path is None:
        return
    try:
        publish_file(path, pretty(mode.plain()).encode())
    except SortalError:
        return


def _path(key: str) -> Path | None:
    root = cache_root()
    return None if root is None else root / _FOLDER / f"{key}.json"
