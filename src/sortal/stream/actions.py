"""What is done when a label begins: `crack='POST http://127.0.0.1:9000/reject'` or `crack='SET simulated:line.txt'`.

Each action has a thread and a bounded queue of its own: a server that is down, or a driver that blocks, never holds the
line up. What does not fit is dropped, the oldest first, and counted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sortal.core.errors import InputError, nearest
from sortal.stream.camera import LOST
from sortal.stream.episodes import Change
from sortal.stream.frame import ABSTAINED, REJECTED, UNKNOWN
from sortal.stream.log import Told

SPECIAL = (ABSTAINED, UNKNOWN, REJECTED, LOST)
MOST_WAITING = 100


class Deed(Protocol):
    """What an action does, in a thread of its own."""

    shown: str

    def wants(self, change: Change) -> bool:
        """Whether it acts on this change."""

    def do(self, change: Change, is_over: threading.Event) -> str | None:
        """Act; may take long, and ends soon when `is_over`. Returns what went wrong, None where nothing did."""

    def close(self) -> None:
        """Leave everything in its safe state."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """`--on-label` as it was typed."""

    name: str
    verb: str
    rest: str


def wanted(text: str) -> Wanted:
    """`label=VERB rest`. Raises InputError."""
    name, equals, action = text.partition("=")
    verb, _, rest = action.strip().partition(" ")
    if not (name.strip() and equals and verb and rest.strip()):
        raise InputError("no action for a label", where="--on-label", received=name[:80] or "=", hint=_HINT)
    return Wanted(name=name.strip(), verb=verb.upper(), rest=rest.strip())


_HINT = "crack='POST http://127.0.0.1:9000/reject' or crack='SET simulated:line.txt'"


def check_names(all_wanted: Sequence[Wanted], labels: Sequence[str]) -> None:
    """Raises InputError for a name that is neither a class nor one of `SPECIAL`."""
    for one in all_wanted:
        if one.name not in labels and one.name not in SPECIAL:
            hint = nearest(one.name, [*labels, *SPECIAL])
            raise InputError("no class of this classifier", where="--on-label", received=one.name, hint=hint)


def deed_of(one: Wanted) -> Deed:
    """What a wish means. Raises InputError for an unknown verb, a refused URL, an unknown output."""
    from sortal.stream.outputs import SwitchedOutput
    from sortal.stream.webhook import METHODS, Webhook

    if one.verb in METHODS:
        return Webhook(one.verb, one.rest)
    if one.verb == "SET":
        return SwitchedOutput(one.rest)
    raise InputError("no such action", where="--on-label", received=one.verb, hint=_HINT)


class Action:
    """One deed for one name, and what waits for it."""

    def __init__(self, name: str, deed: Deed, log: Told):
        self.name, self.done, self.failed, self.dropped = name, 0, 0, 0
        self._deed, self._log = deed, log
        self._waiting: deque[Change] = deque()
        self._change, self._over, self._ending = threading.Condition(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name=f"sortal-action-{name}", daemon=True)
        self._thread.start()

    def see(self, change: Change) -> None:
        """Act on a change soon, where it concerns this action; never waits."""
        if change.name != self.name or not self._deed.wants(change):
            return
        with self._change:
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(change)
            self._change.notify()

    def close(self, limit_s: float) -> None:
        """Do what waits, for `limit_s` at most, and leave everything safe."""
        with self._change:
            self._ending = True
            self._change.notify()
        self._thread.join(limit_s)
        self._over.set()
        self._thread.join(1.0)
        self.dropped += len(self._waiting)

    def _run(self) -> None:
        try:
            while True:
                with self._change:
                    while not self._waiting and not self._ending:
                        self._change.wait()
                    if not self._waiting or self._over.is_set():
                        return
                    change = self._waiting.popleft()
                self._act(change)
        finally:
            self._deed.close()

    def _act(self, change: Change) -> None:
        wrong = self._deed.do(change, self._over)
        if wrong is None:
            self.done += 1
            return
        self.failed += 1
        self._log({"event": "action failed", "action": self._deed.shown, "name": self.name, "message": wrong})
