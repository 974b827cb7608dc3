"""The story of `sortal serve`: workers started, a port opened, a workspace followed, and an end that loses nobody.

The port opens at once and says that it is not ready; requests are taken when workers are. At the end, on SIGTERM or
Ctrl-C, no new request is taken, those that are open are answered, and then the workers go.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from sortal.serve.account import Account
from sortal.serve.app import Front
from sortal.serve.early import EarlyRefusal
from sortal.serve.guard.listening import Guard, Listener, hurry_handshakes, opened
from sortal.serve.guard.safety import Safety
from sortal.serve.hosted import Hosted
from sortal.serve.lines import Lines, log
from sortal.serve.listed import Listed
from sortal.serve.metrics import Metrics
from sortal.serve.models import Models
from sortal.serve.oip.dialogue import Dialogue
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.state import State
from sortal.serve.telemetry.tracing import open_tracing

if TYPE_CHECKING:
    from sortal.serve.grpc.server import GrpcServer

_LOCAL = Safety()
_GOODBYE_S = 0.3
"""How long open connections may still bring requests, which are refused, before those that bring none are closed."""


def serve(model: Path, settings: ServeSettings, *, safety: Safety = _LOCAL) -> None:
    """Serve a run, bundle, artifact or workspace until the process is told to end.

    Raises InputError where there is no such model, or the address can be reached from other machines without keys and
    TLS, see `Safety`; MachineError where the port is taken.
    """
    serve_several([Listed(name=settings.name or model.resolve().name, path=model, settings=settings)], settings, safety)


def serve_several(listed: Sequence[Listed], settings: ServeSettings, safety: Safety = _LOCAL) -> None:
    """Serve models by name, the first one where nobody names one; `settings` are those of the server.

    Raises as `serve`; where there are several, one that cannot be opened keeps none of the others from answering.
    """
    workers = sum(one.settings.workers for one in listed)
    guard, metrics = Guard(safety, settings, log, workers=workers), Metrics()
    hosted: list[Hosted] = []
    try:
        hosted += (Hosted(one, metrics, log, alone=len(listed) == 1) for one in listed)
        asyncio.run(_run(hosted, settings, metrics, guard))
    finally:
        for one in hosted:
            one.close()


async def _run(hosted: Sequence[Hosted], settings: ServeSettings, metrics: Metrics, guard: Guard) -> None:
    models = Models([one.served for one in hosted])
    metrics.watch(State(models))
    metrics.watch(guard.refused)
    tracing = open_tracing(settings, Lines())
    account, dialogue = Account(metrics, log, tracing), Dialogue(models, settings)
    front = Front(models, account, dialogue, settings)
    config = guard.config(front.app(), EarlyRefusal(models, account, lambda: dialogue.is_ending))
    beside = guard.metrics(front.metrics_app())
    hurry_handshakes(asyncio.get_running_loop(), settings.header_s)
    server = _Server(config, models, dialogue, _rpc(models, account, dialogue, settings, guard))
    for logger in ("uvicorn.error", "grpc", "asyncio"):
        logging.getLogger(logger).addHandler(Lines())
    for one in hosted:
        one.start()
    announcing = asyncio.create_task(_announce(server, settings, guard, beside))
    watching = asyncio.create_task(guard.follow())
    try:
        beside_task = None if beside is None else await opened(beside)
        await server.serve()
        if beside is not None and beside_task is not None:
            beside.should_exit = True
            await beside_task
    finally:
        for task in (announcing, watching):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await front.stop()
        await asyncio.gather(*(one.stop() for one in hosted))
        if tracing is not None:
            await tracing.stop()
        log({"event": "ended"})


class _Server(Listener):
    """Says that it is ending before it stops to listen."""

    def __init__(self, config: uvicorn.Config, models: Models, dialogue: Dialogue, rpc: GrpcServer | None):
        super().__init__(config)
        self.rpc_address: str | None = None
        self._models, self._dialogue, self._rpc = models, dialogue, rpc
        self._giving_up: asyncio.Future[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at SIGTERM and Ctrl-C; uvicorn's own raises them once more when it is done, before workers have gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal came; with the second one nobody is waited for any more."""
        if self._dialogue.is_ending:
            self._give_up()
        self._dialogue.is_ending = True
        for server in getattr(self, "servers", ()):  # first of all: who is told to go would else come again
            server.close()
        super().handle_exit(sig, frame)

    def _give_up(self) -> None:
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        for _, service in (pair for one in self._models for pair in one.services()):
            service.give_up()
        if self._rpc is not None and self._giving_up is None:
            self._giving_up = asyncio.ensure_future(self._rpc.stop(at_once=True))

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Open the ports. Raises MachineError where one is taken."""
        await super().startup(sockets)
        if self._rpc is not None:
            self.rpc_address = self._rpc.open()
            await self._rpc.start()

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Tell those that ask on open connections to go, answer what is open, and close both ports."""
        await asyncio.sleep(_GOODBYE_S)
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


async def _announce(server: _Server, settings: ServeSettings, guard: Guard, beside: Listener | None) -> None:
    while not server.started or (settings.grpc_port is not None and server.rpc_address is None):
        await asyncio.sleep(0.02)
    metrics = {} if beside is None else {"metrics": f"{beside.url}/metrics"}
    rpc = {} if server.rpc_address is None else {"grpc": server.rpc_address}
    log({"event": "listening", "url": server.url, **rpc, **metrics, **guard.told})
