"""What benchmarks of serving share: a load generator for one server on this machine, and how to watch its processes.

`closed_loop` keeps some clients busy, each asks again when it has its answer; it finds capacity and CPU a request.
`open_loop` sends at random moments (Poisson) whatever the server does, and counts from the moment at which a request
was due, so that a queue is seen; it finds latencies and what overload does. Connections are kept alive and bounded in
number, both loops end by themselves, and nothing but loopback is asked.

CPU is what all processes of a server have used (`/proc`), the load generator's own not included. Request rates on two
cores depend on what else runs; CPU a request hardly does.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HOST = "127.0.0.1"
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
ANSWER_LIMIT_S = 30.0
"""A client waits so long for an answer, and then counts it as lost."""
LOST = 0
"""The status of a request that got no answer: refused, reset, or later than the limit."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One request as its client saw it."""

    sent_s: float
    """When it was due, by the monotonic clock."""
    seconds: float
    status: int
    retry_after: str = ""
    body: bytes = b""


@dataclass(kw_only=True)
class Tally:
    """All answers of one run."""

    seconds: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    unsent: int = 0
    """Requests of an open loop for which no connection was left."""

    @property
    def statuses(self) -> dict[int, int]:
        """How many of each status."""
        return dict(sorted(Counter(one.status for one in self.answers).items()))

    @property
    def good(self) -> list[Answer]:
        """Those with status 200."""
        return [one for one in self.answers if one.status == 200]

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.good) / self.seconds

    def quantile_ms(self, share: float, *, status: int = 200) -> float:
        """Of latencies of one status; NaN where there is none."""
        own = [one.seconds for one in self.answers if one.status == status]
        return 1e3 * float(np.quantile(own, share)) if own else float("nan")


def post(path: str, body: bytes, kind: str = "image/jpeg", headers: str = "") -> bytes:
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{headers}\r\n".encode() + body


