"""What is done when a label begins: `crack='POST http://127.0.0.1:9000/reject'` or `crack='SET simulated:line.txt'`.

Each action has a thread and a bounded queue of its own: a server that is down, or a driver that blocks, never holds the
line up. What does not fit is dropped, the oldest first, and counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sortal.core.errors import InputError, nearest
from sortal.stream.camera import LOST
from sortal.stream.episodes import Change
from sortal.stream.frame import ABSTAINED, REJECTED, UNKNOWN
from sortal.stream.log import Told
from sortal.stream.waiting import Waiting

SPECIAL = (ABSTAINED, UNKNOWN, REJECTED, LOST)
MOST_WAITING = 100
_LAST_S = 1.0
"""For what is under way when all is given up: an output that goes off."""


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
        self.name, self.shown, self.done, self.failed = name, deed.shown, 0, 0
        self._deed, self._log = deed, log
        self._waiting: Waiting[Change] = Waiting(MOST_WAITING)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sortal-action-{name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Changes that nothing was done about: too many waited, or the stream ended."""
        return self._waiting.dropped

    @property
    def counts(self) -> dict[str, str | int]:
        """What became of the changes that it was for."""
        told = {"name": self.name, "action": self.shown}
        return {**told, "done": self.done, "failed": self.failed, "dropped": self.dropped}

    def see(self, change: Change) -> None:
        """Act on a change soon, where it concerns this action; never waits."""
        if change.name != self.name or not self._deed.wants(change):
            return
        before = self.dropped
        self._waiting.put(change)
        if self.dropped > before == 0:
            self._tell("action behind", f"{MOST_WAITING} wait already: the oldest are left out")

    def end(self) -> None:
        """Nothing more is to be seen."""
        self._waiting.end()

    def give_up(self) -> None:
        """What waits is not done any more."""
        self._waiting.clear()
        self._over.set()

    def join(self, limit_s: float) -> None:
        """Wait until nothing is done any more and everything is safe, for `limit_s` at most."""
        self._thread.join(limit_s)

    def _run(self) -> None:
        try:
            while (change := self._waiting.take()) is not None:
                self._act(change)
        finally:
            self._deed.close()

    def _act(self, change: Change) -> None:
        try:
            wrong = self._deed.do(change, self._over)
        except Exception as error:  # a stranger's output may raise anything; what it says may hold a secret
            wrong = type(error).__name__
        if wrong is None:
            self.done += 1
            return
        self.failed += 1
        self._tell("action failed", wrong)

    def _tell(self, event: str, message: str) -> None:
        self._log({"event": event, "action": self.shown, "name": self.name, "message": message})


def close_all(actions: Sequence[Action], limit_s: float) -> None:
    """Do what waits, for `limit_s` at most however many actions there are, and leave everything safe."""
    for action in actions:
        action.end()
    _join(actions, limit_s)
    for action in actions:
        action.give_up()
    _join(actions, _LAST_S)


def _join(actions: Sequence[Action], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    for action in actions:
        action.join(max(end_s - time.monotonic(), 0.0))
