"""One request to a server, repeated while that is safe and there is time left. Nothing here touches the network.

`answered` is a generator: it yields what has to be done, a `Send` or a `Sleep`, and is sent a `Reply` or a `Failure`
for each `Send`. So the client that blocks and the one that awaits share every decision.

Repeated are requests that never arrived, that broke off, or that were refused with 429, 502 or 503. That is safe
because every request carries an id by which the server knows it again. Pauses grow exponentially with full jitter
(Brooker 2015, "Exponential backoff and jitter"); where the server says when to come back, never sooner.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from sortal.core.errors import DeadlineError, MachineError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
_BUSY = (429, 502, 503)
"""502 is a proxy before a server that is gone at the moment."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request, without the address of the server."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a server said. `headers` have names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Failure:
    """There was no reply."""

    reason: str
    late: bool = False
    """The time given to it had passed."""
    hint: str = "is it running? sortal serve MODEL"
    """What to do, where asking again does not help."""


@dataclass(frozen=True, kw_only=True)
class Send:
    """Send a request, and give up after `limit_s` seconds."""

    ask: Ask
    limit_s: float


@dataclass(frozen=True, kw_only=True)
class Sleep:
    """Wait."""

    seconds: float


Step = Send | Sleep
Heard = Reply | Failure | None
Talk = Generator[Step, Heard, Reply]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a request may take with all its repetitions, and how often it is repeated."""

    timeout_s: float = 30.0
    retries: int = 4
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    """Uniform in [0, 1)."""


def answered(ask: Ask, patience: Patience) -> Talk:
    """The reply to a request; one that says busy only where there is no time or repetition left.

    Raises MachineError where the server cannot be reached, DeadlineError where the time has passed.
    """
    end_s = patience.clock() + patience.timeout_s
    for attempt in range(patience.retries + 1):
        heard = yield Send(ask=ask, limit_s=max(end_s - patience.clock(), 0.001))
        if isinstance(heard, Reply) and heard.status not in _BUSY:
            return heard
        pause_s = _pause_s(attempt, heard, patience)
        if attempt < patience.retries and patience.clock() + pause_s < end_s and not _is_late(heard):
            yield Sleep(seconds=pause_s)
            continue
        return _last(ask, heard, patience, attempt + 1)
    raise AssertionError("the last attempt returns or raises")


def _last(ask: Ask, heard: Heard, patience: Patience, attempts: int) -> Reply:
    if isinstance(heard, Reply):
        return heard
    reason = heard.reason if heard is not None else "nothing was heard"
    if _is_late(heard):
        raise DeadlineError(f"no answer within {patience.timeout_s:g} s", where=ask.path, received=reason)
    hint = heard.hint if heard is not None else None
    raise MachineError("the server cannot be reached", where=ask.path, received=f"{reason} ({attempts}x)", hint=hint)


def _is_late(heard: Heard) -> bool:
    return isinstance(heard, Failure) and heard.late


def _pause_s(attempt: int, heard: Heard, patience: Patience) -> float:
    jitter_s = patience.random() * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt)
    return jitter_s + (retry_after_s(heard) if isinstance(heard, Reply) else 0.0)


def retry_after_s(reply: Reply) -> float:
    """Seconds until the server wants to be asked again, by its `Retry-After` (seconds or a date); 0 without one."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return 0.0
