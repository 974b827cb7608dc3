"""The story of `sortal serve`: workers started, a port opened, a workspace followed, and an end that loses nobody.

The port opens at once and says that it is not ready; requests are taken when workers are. At the end, on SIGTERM or
Ctrl-C, no new request is taken, those that are open are answered, and then the workers go.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from sortal.core.errors import InputError, SortalError
from sortal.runtime.locate import locate
from sortal.serve.account import Account
from sortal.serve.app import Front
from sortal.serve.guard.listening import Guard, Listener, hurry_handshakes, opened
from sortal.serve.guard.safety import Safety
from sortal.serve.lines import Lines, log
from sortal.serve.metrics import Metrics
from sortal.serve.models import Models, Served
from sortal.serve.oip.dialogue import Dialogue
from sortal.serve.recorder import Recorder
from sortal.serve.service import Service
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.state import State
from sortal.serve.telemetry.tracing import open_tracing
from sortal.workspace.deployment import deployment
from sortal.workspace.folder import BUNDLES, Workspace, is_workspace, open_workspace

if TYPE_CHECKING:
    from sortal.serve.grpc.server import GrpcServer

_LOOK_S = 0.25
_LOCAL = Safety()


def serve(model: Path, settings: ServeSettings, *, safety: Safety = _LOCAL) -> None:
    """Serve a run, bundle, artifact or workspace until the process is told to end.

    Raises InputError where there is no such model, or the address can be reached from other machines without keys and
    TLS, see `Safety`; MachineError where the port is taken.
    """
    guard = Guard(safety, settings, log)
    workspace = _opened(model) if is_workspace(model) else None
    try:
        asyncio.run(_run(model, workspace, settings, guard))
    finally:
        if workspace is not None:
            workspace.close()


async def _run(model: Path, workspace: Workspace | None, settings: ServeSettings, guard: Guard) -> None:
    metrics, name = Metrics(), settings.name or model.resolve().name
    service = Service(_live(workspace) if workspace else _checked(model), settings, metrics.of(name))
    recorder = Recorder(workspace, settings, log) if workspace and not workspace.read_only else None
    models = Models([Served(name, service, recorder)])
    metrics.watch(State(models, settings))
    metrics.watch(guard.refused)
    tracing = open_tracing(settings, Lines())
    account, dialogue = Account(metrics, log, tracing), Dialogue(models, settings)
    front = Front(models, account, dialogue, settings)
    config = guard.config(front.app())
    beside = guard.metrics(front.metrics_app())
    hurry_handshakes(asyncio.get_running_loop(), settings.header_s)
    server = _Server(config, dialogue, _rpc(models, account, dialogue, settings, guard))
    for logger in ("uvicorn.error", "grpc", "asyncio"):
        logging.getLogger(logger).addHandler(Lines())
    service.start()
    if recorder is not None:
        recorder.start()
    follower = asyncio.create_task(_follow(workspace, service)) if workspace else None
    announcing = asyncio.create_task(_announce(server, service, settings, guard, beside))
    watching = asyncio.create_task(guard.follow())
    try:
        beside_task = None if beside is None else await opened(beside)
        await server.serve()
        if beside is not None and beside_task is not None:
            beside.should_exit = True
            await beside_task
    finally:
        for task in (follower, announcing, watching):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await front.stop()
        await service.stop()
        if recorder is not None:
            await recorder.stop()
        if tracing is not None:
            await tracing.stop()
        log({"event": "ended"})


class _Server(Listener):
    """Says that it is ending before it stops to listen."""

    def __init__(self, config: uvicorn.Config, dialogue: Dialogue, rpc: GrpcServer | None):
        super().__init__(config)
        self.rpc_address: str | None = None
        self._dialogue, self._rpc = dialogue, rpc

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at SIGTERM and Ctrl-C; uvicorn's own raises them once more when it is done, before workers have gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal came."""
        self._dialogue.is_ending = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Open the ports. Raises MachineError where one is taken."""
        await super().startup(sockets)
        if self._rpc is not None:
            self.rpc_address = self._rpc.open()
            await self._rpc.start()

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Answer what is open, on both ports, and close them."""
        ways = [super().shutdown(sockets)] + ([] if self._rpc is None else [self._rpc.stop()])
        await asyncio.gather(*ways)


def _rpc(
    models: Models, account: Account, dialogue: Dialogue, settings: ServeSettings, guard: Guard
) -> GrpcServer | None:
    if settings.grpc_port is None:
        return None
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it would say is no line of JSON
    from sortal.serve.grpc.server import GrpcServer

    return GrpcServer(models, account, dialogue, settings, admit=guard.admit, credentials=guard.rpc_credentials)


async def _announce(
    server: _Server, service: Service, settings: ServeSettings, guard: Guard, beside: Listener | None
) -> None:
    while not server.started or (settings.grpc_port is not None and server.rpc_address is None):
        await asyncio.sleep(0.02)
    metrics = {} if beside is None else {"metrics": f"{beside.url}/metrics"}
    rpc = {} if server.rpc_address is None else {"grpc": server.rpc_address}
    log({"event": "listening", "url": server.url, **rpc, **metrics, **guard.told})
    while not service.is_ready:
        await asyncio.sleep(0.02)
    log({"event": "ready", "workers": settings.workers, **service.in_short})


async def _follow(workspace: Workspace, service: Service) -> None:
    """Exchange the classifier whenever another one becomes live."""
    version, serving = workspace.database.version(), deployment(workspace).live
    while True:
        await asyncio.sleep(_LOOK_S)
        now = workspace.database.version()
        live = deployment(workspace).live if now != version else serving
        version = now
        if live in (serving, None):
            continue
        try:
            await service.exchange(_live(workspace))
            log({"event": "exchanged", "bundle_id": live, "before": serving})
            serving = live
        except SortalError as error:
            log({"event": "not exchanged", "bundle_id": live, "reason": str(error)})
            serving = live  # what failed is not tried again until somebody promotes something


def _opened(path: Path) -> Workspace:
    """To be written where that is allowed; else for reading, without events and feedback."""
    if os.access(path, os.W_OK):
        return open_workspace(path)
    log({"event": "read-only", "message": "events and feedback are not kept", "workspace": str(path)})
    return open_workspace(path, read_only=True)


def _live(workspace: Workspace) -> Path:
    live = deployment(workspace).live
    if live is None:
        raise InputError(
            "nothing is live in this workspace", where=str(workspace.path), hint="sortal promote RUN WORKSPACE"
        )
    return workspace.path / BUNDLES / live


def _checked(model: Path) -> Path:
    locate(model)
    return model
