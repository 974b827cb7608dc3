"""The gate before all calls of gRPC: the same keys, the same counts, another table. What is not in it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import unquote

from prometheus_client import Counter

from sortal.serve.account import Told
from sortal.serve.guard.access import CALLS
from sortal.serve.guard.caller import CALLER
from sortal.serve.guard.gate import tell
from sortal.serve.guard.ring import KeyRing, Refusal, RefusedError, secret_of

Admit = Callable[[Mapping[str, str], str, str], None]
"""See `sortal.serve.grpc.server.GrpcServer`."""


def admission(ring: KeyRing, refused: Counter, log: Told) -> Admit:
    """A function that raises RefusedError for a call that may not be made."""

    def admit(metadata: Mapping[str, str], peer: str, method: str) -> None:
        if method not in CALLS:
            raise RefusedError(Refusal(reason="not allowed", what="this call is closed"))
        address = address_of(peer)
        found = ring.admit(secret_of(metadata), CALLS[method], address)
        if isinstance(found, Refusal):
            tell(found, address, method, refused, log)
            raise RefusedError(found)
        CALLER.set(found.name)

    return admit


def address_of(peer: str) -> str:
    """`::1` of `ipv6:%5B::1%5D:50412`, as gRPC writes where a call comes from."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer
