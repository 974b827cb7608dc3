"""The classifiers beside the live one, and how they are asked: a canary in place of it, a shadow after it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sortal.core.errors import MachineError
from sortal.core.events import Role
from sortal.serve.batcher import FAILURES, Went
from sortal.serve.frames import FILES
from sortal.serve.pool import Answer
from sortal.serve.rollout.guard import Guard, Limits, Seen
from sortal.serve.rollout.routing import place
from sortal.serve.service import Service
from sortal.serve.settings import ServeSettings

Given = tuple[dict[str, Any], list[Answer]]
"""What a service answered: the description of its classifier, and an answer for each image."""
PATIENCE = 0.5
"""The share of the time for an answer that a canary has, before the live classifier is asked."""
DEATHS, WITHIN_S = 3, 30.0
"""A canary is ended when so many more of its workers than of the live one's died within so long."""
_CHECKED = 4
"""Answers of the canary that the live classifier is asked about at once."""


@dataclass(kw_only=True)
class Counts:
    """Images that two classifiers were asked about."""

    same: int = 0
    """Both named the same class."""
    other: int = 0
    failed: int = 0
    """The second one had no answer, or not in time."""
    dropped: int = 0
    """It was not asked, because it was not ready or too many were waiting."""


class Aside:
    """Asks a service beside the answer that a client gets: never more than `most` images at once, never waited for."""

    def __init__(self, most: int):
        self.counts = Counts()
        self._most, self._open = most, 0
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(
        self,
        service: Service,
        images: list[bytes],
        given: Given,
        *,
        what: str,
        then: Callable[[Given, float, int, int], None],
    ) -> None:
        """Ask about images that were answered already; `then` is told what came, after how many seconds, and for how
        many images the class was the same and another one."""
        if not service.is_ready or self._open + len(images) > self._most:
            self.counts.dropped += len(images)
            return
        self._open += len(images)
        task = asyncio.create_task(self._ask(service, images, given, what, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ask nobody any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(
        self,
        service: Service,
        images: list[bytes],
        given: Given,
        what: str,
        then: Callable[[Given, float, int, int], None],
    ) -> None:
        begun_s = time.monotonic()
        try:
            found = await service.answer(images, what=what)
        except MachineError:
            self.counts.failed += len(images)
            return
        finally:
            self._open -= len(images)
        same, other, failed = held_against(given, found)
        self.counts.same += same
        self.counts.other += other
        self.counts.failed += failed
        then(found, time.monotonic() - begun_s, same, other)


def held_against(one: Given, two: Given) -> tuple[int, int, int]:
    """For how many images both name the same class, another one, and the second alone had no answer."""
    same = other = failed = 0
    for first, second in zip(one[1], two[1], strict=True):
        if "error" in second:
            failed += "error" not in first
        elif "error" not in first:
            alike = one[0]["labels"][first["index"]] == two[0]["labels"][second["index"]]
            same += alike
            other += not alike
    return same, other, failed


def fits(service: Service, live: Service, what: str) -> bool:
    """Whether images that are `what` can be put to both: files always, pixels where networks and classes are alike."""
    keys = ("input", "labels")
    return what == FILES or all(service.description.get(key) == live.description.get(key) for key in keys)


class Canary:
    """Answers a share of the requests; where it cannot, the live classifier answers them."""

    def __init__(self, service: Service, bundle: str, *, share: float, salt: str, settings: ServeSettings):
        self.service, self.bundle, self.share = service, bundle, share
        self.answered, self.fell_back = 0, 0
        """Requests that it answered, and that the live classifier had to answer in its place."""
        self.checks = Aside(_CHECKED)
        self.guard = Guard(limits_of(settings))
        self._salt, self._settings = salt, settings
        self._was_ready = False
        self._ready_s = time.monotonic()
        self._deaths: deque[tuple[float, int]] = deque()

    async def answer(
        self, live: Service, key: str, images: list[bytes], *, what: str, went: list[Went]
    ) -> tuple[Role, Given]:
        """Who answered, and what. Raises as `Service.answer` of the live one."""
        begun_s, tried = time.monotonic(), self._takes(live, key, what)
        if tried:
            given = await self._own(images, what, went)
            if given is not None:
                self._note(given, time.monotonic() - begun_s, canary=True)
                self._check(live, images, given, what)
                return "canary", given
            self.fell_back += 1
        spent_s = time.monotonic() - begun_s
        try:
            given = await live.answer(images, what=what, within_s=self._settings.answer_s - spent_s, went=went)
        except MachineError:
            if not tried:
                self.guard.note(Seen(canary=False, failed=True))
            raise
        if not tried:
            self._note(given, time.monotonic() - begun_s, canary=False)
        elif not _crashed(given):  # what neither can answer says nothing about the canary
            self.guard.note(Seen(canary=True, failed=True))
        return "live", given

    def trouble(self, live: Service) -> str | None:
        """Why its workers are no use, in words; None where they are."""
        now_s, service = time.monotonic(), self.service
        self._deaths.append((now_s, service.deaths - live.deaths))
        while self._deaths[0][0] < now_s - WITHIN_S:
            self._deaths.popleft()
        if self._deaths[-1][1] - min(count for _, count in self._deaths) >= DEATHS:
            return "its workers die again and again"
        if service.is_ready:
            self._was_ready, self._ready_s = True, now_s
        known = self._was_ready or bool(service.trouble)
        limit_s = self._settings.canary_gone_s if known else self._settings.start_s
        if now_s - self._ready_s < limit_s:
            return None
        return f"no worker of it was ready for {limit_s:g} s" + (f": {service.trouble}" if service.trouble else "")

    async def stop(self) -> None:
        """Answer what was taken, then end its workers."""
        await self.checks.stop()
        await self.service.stop()

    def _takes(self, live: Service, key: str, what: str) -> bool:
        return self.service.is_ready and place(key, self._salt) < self.share and fits(self.service, live, what)

    async def _own(self, images: list[bytes], what: str, went: list[Went]) -> Given | None:
        limit_s = PATIENCE * self._settings.answer_s
        try:
            given = await self.service.answer(images, what=what, within_s=limit_s, went=went)
        except MachineError:
            return None
        if _crashed(given):
            return None
        self.answered += 1
        return given

    def _note(self, given: Given, seconds: float, *, canary: bool) -> None:
        abstained = bool(given[1][0].get("abstained", False))
        self.guard.note(Seen(canary=canary, failed=_crashed(given), seconds=seconds, abstained=abstained))

    def _check(self, live: Service, images: list[bytes], given: Given, what: str) -> None:
        """Ask the live classifier about the first image too, where nobody waits for it."""
        if live.waiting:
            return

        def then(_: Given, __: float, same: int, other: int) -> None:
            if same or other:
                self.guard.compare(same=bool(same))

        self.checks.offer(live, images[:1], (given[0], given[1][:1]), what=what, then=then)


class Shadow:
    """Is asked everything after the live classifier, and answers nobody."""

    def __init__(self, service: Service, bundle: str, settings: ServeSettings):
        self.service, self.bundle = service, bundle
        self._aside = Aside(settings.queue)

    @property
    def counts(self) -> Counts:
        """How often it agreed with who answered."""
        return self._aside.counts

    def offer(
        self, live: Service, images: list[bytes], given: Given, *, what: str, told: Callable[[Given, float], None]
    ) -> None:
        """Ask it about images that were answered; `told` hears its answers and how many seconds they took."""
        if fits(self.service, live, what):
            self._aside.offer(
                self.service, images, given, what=what, then=lambda found, seconds, *_: told(found, seconds)
            )

    async def stop(self) -> None:
        """End its workers; nobody waits for it."""
        await self._aside.stop()
        await self.service.stop()


def limits_of(settings: ServeSettings) -> Limits:
    """What a server allows a canary."""
    return Limits(
        errors=settings.canary_errors,
        latency=settings.canary_latency,
        abstained=settings.canary_abstained,
        disagreed=settings.canary_disagreed,
        requests=settings.canary_requests,
        chance=settings.canary_chance,
    )


def _crashed(given: Given) -> bool:
    return any(answer.get("code") in FAILURES for answer in given[1])
