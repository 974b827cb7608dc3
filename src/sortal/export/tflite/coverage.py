"""The operators of a .tflite file and which of them a delegate takes.

XNNPACK's share is what LiteRT's interpreter does with the file on this machine. Of delegates that need a device nothing
is measured here: they decide there, by version and shape as well as by kind, so only the fallback is certain.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sortal.runtime.engines.delegates import Operator, operators
from sortal.runtime.engines.litert import open_interpreter

NOT_MEASURED = ("gpu", "nnapi", "npu")


def coverage(path: Path) -> dict[str, Any]:
    """For an artifact's manifest: `operators`, one entry a kind with its number, types and how many XNNPACK took, and
    `delegates`, what is known of each."""
    found = operators(open_interpreter(path))
    taken = sum(one.taken_by is not None for one in found)
    return {
        "operators": [_entry(kind, found) for kind in Counter(one.kind for one in found)],
        "delegates": {
            "xnnpack": {"operators": len(found), "taken": taken, "measured": "by LiteRT's interpreter on this machine"},
            **{name: {"taken": None, "measured": "not measured: needs the device"} for name in NOT_MEASURED},
        },
    }


def _entry(kind: str, found: tuple[Operator, ...]) -> dict[str, Any]:
    mine = [one for one in found if one.kind == kind]
    return {
        "kind": kind,
        "count": len(mine),
        "types": sorted({name for one in mine for name in one.types}),
        "xnnpack": sum(one.taken_by is not None for one in mine),
    }