def get(path: str) -> bytes:
    """The bytes of a request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def numbers(text: bytes) -> dict[str, float]:
    """Metrics as Prometheus reads them."""
    pairs = (line.rpartition(" ") for line in text.decode().splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def form(path: str, field_name: str, body: bytes) -> bytes:
    """The bytes of a request with one file in a form."""
    edge = "sortal-edge-7d1f"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="{field_name}"; filename="a.jpg"\r\n'
    whole = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + body + f"\r\n--{edge}--\r\n".encode()
    return post(path, whole, f"multipart/form-data; boundary={edge}")


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[tuple[int, str, bytes]] | None = None
        self._received = bytearray()

    async def ask(self, port: int, request: bytes, limit_s: float = ANSWER_LIMIT_S) -> tuple[int, str, bytes]:
        """(status, Retry-After, body) of a request; status LOST where there was no answer."""
        try:
            async with asyncio.timeout(limit_s):
                if self._transport is None or self._transport.is_closing():
                    await asyncio.get_running_loop().create_connection(lambda: self, HOST, port)
                assert self._transport is not None
                self._received.clear()
                self._waiting = asyncio.get_running_loop().create_future()
                self._transport.write(request)
                return await self._waiting
        except (OSError, TimeoutError):
            self.close()
            return LOST, "", b""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        if "content-length" in fields:
            whole = len(self._received) >= end + 4 + int(fields["content-length"])
        else:
            whole = self._received.endswith(b"0\r\n\r\n")
        if not whole:
            return
        if fields.get("connection") == "close":
            self.close()
        self._end((int(head[9:12]), fields.get("retry-after", ""), bytes(self._received[end + 4 :])))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._end((LOST, "", b""))

    def _end(self, found: tuple[int, str, bytes]) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(found)


async def _timed(client: Client, port: int, request: bytes, due_s: float, *, keep: bool) -> Answer:
    status, retry_after, body = await client.ask(port, request)
    return Answer(
        sent_s=due_s,
        seconds=time.monotonic() - due_s,
        status=status,
        retry_after=retry_after,
        body=body if keep else b"",
    )


async def closed_loop(
    port: int,
    requests: Sequence[bytes],
    *,
    clients: int = 8,
    seconds: float = 10.0,
    count: int | None = None,
    keep: bool = False,
) -> Tally:
    """`clients` that ask one after another, for `seconds`, or until `count` requests are through."""
    tally, started_s = Tally(), time.monotonic()
    sent = 0

    async def one() -> None:
        nonlocal sent
        client = Client()
        while (sent < count) if count is not None else (time.monotonic() < started_s + seconds):
            number, sent = sent, sent + 1
            request = requests[number % len(requests)]
            tally.answers.append(await _timed(client, port, request, time.monotonic(), keep=keep))
            if tally.answers[-1].status == LOST:
                await asyncio.sleep(0.01)
        client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    tally.seconds = time.monotonic() - started_s
    return tally


async def open_loop(
    port: int,
    requests: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    seed: int = 0,
    most_open: int = 1000,
    keep: bool = False,
) -> Tally:
    """Requests at random moments, `rate` a second on average, whatever the server does."""
    tally, moments = Tally(seconds=seconds), random.Random(seed)
    free: list[Client] = []
    opened, tasks = 0, set[asyncio.Task[None]]()

    async def one(client: Client, request: bytes, due_s: float) -> None:
        tally.answers.append(await _timed(client, port, request, due_s, keep=keep))
        free.append(client)

    due_s = started_s = time.monotonic()
    number = 0
    while (due_s := due_s + moments.expovariate(rate)) < started_s + seconds:
        pause_s = due_s - time.monotonic()
        if pause_s > 0 or number % 20 == 0:  # answers are read although the moments lie behind
            await asyncio.sleep(max(pause_s, 0.0))
        if not free and opened >= most_open:
            tally.unsent += 1
            continue
        opened += not free
        client = free.pop() if free else Client()
        task = asyncio.create_task(one(client, requests[number % len(requests)], due_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    await asyncio.gather(*list(tasks))
    for client in free:
        client.close()
    return tally


def photographs(count: int = 16, *, width: int = 500, height: int = 375, seed: int = 0) -> list[bytes]:
    """JPEG files of smooth surfaces, edges and some grain: about 50 kB each, as photographs of this size have."""
    from PIL import Image

    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = generator.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        fine = generator.integers(0, 256, (94, 125, 3)).astype(np.uint8)
        layers = [
            np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC), np.float32)
            for layer in (coarse, fine)
        ]
        grain = generator.normal(0, 6, (height, width, 1))
        pixels = np.clip(0.75 * layers[0] + 0.25 * layers[1] + grain, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        found.append(file.getvalue())
    return found


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own; all its processes are ended with the block, also when SIGTERM ends it."""
    signal.signal(signal.SIGTERM, _leave)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(command),
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    try:
        yield process
    finally:
        family = tree(process.pid)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        for pid in (process.pid, *family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def wait_until_answered(process: subprocess.Popen[bytes], port: int, request: bytes, limit_s: float = 120.0) -> float:
    """Seconds until a request is answered with 200. Raises SystemExit where the server ends or takes too long."""
    started_s = time.monotonic()
    while time.monotonic() < started_s + limit_s:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}; see its log")
        if asyncio.run(_once(port, request)) == 200:
            return time.monotonic() - started_s
        time.sleep(0.05)
    raise SystemExit(f"no answer within {limit_s:g} s; see the server's log")


async def _once(port: int, request: bytes) -> int:
    client = Client()
    try:
        return (await client.ask(port, request, 10.0))[0]
    finally:
        client.close()


def tree(root: int) -> list[int]:
    """Process ids of `root` and all below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_s(root: int) -> float:
    """CPU seconds, user and system, of all processes of a server, and of those that ended and were waited for."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total * TICK_S


def memory_mib(root: int, kind: str = "Pss") -> float:
    """MiB of all processes of a server: `Pss` (shared pages counted in parts) or `Rss`."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(f"{kind}:"):
                    total += int(line.split()[1])
    return total / 1024


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range of some trials."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
