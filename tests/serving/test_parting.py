"""The end of a server while clients ask on connections that they keep: answered or refused, and none lost."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from pathlib import Path

from servers import Server, Start


def test_clients_that_keep_their_connection_lose_no_request(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=1")
    told: list[tuple[int, str | None]] = []
    lost: list[BaseException] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        while True:
            try:
                connection.connect()
            except OSError:
                return  # nobody listens any more
            try:
                while connection.sock is not None:
                    connection.request("POST", "/predict", colors["red"])
                    response = connection.getresponse()
                    response.read()
                    told.append((response.status, response.getheader("connection")))
            except (OSError, http.client.HTTPException) as error:
                lost.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(told) < 50:
        assert not lost
        time.sleep(0.02)
    assert ended(server) == 0
    for thread in threads:
        thread.join()
    assert lost == []
    assert {status for status, _ in told} <= {200, 503}
    goodbyes = [header for _, header in told if header is not None]
    assert goodbyes == ["close"] * len(goodbyes)
    assert len(goodbyes) >= 1


def ended(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(30)
