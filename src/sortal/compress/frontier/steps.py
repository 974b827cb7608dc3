"""What a step of the frontier is: one bundle in, a smaller or faster one out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sortal.compress.frontier.ground import Ground
from sortal.compress.frontier.wish import Wish
from sortal.core.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a step left in `<folder>/bundle`, and which of its artifacts answers on which engine."""

    artifact: str = "onnx"
    engine: str = "onnxruntime"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Nothing was made, and why."""

    why: str


class Step(Protocol):
    """`sized`, `precise`, or a function that cuts: each makes one kind of candidate."""

    def __call__(self, ground: Ground, wish: Wish, parent: Bundle, folder: Path) -> Made | Refusal:
        """Write the bundle that `wish` asks for to `folder/bundle`, made from `parent`, whose id it names.

        `folder` is empty and temporary: nothing may remember where it lies. Raises MachineError where the machine
        refuses; what the network cannot do is a Refusal.
        """
