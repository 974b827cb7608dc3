"""The port of gRPC: opened, answered on, and closed without losing a request."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from sortal.core.errors import MachineError
from sortal.serve.account import Account
from sortal.serve.grpc import classifier, health, inference
from sortal.serve.grpc.calls import Calls
from sortal.serve.guard.rpc import Admit
from sortal.serve.models import Models
from sortal.serve.oip.dialogue import Dialogue
from sortal.serve.protocol import most_connections
from sortal.serve.settings import ServeSettings

_STREAMS = 1024
"""Calls that one connection may have open."""
_IDLE_MS = 60_000
"""A connection without a call is ended; clients open another when they need one."""


class GrpcServer:
    """The services over the models of one server.

    `admit(metadata, peer, method)` is called for every call, also those about health, before its message is read. It
    gets what the client sent (lower-case names; binary values are left out), its address as gRPC writes it
    (`ipv4:127.0.0.1:50412`), and the method (`/sortal.v1.Classifier/Classify`). It returns at once for a client that
    may ask, and raises a SortalError for one that may not; the error's status in HTTP (`refusals.status_of`) says which
    status the call has: 401 is UNAUTHENTICATED, 403 PERMISSION_DENIED, 429 RESOURCE_EXHAUSTED, 503 UNAVAILABLE; an
    OverloadError also says when to ask again. Without it everyone may ask.

    `credentials` of `grpc.ssl_server_credentials` make it TLS. Needs a running loop.
    """

    def __init__(
        self,
        models: Models,
        account: Account,
        dialogue: Dialogue,
        settings: ServeSettings,
        *,
        admit: Admit | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ):
        self._settings, self._credentials, self._dialogue = settings, credentials, dialogue
        self._ending = asyncio.Event()
        calls = Calls(settings, account, admit)
        services = {
            inference.SERVICE: inference.Inference(dialogue, calls, self._ending).handlers(),
            classifier.SERVICE: classifier.Classifier(models, dialogue, calls, settings).handlers(),
        }
        services[health.SERVICE] = health.Health(models, dialogue, calls, list(services), self._ending).handlers()
        self._server = grpc.aio.server(options=_options(settings, models))
        self._server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())
        )

    def open(self) -> str:
        """Take the port; returns the address. Raises MachineError where it is taken."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        address = f"{host}:{self._settings.grpc_port}"
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise MachineError(
                "the port for gRPC cannot be opened",
                where=address,
                hint="choose another: grpc_port=8002, or grpc_port=off",
            ) from error
        return f"{host}:{port}"

    async def start(self) -> None:
        """Answer."""
        await self._server.start()

    async def stop(self, *, at_once: bool = False) -> None:
        """Take no more calls, and wait for those that are open, for `drain_s` at most; `at_once` cancels them."""
        self._ending.set()
        await self._server.stop(0.0 if at_once else self._settings.drain_s)


def _options(settings: ServeSettings, models: Models) -> list[tuple[str, Any]]:
    workers = sum(one.service.settings.workers for one in models)
    return [
        ("grpc.max_receive_message_length", int(settings.body_mb * 1e6)),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.max_allowed_incoming_connections", most_connections(settings, workers)),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.server_handshake_timeout_ms", int(1e3 * settings.header_s)),
        ("grpc.so_reuseport", 0),  # a second server shall be told that the port is taken, not get half of the calls
    ]
