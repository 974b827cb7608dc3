"""The account of one server: every request has one outcome, whatever way it came, and one line of the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sortal.serve.batcher import Went
from sortal.serve.guard.caller import CALLER
from sortal.serve.lines import Sparing
from sortal.serve.metrics import Metrics, Outcome, Way
from sortal.serve.telemetry.trace_parent import TraceParent, parse_trace_parent
from sortal.serve.telemetry.tracing import Tracing

Told = Callable[[dict[str, Any]], None]
"""Receives one event of the log as plain data."""
_REJECTED = 10
"""Lines a second; a thousand rejections a second would cost a tenth of a processor and 20 GB a day."""


@dataclass(kw_only=True, eq=False)
class Call:
    """One request for answers, from its first byte to its last."""

    name: str
    """The request's id; a way that reads it later sets it then."""
    way: Way
    images: int = 0
    key: str = ""
    """What keeps a client with a canary or away from it; where it is empty, the request's id does."""
    model: str = ""
    """The name of the model that was asked; empty where none was found."""
    started_s: float = field(default_factory=time.monotonic)
    body_s: float | None = None
    """How long it took until its images were there; None where they never were."""
    parent: TraceParent | None = None
    """The span of the client that it belongs to."""
    went: list[Went] = field(default_factory=list)
    """The batches that its images went in."""

    @property
    def seconds(self) -> float:
        """Since it was received."""
        return time.monotonic() - self.started_s

    def arrived(self) -> None:
        """Its images are there."""
        self.body_s = self.seconds

    @property
    def timing(self) -> str:
        """`Server-Timing`, in milliseconds: the body; waiting, decoding, network of the last batch; the whole."""
        parts = [("body", self.body_s)]
        if self.went and self.body_s is not None:
            last = max(self.went, key=lambda one: one.ended_s)
            waited_s = last.started_s - self.started_s - self.body_s
            parts += [("queue", waited_s), ("decode", last.decode_s), ("network", last.network_s)]
        parts.append(("total", self.seconds))
        return ", ".join(f"{name};dur={1e3 * max(spent_s, 0.0):.2f}" for name, spent_s in parts if spent_s is not None)


class Account:
    """Counts and logs calls: `begin` each, and `finish` each exactly once.

    Of those that an overloaded server rejects, `_REJECTED` a second have a line; the next line says how many had none.
    """

    def __init__(self, metrics: Metrics, log: Told, tracing: Tracing | None = None):
        self.metrics, self._log, self._tracing = metrics, log, tracing
        self._sparing = Sparing(log, _REJECTED)

    def begin(self, way: Way, name: str = "", *, trace_parent: str = "") -> Call:
        """A request was received; `trace_parent` is the header of that name."""
        call = Call(name=name, way=way, parent=parse_trace_parent(trace_parent) if trace_parent else None)
        self.metrics.begin(call, way)
        return call

    def finish(self, call: Call, outcome: Outcome, status: int | str) -> None:
        """A request has its outcome; `status` is HTTP's number or gRPC's name."""
        seconds = call.seconds
        self.metrics.finish(call, call.way, outcome, seconds, call.body_s)
        trace = call.parent.trace_id if call.parent else ""
        if self._tracing is not None:
            trace = self._tracing.tell(call, outcome, status, seconds)
        log = self._sparing if outcome == "rejected" else self._log
        log(
            {"event": "predict", "way": call.way, "request_id": call.name, "outcome": outcome, "status": status}
            | {"images": call.images, "ms": round(1e3 * seconds, 2)}
            | ({"trace_id": trace} if trace else {})
            | ({"key": CALLER.get()} if CALLER.get() else {})
        )
