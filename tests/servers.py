"""A real server in a process of its own, as tests talk to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 90.0


@dataclass(kw_only=True)
class Server:
    """A running `sortal serve` and what it said."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0
    grpc: str = ""
    """Its address for gRPC."""
    key: str = ""
    """Sent with every request, where there is one."""

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = [one for one in self.events() if one["event"] == event]
            if len(found) >= count:
                return found[count - 1]
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            time.sleep(0.05)
        raise AssertionError(f"no event {event}: {self.log.read_text(encoding='utf-8')}")

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            own = {"X-API-Key": self.key} if self.key else {}
            connection.request(method, path, body, own | (headers or {}))
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def predict(self, body: bytes, path: str = "/predict", **headers: str) -> tuple[int, dict[str, Any]]:
        status, _, text = self.ask("POST", path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        return status, json.loads(text)

    def workers(self) -> list[int]:
        """Process ids of the workers, as the system knows them."""
        return self.children("sortal.serve.worker")

    def children(self, module: str) -> list[int]:
        """Process ids of the server's children that run a module."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat, command = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if module.encode() in command and int(stat.rpartition(")")[2].split()[1]) == self.process.pid:
                found.append(int(folder.name))
        return found

    def wait_for_workers(self, count: int) -> None:
        """Until so many can answer; the server calls itself ready with the first one."""
        end = time.monotonic() + PATIENCE_S
        while self.numbers()["sortal_workers_ready"] < count:
            assert time.monotonic() < end, self.log.read_text(encoding="utf-8")
            time.sleep(0.05)

    def numbers(self) -> dict[str, float]:
        """The metrics; a name without labels is the sum of its series."""
        text = self.ask("GET", "/metrics")[2].decode()
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        found: dict[str, float] = {}
        for name, _, value in pairs:
            found[name] = float(value)
            if "{" in name and not name.partition("{")[0].endswith("_bucket"):
                bare = name.partition("{")[0]
                found[bare] = found.get(bare, 0.0) + float(value)
        return found

    def memory(self) -> int:
        """Bytes that the front process has in memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def account(self) -> None:
        """Every request received has one outcome, and nothing waits."""
        numbers = self.numbers()
        assert numbers["sortal_requests_received_total"] == numbers["sortal_requests_total"]
        assert numbers["sortal_requests_unaccounted"] == 0
        assert numbers["sortal_queue_images"] == 0

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


Start = Callable[..., Server]


def start_server(model: Path, log: Path, *settings: str, several: bool = False) -> Server:
    """A server on a free port that says so; its workers may not be ready yet. `several`: `model` is a file of them."""
    served = ["--models", str(model)] if several else [str(model)]
    command = [sys.executable, "-m", "sortal", "serve", *served, "port=0", *settings]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
    server = Server(process=process, log=log)
    listening = server.wait_for("listening")
    server.port, server.grpc = int(listening["url"].rpartition(":")[2]), listening.get("grpc", "")
    return server
