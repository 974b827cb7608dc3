"""One model of a server from its start to its end: the workspace opened and followed, workers, what is remembered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sortal.core.errors import InputError, SortalError
from sortal.runtime.locate import locate
from sortal.serve.listed import Listed
from sortal.serve.metrics import Metrics
from sortal.serve.models import Served
from sortal.serve.recorder import Recorder
from sortal.serve.rollout.follower import Follower
from sortal.serve.service import Service
from sortal.workspace.deployment import deployment
from sortal.workspace.folder import BUNDLES, Workspace, is_workspace, open_workspace

Log = Callable[[dict[str, Any]], None]


class Hosted:
    """A model and everything that lives as long as it."""

    def __init__(self, listed: Listed, metrics: Metrics, log: Log, *, alone: bool):
        """Raises as `locate` and `open_workspace`, and InputError where nothing is live; where it is not `alone`, that
        is kept as the trouble of this model, and the others are served."""
        self._log, self.trouble = log, ""
        self._workspace: Workspace | None = None
        self._live: str | None = None
        path = listed.path
        try:
            path = self._found(path, alone=alone)
        except SortalError as error:
            if alone:
                self.close()
                raise
            self.trouble = str(error)
        service = Service(path, listed.settings, metrics.of(listed.name), trouble=self.trouble)
        self.served = Served(listed.name, service, self._recorder(listed))
        self._follower = self._follower_of(listed, metrics)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to start workers and to follow; returns at once."""
        self.served.service.start()
        if self.served.recorder is not None:
            self.served.recorder.start()
        if self._follower is not None:
            self._tasks.append(asyncio.create_task(self._follower.run(self._live)))
        self._tasks.append(asyncio.create_task(self._announce()))

    async def stop(self) -> None:
        """Answer what was taken, end all workers and write what is left."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._follower is not None:
            await self._follower.stop()
        await self.served.service.stop()
        if self.served.recorder is not None:
            await self.served.recorder.stop()

    def close(self) -> None:
        """Give the workspace back."""
        if self._workspace is not None:
            self._workspace.close()

    def _found(self, path: Path, *, alone: bool) -> Path:
        """What workers open."""
        if not is_workspace(path):
            if alone:
                locate(path)
            return path
        self._workspace = self._opened(path)
        self._live = deployment(self._workspace).live
        if self._live is None:
            hint = f"sortal promote RUN {path}"
            raise InputError("nothing is live in this workspace", where=str(path), hint=hint)
        return path / BUNDLES / self._live

    def _opened(self, path: Path) -> Workspace:
        """To be written where that is allowed; else for reading, without events and feedback."""
        if os.access(path, os.W_OK):
            return open_workspace(path)
        self._log({"event": "read-only", "message": "events and feedback are not kept", "workspace": str(path)})
        return open_workspace(path, read_only=True)

    def _recorder(self, listed: Listed) -> Recorder | None:
        if self._workspace is None or self._workspace.read_only:
            return None
        return Recorder(self._workspace, listed.settings, self._log)

    def _follower_of(self, listed: Listed, metrics: Metrics) -> Follower | None:
        if self._workspace is None:
            return None
        return Follower(self._workspace, self.served, listed.settings, metrics, self._log)

    async def _announce(self) -> None:
        service = self.served.service
        if self.trouble:
            self._log({"event": "not started", "model": self.served.name, "reason": self.trouble})
        while not service.is_ready:
            await asyncio.sleep(0.02)
        workers = service.settings.workers
        self._log({"event": "ready", "model": self.served.name, "workers": workers, **service.in_short})
