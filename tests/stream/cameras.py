"""Cameras on loopback that send motion JPEG and misbehave as they are told."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

Peer = Callable[[socket.socket, int], None]
"""Serves one connection; the number says which one it is."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n"


def jpeg(color: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    pixels = np.full((size[1], size[0], 3), color, np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


RED, GREEN, BLUE = jpeg((240, 10, 10)), jpeg((10, 240, 10)), jpeg((10, 10, 240))


def part(data: bytes, *, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return b"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (size, data)


def frames(images: Sequence[bytes], *, every_s: float = 0.02, then: str = "close") -> Peer:
    """Sends images; then `close`, or `stall`: the connection stays open and nothing comes."""

    def serve(peer: socket.socket, number: int) -> None:
        peer.sendall(HEAD)
        for data in images:
            peer.sendall(part(data))
            time.sleep(every_s)
        if then == "stall":
            wait_for_the_other_side(peer)

    return serve


def wait_for_the_other_side(peer: socket.socket) -> None:
    with suppress(OSError):
        while peer.recv(4096):
            pass


@dataclass(kw_only=True)
class FakeCamera:
    """A server, and the first lines and headers of all that asked."""

    port: int
    asked: list[bytes] = field(default_factory=list)

    def url(self, user: str = "", query: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.port}/video{query}"


@contextmanager
def camera(peer: Peer, *, reads_first: bool = True) -> Iterator[FakeCamera]:
    """A camera that serves every connection by `peer`, in a thread each, after it has read what was asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        fake = FakeCamera(port=server.getsockname()[1])
        threads: list[threading.Thread] = []
        open_peers: set[socket.socket] = set()

        def serve(connection: socket.socket, number: int) -> None:
            with suppress(OSError), connection:
                if reads_first:
                    fake.asked.append(connection.recv(65536))
                peer(connection, number)
            open_peers.discard(connection)

        def accept() -> None:
            with suppress(OSError):
                for number in range(10_000):
                    connection, _ = server.accept()
                    open_peers.add(connection)
                    threads.append(threading.Thread(target=serve, args=(connection, number), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield fake
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
            for connection in list(open_peers):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5)
