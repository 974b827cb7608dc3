"""From a fault of a server to a person: Prometheus and Alertmanager as they are deployed, with our rules and receiver.

Only durations are shortened and addresses exchanged. What each rule does in its own time is in test_monitoring.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from programs import need_program
from servers import start_server
from sockets import free_port

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
PATIENCE_S = 90.0


class Receiver:
    """Takes what Alertmanager tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.told += [(alert["labels"]["alertname"], alert["status"]) for alert in body["alerts"]]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.port = self._server.server_port

    def wait_for(self, name: str, status: str) -> None:
        wait(lambda: (name, status) in self.told, f"{name} {status}, there is {self.told}")

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def wait(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def configuration(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))


def written(folder: Path, server: int, manager: int, receiver: int) -> None:
    """The three files of deploy/prometheus with other addresses and short times."""
    scrape = configuration("prometheus.yaml")
    scrape["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    scrape["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{manager}"]
    scrape["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{server}"]
    rules = configuration("alerts.yaml")
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
    route = configuration("alertmanager.yaml")
    route["route"] |= {"group_wait": "100ms", "group_interval": "500ms"}
    [operators] = route["receivers"]
    operators["webhook_configs"][0]["url"] = f"http://127.0.0.1:{receiver}/alerts"
    for name, found in (("prometheus.yaml", scrape), ("alerts.yaml", rules), ("alertmanager.yaml", route)):
        (folder / name).write_text(yaml.safe_dump(found))


@contextmanager
def running(*commands: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        processes = [subprocess.Popen(command, stdout=file, stderr=file) for command in commands]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


@pytest.mark.slow
def test_a_fault_reaches_the_receiver_and_its_end_too(bundle: Path, tmp_path: Path, red: bytes) -> None:
    prometheus = need_program("prometheus", "prometheus")
    alertmanager = need_program("prometheus-alertmanager", "prometheus-alertmanager")
    own = tmp_path / "colors"
    shutil.copytree(bundle, own)
    server, receiver, port, manager = (
        start_server(own, tmp_path / "log", "workers=1"),
        Receiver(),
        free_port(),
        free_port(),
    )
    try:
        server.wait_for("ready")
        written(tmp_path, server.port, manager, receiver.port)
        with running(
            [
                prometheus,
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            [
                alertmanager,
                f"--config.file={tmp_path / 'alertmanager.yaml'}",
                f"--storage.path={tmp_path / 'silences'}",
                f"--web.listen-address=127.0.0.1:{manager}",
                "--cluster.listen-address=",
            ],
            log=tmp_path / "monitors.log",
        ):
            assert server.predict(red)[0] == 200
            own.rename(tmp_path / "away")  # no worker can start any more
            os.kill(server.workers()[0], signal.SIGKILL)
            receiver.wait_for("SortalNotReady", "firing")
            (tmp_path / "away").rename(own)
            receiver.wait_for("SortalNotReady", "resolved")
            assert server.predict(red)[0] == 200
            assert server.end() == 0
            receiver.wait_for("SortalDown", "firing")
    finally:
        server.end()
        receiver.close()
