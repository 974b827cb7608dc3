"""Digital outputs by name: on while a label lasts, off otherwise and at the end.

`SET name:address`. A stranger's output comes in by the entry point group `sortal.outputs`; a member is a function that
is given the address and returns an `Output`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from sortal.core.errors import InputError, SortalError
from sortal.core.registry import Registry
from sortal.stream.episodes import Change


class Output(Protocol):
    """One line that is on or off. Called from one thread."""

    def set(self, on: bool) -> None:  # noqa: FBT001 - that is what an output is told
        """Switch. Raises SortalError or OSError where that fails."""

    def close(self) -> None:
        """Give the line back, off."""


OUTPUTS = Registry(
    kind="digital output", group="sortal.outputs", table={"simulated": "sortal.stream.outputs:SimulatedOutput"}
)


class SimulatedOutput:
    """Writes `1` or `0`, a line each, into the file at `address`."""

    def __init__(self, address: str):
        if not address:
            raise InputError("an output needs a place", where="--on-label", hint="SET simulated:line.txt")
        self._path = Path(address)

    def set(self, on: bool) -> None:  # noqa: FBT001 - the interface of an output
        """Write the new state."""
        with self._path.open("a", encoding="ascii") as file:
            file.write("1\n" if on else "0\n")

    def close(self) -> None:
        """Nothing is held open."""


class SwitchedOutput:
    """An output that is on from the beginning to the end of an episode."""

    def __init__(self, text: str):
        kind, _, address = text.partition(":")
        self.shown = f"SET {text}"
        self._output: Output = OUTPUTS.get(kind)(address)
        self._is_on = False

    def wants(self, change: Change) -> bool:  # noqa: ARG002 - every change
        """Beginnings and ends."""
        return True

    def do(self, change: Change, is_over: threading.Event) -> str | None:  # noqa: ARG002 - short
        """Switch."""
        try:
            self._output.set(change.began)
        except (OSError, SortalError) as error:
            return str(error)
        self._is_on = change.began
        return None

    def close(self) -> None:
        """Off, and given back."""
        try:
            if self._is_on:
                self._output.set(False)
            self._output.close()
        except (OSError, SortalError):
            pass  # nobody is left to be told
