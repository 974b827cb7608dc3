"""HTTP as bytes, for what no client library would send."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from servers import Server

PATIENCE_S = 60
CLOSE = "Connection: close"


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def read(connection: socket.socket) -> bytes:
    """Until the server ends it."""
    found = b""
    try:
        while part := connection.recv(100_000):
            found += part
    except ConnectionError:
        pass
    return found


def said(server: Server, *parts: bytes) -> list[tuple[int, dict[str, Any]]]:
    """(status, JSON) of each response to bytes sent as they are, until the server ends the connection."""
    with connected(server) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except ConnectionError:
            pass
        return responses(read(connection))


def responses(data: bytes) -> list[tuple[int, dict[str, Any]]]:
    found = []
    while data:
        start, _, data = data.partition(b"\r\n\r\n")
        status = int(start.split(b" ", 2)[1])
        if status == 100:
            continue
        length = re.search(rb"content-length: (\d+)", start.lower())
        assert length is not None, start
        found.append((status, json.loads(data[: int(length[1])])))
        data = data[int(length[1]) :]
    return found


def one(server: Server, *parts: bytes) -> tuple[int, dict[str, Any]]:
    """The only response."""
    [found] = said(server, *parts)
    return found


def head(path: str = "/predict", *lines: str, method: str = "POST") -> bytes:
    """The beginning of a request, up to its body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
