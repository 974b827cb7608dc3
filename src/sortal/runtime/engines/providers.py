"""Execution providers of ONNX Runtime by name, and the operators that each of them really took.

A provider computes the operators it knows (XNNPACK on ARM, CUDA, QNN and other NPUs); the CPU provider does the
others, and all of them where the provider is not in this build or does not start. ONNX Runtime says nothing then, so
what ran where is asked afterwards. `onnxruntime:path/to/library.so` registers a provider's own library first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortal.core.errors import InputError, nearest

CPU = "CPUExecutionProvider"
_SUFFIX = "ExecutionProvider"
_LIBRARIES = (".so", ".dll", ".dylib")
ASSIGNMENT = "session.record_ep_graph_assignment_info"
"""Makes a session remember who took which operator."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """What a variant means here. `reason` says why it cannot be had; then the CPU computes."""

    name: str
    devices: tuple[Any, ...] = ()
    """Of a provider from a library of its own, which is chosen by its devices."""
    reason: str = ""


def find_provider(onnxruntime: Any, variant: str) -> Provider:
    """`xnnpack`, `XnnpackExecutionProvider` or a library's path. Raises InputError for a name that nobody knows."""
    if "/" in variant or variant.endswith(_LIBRARIES):
        return _from_library(onnxruntime, Path(variant))
    known = {_short(name): name for name in onnxruntime.get_all_providers()}
    name = known.get(_short(variant))
    if name is None:
        raise InputError(
            "unknown execution provider of ONNX Runtime", received=variant, hint=nearest(_short(variant), known)
        )
    if name not in onnxruntime.get_available_providers():
        return Provider(name=name, reason=f"this build of ONNX Runtime ({onnxruntime.__version__}) has no {name}")
    return Provider(name=name)


def told(session: Any) -> str:
    """Who computes how many operators of a session that was opened with `ASSIGNMENT`:
    `Xnnpack (120 of 141 operators), CPU (21)`; operators are counted after fusing."""
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name.removesuffix(_SUFFIX)] += len(part.get_nodes())
    total, ranked = sum(counts.values()), counts.most_common()
    first = [f"{who} ({count} of {total} operators)" for who, count in ranked[:1]]
    return ", ".join([*first, *(f"{who} ({count})" for who, count in ranked[1:])])


def _from_library(onnxruntime: Any, path: Path) -> Provider:
    """The devices that a provider's own library adds."""
    where = str(path)
    if where not in _REGISTERED:
        before = {device.ep_name for device in onnxruntime.get_ep_devices()}
        try:
            onnxruntime.register_execution_provider_library(path.stem, where)
        except Exception as error:  # ONNX Runtime raises a dozen classes without a common base of its own
            return Provider(name=path.stem, reason=str(error).strip().split("\n", 1)[0][:300])
        _REGISTERED[where] = tuple(one for one in onnxruntime.get_ep_devices() if one.ep_name not in before)
    devices = _REGISTERED[where]
    if not devices:
        return Provider(name=path.stem, reason=f"{path.name} finds no device of its own on this machine")
    first = devices[0].ep_name
    return Provider(name=first, devices=tuple(one for one in devices if one.ep_name == first))


_REGISTERED: dict[str, tuple[Any, ...]] = {}
"""Path of a library -> devices it added; ONNX Runtime takes each library once for a process."""


def _short(name: str) -> str:
    return name.removesuffix(_SUFFIX).lower()
