"""Exchange the classifier of a server again and again while clients ask, then end the server while they ask.

    python benchmarks/hot_swap.py RUN OTHER IMAGE [--swaps 50] [--seconds 60] [--wait] [--clients 4] [KEY=VALUE ...]

RUN and OTHER are runs or bundles with the same classes. A workspace is made in a temporary folder and served; every
`seconds / swaps` the other one is promoted. Counted are requests without a good answer, answers whose probability is
not that of the bundle they name, exchanges that were done (the server passes over one that is promoted away before it
stands; with --wait none is), latency outside and within a second of an exchange, and the memory of the front and of
all processes before and after. At the end SIGTERM comes under load: every request that was taken has to be answered,
the exit code to be 0. Clients reconnect; a connection that is refused after SIGTERM is no failure.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sortal.evaluate.compare.sides import bundle_of
from sortal.workspace.deployment import promote
from sortal.workspace.folder import create_workspace

_WAIT_S = 120.0
_NEAR_S = 1.0
_SETTLE_S = 5.0
_SAME = 1e-4
"""Answers of one bundle to one image differ by less: workers may compute in batches of other sizes."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One request as its client saw it; status 0 is none."""

    at_s: float
    seconds: float
    status: int
    bundle: str = ""
    probability: float = 0.0


@dataclass(kw_only=True)
class Clients:
    """Threads that ask, each again when it has its answer."""

    port: int
    image: bytes
    count: int
    answers: list[Answer] = field(default_factory=list)
    refused: int = 0
    """Connections refused, after the server was told to end."""
    is_ending: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self._stop.is_set():
            begun_s = time.monotonic()
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:
                if self.is_ending:
                    self.refused += 1
                    time.sleep(0.05)
                    continue
                raise
            self.answers.append(self._ask(connection, begun_s))

    def _ask(self, connection: http.client.HTTPConnection, begun_s: float) -> Answer:
        try:
            connection.request("POST", "/predict", self.image)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return Answer(at_s=begun_s, seconds=time.monotonic() - begun_s, status=0)
        seconds = time.monotonic() - begun_s
        if response.status != 200:
            return Answer(at_s=begun_s, seconds=seconds, status=response.status)
        told = json.loads(body)
        probability = told["predictions"][0]["probability"]
        return Answer(at_s=begun_s, seconds=seconds, status=200, bundle=told["bundle_id"], probability=probability)


class Server:
    """`sortal serve` in a process of its own."""

    def __init__(self, workspace: Path, log: Path, settings: list[str]):
        self._log = log
        command = [sys.executable, "-m", "sortal", "serve", str(workspace), "port=0", *settings]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stderr=file, stdout=file)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self._log.read_text(encoding="utf-8").splitlines()
        told = (json.loads(line) for line in lines if line.startswith("{"))
        return [one for one in told if one.get("event") == name]

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        end_s = time.monotonic() + _WAIT_S
        while time.monotonic() < end_s:
            found = self.events(name)
            if len(found) >= count:
                return found[count - 1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"no event {name}:\n{self._log.read_text(encoding='utf-8')[-2_000:]}")

    def memory_mb(self) -> tuple[float, float]:
        """Of the front, and of it and all its workers."""
        front = resident_mb(self.process.pid)
        return front, front + sum(resident_mb(pid) for pid in children(self.process.pid))


def children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent:
            found.append(int(folder.name))
    return found


def resident_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def p99_ms(answers: list[Answer]) -> float | None:
    return round(1e3 * float(np.percentile([one.seconds for one in answers], 99)), 1) if answers else None


def measured(args: argparse.Namespace) -> dict[str, Any]:
    bundles = [bundle_of(args.run), bundle_of(args.other)]
    if bundles[0] is None or bundles[1] is None or bundles[0].id == bundles[1].id:
        raise SystemExit("two different runs or bundles are needed")
    image = args.image.read_bytes()
    with tempfile.TemporaryDirectory() as folder, create_workspace(Path(folder) / "line") as workspace:
        promote(workspace, bundles[0])
        server = Server(workspace.path, Path(folder) / "log", args.settings)
        try:
            port = int(server.wait_for("listening")["url"].rpartition(":")[2])
            server.wait_for("ready")
            clients = Clients(port=port, image=image, count=args.clients)
            clients.start()
            time.sleep(_SETTLE_S)
            calm, before = list(clients.answers), server.memory_mb()
            swaps = []
            for turn in range(args.swaps):
                due_s = time.monotonic() + args.seconds / args.swaps
                promote(workspace, bundles[(turn + 1) % 2])
                swaps.append(time.monotonic())
                if args.wait:
                    server.wait_for("exchanged", turn + 1)
                time.sleep(max(0.0, due_s - time.monotonic()))
            time.sleep(_SETTLE_S)
            after, during = server.memory_mb(), list(clients.answers)
            done = len(server.events("exchanged"))
            clients.is_ending = True
            server.process.send_signal(signal.SIGTERM)
            began_s = time.monotonic()
            code = server.process.wait(_WAIT_S)
            took_s = time.monotonic() - began_s
            clients.stop()
        finally:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()
    return told(args, calm, during, clients, swaps, done, before, after, code, took_s)


def told(
    args: argparse.Namespace,
    calm: list[Answer],
    during: list[Answer],
    clients: Clients,
    swaps: list[float],
    done: int,
    before: tuple[float, float],
    after: tuple[float, float],
    code: int,
    took_s: float,
) -> dict[str, Any]:
    last = clients.answers[len(during) :]
    known: dict[str, float] = {}
    mixed = 0
    for one in during:
        if one.status == 200:
            mixed += abs(known.setdefault(one.bundle, one.probability) - one.probability) > _SAME
    near = [one for one in during if any(-_NEAR_S < one.at_s - at_s < _NEAR_S for at_s in swaps)]
    return {
        "swaps asked for": args.swaps,
        "exchanges done": done,
        "requests": len(during),
        "failed": sum(one.status != 200 for one in during),
        "bundles that answered": len(known),
        "answers of another bundle than they say": mixed,
        "p99 before, ms": p99_ms(calm),
        "p99 near an exchange, ms": p99_ms(near),
        "memory of the front before and after, MB": [round(before[0], 1), round(after[0], 1)],
        "memory of all processes before and after, MB": [round(before[1], 1), round(after[1], 1)],
        "SIGTERM: answered": sum(one.status == 200 for one in last),
        "SIGTERM: refused as ending (503)": sum(one.status == 503 for one in last),
        "SIGTERM: lost": sum(one.status not in (200, 503) for one in last),
        "SIGTERM: connections refused": clients.refused,
        "exit code": code,
        "seconds to end": round(took_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("settings", nargs="*", help="of sortal serve, such as workers=2")
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--wait", action="store_true", help="promote the next one when the last one stands")
    parser.add_argument("--clients", type=int, default=4)
    print(json.dumps(measured(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
