"""Does what a workspace says: exchanges the live classifier, starts and ends canary and shadow, ends a canary that
does worse. What it cannot read or start leaves things as they are and is told in the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from sortal.core.errors import InputError, SortalError
from sortal.core.events import Role
from sortal.serve.metrics import Metrics
from sortal.serve.models import Served
from sortal.serve.rollout.arms import Canary, Shadow
from sortal.serve.service import Service
from sortal.serve.settings import ServeSettings
from sortal.workspace.deployment import Deployment, deployment, journal, withdraw
from sortal.workspace.folder import BUNDLES, Workspace

_LOOK_S = 0.25
_JUDGE_S = 1.0
_PATIENCE_S = 10.0
"""A classifier that has not started after so long is given up when another one is asked for."""
_TELL_S = 60.0
"""Between lines of the log that say the same trouble."""
_BY = "sortal serve"

Log = Callable[[dict[str, Any]], None]


class Follower:
    """Follows one workspace for one model."""

    def __init__(self, workspace: Workspace, served: Served, settings: ServeSettings, metrics: Metrics, log: Log):
        self._workspace, self._served, self._settings = workspace, served, settings
        self._metrics, self._log = metrics, log
        self._version: int | None = None
        self._now = Deployment()
        self._serving: str | None = None
        self._tried: str | None = None
        """The last live bundle that an exchange was begun for; what failed waits for another promotion."""
        self._exchange: asyncio.Task[None] | None = None
        self._begun_s = self._judged_s = time.monotonic()
        self._given_up = 0
        """The generation whose canary was ended here although the workspace could not be told."""
        self._refused, self._told_s = "", 0.0
        self._endings: set[asyncio.Task[None]] = set()

    async def run(self, serving: str | None) -> None:
        """Follow until cancelled; `serving` is what the model was started with."""
        self._serving = self._tried = serving
        while True:
            try:
                await self._read()
                self._follow_live()
                await self._follow_others()
                await self._judge()
            except SortalError as error:
                self._version = None
                self._tell_refused(str(error))
                await asyncio.sleep(_JUDGE_S)
            await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """End canary and shadow, and what was begun."""
        if self._exchange is not None:
            self._exchange.cancel()
            with suppress(asyncio.CancelledError):
                await self._exchange
        self._end_canary()
        self._end_shadow()
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _read(self) -> None:
        """The state of the workspace, where anything was written to it."""
        version = await asyncio.to_thread(self._workspace.database.version)
        if version != self._version:
            self._now = await asyncio.to_thread(deployment, self._workspace)
            self._version = version

    def _follow_live(self) -> None:
        wanted, running = self._now.live, self._exchange is not None and not self._exchange.done()
        if wanted is None or wanted == self._tried:
            return
        if running and time.monotonic() - self._begun_s < _PATIENCE_S:
            return
        if running and self._exchange is not None:
            self._exchange.cancel()
        self._tried, self._begun_s = wanted, time.monotonic()
        canary = self._served.canary
        if canary is not None and canary.bundle == wanted and canary.service.is_ready:
            self._served.canary = None
            self._served.service.adopt(canary.service)
            self._later(canary.stop())
            self._exchanged(wanted)
        elif wanted != self._serving:
            self._exchange = asyncio.create_task(self._exchange_for(wanted))
        else:
            self._served.service.stay()
            self._tell("followed", bundle_id=wanted)

    async def _exchange_for(self, bundle: str) -> None:
        try:
            await self._served.service.exchange(self._folder(bundle))
        except SortalError as error:
            self._tell("not exchanged", bundle_id=bundle, reason=str(error))
        else:
            self._exchanged(bundle)

    def _exchanged(self, bundle: str) -> None:
        self._tell("exchanged", bundle_id=bundle, before=self._serving)
        self._serving = bundle

    async def _follow_others(self) -> None:
        """Start and end canary and shadow; they are asked when they are ready, and nothing waits for that."""
        now, served = self._now, self._served
        if served.canary is not None and served.canary.bundle != now.canary:
            self._end_canary()
        if served.shadow is not None and served.shadow.bundle != now.shadow:
            self._end_shadow()
        if not served.is_ready:  # the live classifier starts first
            return
        if now.canary is not None and served.canary is None and now.generation != self._given_up:
            salt = await asyncio.to_thread(_salt, self._workspace, now.canary)
            share, service = now.canary_share or 0.0, self._started(now.canary, "canary")
            served.canary = Canary(service, now.canary, share=share, salt=salt, settings=self._settings)
            self._tell("canary", bundle_id=now.canary, share=share)
        elif served.canary is not None and served.canary.share != now.canary_share:
            served.canary.share = now.canary_share or 0.0
            self._tell("canary", bundle_id=now.canary, share=now.canary_share)
        if now.shadow is not None and served.shadow is None:
            served.shadow = Shadow(self._started(now.shadow, "shadow"), now.shadow, self._settings)
            self._tell("shadow", bundle_id=now.shadow)

    async def _judge(self) -> None:
        """End a canary that does worse than the live classifier."""
        canary, now_s = self._served.canary, time.monotonic()
        if canary is None or now_s - self._judged_s < _JUDGE_S:
            return
        self._judged_s = now_s
        reason = canary.trouble(self._served.service) or canary.guard.reason()
        if reason is None:
            return
        self._given_up = self._now.generation
        self._end_canary()
        self._tell("aborted", bundle_id=canary.bundle, reason=reason)
        await asyncio.to_thread(_withdraw, self._workspace, canary.bundle, reason)
        self._version = None  # what this connection wrote does not show in its own version

    def _end_canary(self) -> None:
        canary, self._served.canary = self._served.canary, None
        if canary is not None:
            self._later(canary.stop())
            self._tell("canary ended", bundle_id=canary.bundle)

    def _end_shadow(self) -> None:
        shadow, self._served.shadow = self._served.shadow, None
        if shadow is not None:
            self._later(shadow.stop())
            self._tell("shadow ended", bundle_id=shadow.bundle)

    def _started(self, bundle: str, role: Role) -> Service:
        metrics = self._metrics.of(self._served.name, role)
        service = Service(self._folder(bundle), self._settings, metrics, aside=role == "shadow")
        service.start()
        return service

    def _folder(self, bundle: str) -> Path:
        return self._workspace.path / BUNDLES / bundle

    def _later(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(ending)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    def _tell_refused(self, reason: str) -> None:
        now_s = time.monotonic()
        if reason != self._refused or now_s - self._told_s >= _TELL_S:
            self._refused, self._told_s = reason, now_s
            self._tell("workspace refused", reason=reason)

    def _tell(self, event: str, **told: Any) -> None:
        self._log({"event": event, "model": self._served.name, **told})


def _salt(workspace: Workspace, bundle: str) -> str:
    """What is the same for as long as a canary stands, also in another process, and not told to clients."""
    begun = ""
    for entry in journal(workspace):
        if entry.state.canary != bundle:
            break
        begun = f"{entry.state.generation} {entry.time}"
    return f"{bundle} {begun}"


def _withdraw(workspace: Workspace, bundle: str, reason: str) -> None:
    """End a canary in the workspace, unless somebody did so meanwhile. Raises as `withdraw`."""
    for attempt in range(3):
        now = deployment(workspace)
        if now.canary != bundle:
            return
        try:
            withdraw(workspace, expected=now.generation, by=_BY, note=reason)
        except InputError:  # somebody was faster
            if attempt == 2:
                raise
        else:
            return
