"""What keeps a server safe, put together: its keys, its certificates, and the ports that it listens on with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette

from sortal.core.errors import MachineError
from sortal.serve.account import Told
from sortal.serve.early import EarlyRefusal, behind
from sortal.serve.guard.gate import Keeper, counter, guard
from sortal.serve.guard.ring import KeyRing
from sortal.serve.guard.rpc import Admit, admission
from sortal.serve.guard.safety import Safety
from sortal.serve.guard.tls import Certificates
from sortal.serve.guard.watch import Watched
from sortal.serve.protocol import limited_protocol
from sortal.serve.settings import LOOPBACK, ServeSettings

_BACKLOG = 1024
_LOOK_S = 0.02


class Guard:
    """Of one server, for all its ports."""

    def __init__(self, safety: Safety, settings: ServeSettings, log: Told, *, workers: int):
        """`workers` are those of all models. Raises InputError for an address that may not be listened on so, and for
        keys and certificates that are none."""
        safety.check(settings)
        self._settings, self._log, self._workers = settings, log, workers
        self.refused = counter()
        self.ring = None if safety.auth is None else KeyRing(safety.auth)
        self.certificates = None
        self._watched = []
        if safety.auth is not None and self.ring is not None:
            self._watched.append(Watched("keys", [safety.auth], self.ring.load, log))
        if safety.certificate is not None and safety.certificate_key is not None:
            self.certificates = Certificates(safety.certificate, safety.certificate_key, safety.client_ca)
            self._watched.append(Watched("certificates", self.certificates.paths, self.certificates.load, log))

    @property
    def told(self) -> dict[str, Any]:
        """For the log: whether keys and TLS are asked for."""
        ends = {} if self.certificates is None else {"certificate_ends": self.certificates.not_after}
        return {"keys": self.ring is not None, "tls": self.certificates is not None} | ends

    def config(self, app: Starlette, early: EarlyRefusal) -> uvicorn.Config:
        """How the server's `app` listens, behind the gate."""
        keeper = self._keeper(app, self.ring)
        protocol = limited_protocol(self._settings, self._workers, behind(keeper, early))
        place = self._settings.host, self._settings.port
        return self._config(guard(app, keeper, self._settings), *place, protocol, self.certificates)

    def metrics(self, app: Starlette) -> Listener | None:
        """The port of metrics, where they have one: on loopback without keys and TLS, else with those of the server."""
        port, host = self._settings.metrics_port, self._settings.metrics_host
        if port is None:
            return None
        ring, certificates = (None, None) if host in LOOPBACK else (self.ring, self.certificates)
        protocol = limited_protocol(self._settings, self._workers, lambda _: None)
        guarded = guard(app, self._keeper(app, ring), self._settings)
        return Listener(self._config(guarded, host, port, protocol, certificates))

    def _keeper(self, app: Starlette, ring: KeyRing | None) -> Keeper:
        return Keeper(app, ring, self.refused, self._settings, self._log)

    def _config(
        self, app: Starlette, host: str, port: int, protocol: type[asyncio.Protocol], certificates: Certificates | None
    ) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            host=host,
            port=port,
            http=protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # an address that a client may choose would not be worth counting by
            log_config=None,
            timeout_graceful_shutdown=int(self._settings.drain_s) + 1,
            backlog=_BACKLOG,
            ssl_context_factory=None if certificates is None else lambda _, __: certificates.context,
        )

    @property
    def admit(self) -> Admit | None:
        """For gRPC."""
        return None if self.ring is None else admission(self.ring, self.refused, self._log)

    @property
    def rpc_credentials(self) -> Any:
        """For gRPC; None without TLS."""
        return None if self.certificates is None else self.certificates.grpc_credentials()

    async def follow(self) -> None:
        """Read keys and certificates again when they change, until cancelled."""
        await asyncio.gather(*(one.follow() for one in self._watched))


class Listener(uvicorn.Server):
    """A port that says in our own words that it is taken."""

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        host, port = self.config.host, self.servers[0].sockets[0].getsockname()[1]
        return f"{'https' if self.config.is_ssl else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for the server that it belongs to."""
        yield

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Open the port. Raises MachineError where it is taken."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            where = f"{self.config.host}:{self.config.port}"
            raise MachineError("the port cannot be opened", where=where, hint="choose another: port=8080") from error


async def opened(listener: Listener) -> asyncio.Task[None]:
    """Let it listen; returns what runs until its `should_exit`. Raises MachineError where its port is taken."""
    running = asyncio.create_task(listener.serve())
    while not listener.started and not running.done():
        await asyncio.sleep(_LOOK_S)
    if running.done():
        await running
    return running


def hurry_handshakes(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """Let servers of `loop` give up a TLS handshake after so long, not after a minute; uvicorn cannot say it."""
    create: Any = loop.create_server

    def created(factory: Callable[[], Any], *places: Any, ssl: Any = None, **more: Any) -> Any:
        patience = {} if ssl is None else {"ssl_handshake_timeout": seconds}
        return create(factory, *places, ssl=ssl, **more, **patience)

    setattr(loop, "create_server", created)  # noqa: B010  mypy allows no assignment to a method
