"""Who computes what inside a LiteRT interpreter: delegates loaded by name, and the operators that each of them took.

A delegate is a shared library that takes over operators it can compute; what it leaves is done by the CPU. XNNPACK, the
one for CPUs, is part of LiteRT and takes what no other delegate took. All others come from the maker of a device and
are found by the system's loader (`LD_LIBRARY_PATH`) or by their path.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sortal.core.errors import InputError

XNNPACK, CPU = "xnnpack", "cpu"
"""Variants that need no library: LiteRT's own default, and its plain kernels."""

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "gpu": ("libtensorflowlite_gpu_delegate.so",),
    "npu": ("libQnnTFLiteDelegate.so", "libedgetpu.so.1", "libvx_delegate.so", "libethosu_delegate.so"),
    "qnn": ("libQnnTFLiteDelegate.so",),
    "edgetpu": ("libedgetpu.so.1",),
    "vx": ("libvx_delegate.so",),
    "ethosu": ("libethosu_delegate.so",),
    "armnn": ("libarmnnDelegate.so",),
}
"""Name -> what its makers call the library: TensorFlow (gpu), Qualcomm (qnn), Coral, NXP i.MX 8 and 93, Arm."""

DELEGATE = "DELEGATE"
"""What LiteRT calls the operator that stands for those a delegate took."""
_NEEDED = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of a model, in the order of the file."""

    kind: str
    """As LiteRT names it, `CONV_2D`."""
    types: tuple[str, ...]
    """Of its inputs and outputs: `float32`, `int8`, each once."""
    taken_by: int | None
    """Which delegate computes it, counted from 0 in the order they were applied; None where the plain kernels do."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A delegate, or why there is none."""

    delegate: Any = None
    library: str | None = None
    reason: str = ""


def load(variant: str) -> Loaded:
    """The first library of a name of `LIBRARIES`, or of a path, that loads. Raises InputError for unknown names."""
    libraries = LIBRARIES.get(variant)
    if libraries is None:
        if "/" not in variant and "\\" not in variant and ".so" not in variant and not variant.endswith(".dll"):
            known = ", ".join((XNNPACK, CPU, *LIBRARIES))
            hint = f"known: {known}; or the path of a delegate's library"
            raise InputError("unknown delegate of LiteRT", received=variant, hint=hint)
        libraries = (variant,)
    reasons = []
    for library in libraries:
        found = _load(library)
        if found.delegate is not None:
            return found
        reasons.append(found.reason)
    return Loaded(reason="; ".join(reasons))


def operators(interpreter: Any) -> tuple[Operator, ...]:
    """All operators of the main graph with who took them, of an interpreter with its tensors allocated.

    LiteRT leaves the originals in its list and adds one operator for each part that a delegate took. Which ones that
    are follows from its inputs and outputs: all that lies between them.
    """
    found = interpreter._get_ops_details()  # no public call tells this
    plain = [one for one in found if one["op_name"] != DELEGATE]
    taken = _taken(plain, [one for one in found if one["op_name"] == DELEGATE])
    return tuple(
        Operator(
            kind=str(one["op_name"]),
            types=tuple(sorted({kind.__name__ for kind in (*one["operand_types"], *one["result_types"])})),
            taken_by=taken.get(position),
        )
        for position, one in enumerate(plain)
    )


def parts(interpreter: Any) -> int:
    """How many parts of the model delegates have taken so far."""
    return sum(one["op_name"] == DELEGATE for one in interpreter._get_ops_details())


def told(interpreter: Any, variant: str, *, outside: int) -> str:
    """Who computes how many operators, where a loaded delegate took the first `outside` parts and XNNPACK the others:
    `gpu (60 of 70 operators), XNNPACK (8), plain kernels (2)`."""
    found = operators(interpreter)
    by = [None if one.taken_by is None else one.taken_by < outside for one in found]
    counts = {variant: by.count(True), "XNNPACK": by.count(False), "plain kernels": by.count(None)}
    shown = [f"{who} ({count} of {len(found)} operators)" for who, count in counts.items() if count]
    return ", ".join(shown)


def _taken(plain: Sequence[Mapping[str, Any]], delegates: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Position of an original operator -> number of the delegate's operator that stands for it."""
    made_by = {int(tensor): position for position, one in enumerate(plain) for tensor in one["outputs"]}
    taken: dict[int, int] = {}
    for number, delegate in enumerate(delegates):
        given = {int(tensor) for tensor in delegate["inputs"]}
        waiting = [int(tensor) for tensor in delegate["outputs"]]
        while waiting:
            position = made_by.get(waiting.pop())
            if position is None or position in taken:
                continue
            taken[position] = number
            waiting += [int(tensor) for tensor in plain[position]["inputs"] if int(tensor) not in given]
    return taken


def _load(library: str) -> Loaded:
    """Looked into before LiteRT does: its own loader fails noisily where a library is no delegate."""
    from ai_edge_litert.interpreter import load_delegate

    try:
        opened = ctypes.CDLL(library)
        missing = [name for name in _NEEDED if not hasattr(opened, name)]
    except OSError as error:
        return Loaded(reason=str(error).splitlines()[0][:200])
    if missing:
        return Loaded(reason=f"{library} is no delegate ({missing[0]} is missing)")
    try:
        return Loaded(delegate=load_delegate(library), library=library)
    except (ValueError, OSError, RuntimeError) as error:
        said = [line for line in str(error).splitlines()[1:] if line.strip()] or ["it gave no reason"]
        return Loaded(reason=f"{library} refused to start ({said[0][:160]})")
