"""A worker that takes more memory than it may, alone or of the whole machine, and a server that has too little."""

from __future__ import annotations

import io
import os
import resource
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from servers import Start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")


def taken(pid: int, what: str) -> int:
    """Bytes, as the system tells them: VmRSS, VmHWM, VmSize."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


@pytest.fixture(scope="module")
def huge() -> bytes:
    """36 million pixels that take 108 MB, in a file of 120 kB."""
    pixels, file = np.zeros((6000, 6000, 3), np.uint8), io.BytesIO()
    pixels[..., 0] = 250
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_an_image_that_takes_too_much_is_refused_alone(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], huge: bytes
) -> None:
    server = start(bundles[0], "workers=1", "memory_mb=64")
    [worker] = server.workers()
    before = taken(worker, "VmRSS")
    found: list[tuple[bytes, int]] = []

    def ask(image: bytes) -> Callable[[], None]:
        return lambda: found.append((image, server.predict(image)[0]))

    threads = [threading.Thread(target=ask(image)) for image in [huge, colors["red"], huge, colors["blue"]] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for image, status in found if image != huge} == {200}
    assert {status for image, status in found if image == huge} == {422}
    assert "not enough memory" in server.predict(huge)[1]["predictions"][0]["error"]
    assert server.workers() == [worker]
    assert taken(worker, "VmHWM") < before + 100_000_000
    server.account()


def test_a_large_image_has_the_memory_that_it_needs(start: Start, bundles: tuple[Path, Path], huge: bytes) -> None:
    server = start(bundles[0], "workers=1")
    status, told = server.predict(huge)
    assert (status, told["predictions"][0]["label"]) == (200, "red")


def test_the_system_ends_workers_before_the_server(start: Start, bundles: tuple[Path, Path]) -> None:
    server = start(bundles[0], "workers=1")
    front, [worker] = server.process.pid, server.workers()
    first, second = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (front, worker))
    assert second == 500 > first


def test_a_server_that_has_no_memory_for_bodies_goes_on_when_it_has(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=1")
    front = server.process.pid
    assert server.predict(colors["red"])[0] == 200
    resource.prlimit(front, resource.RLIMIT_AS, (taken(front, "VmSize") + 30_000_000, resource.RLIM_INFINITY))
    statuses, body = list[int](), os.urandom(19_000_000)

    def ask() -> None:
        with suppress(OSError):
            statuses.append(server.predict(body)[0])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {422, 503, 400}
    assert server.ask("GET", "/livez")[0] == 200
    resource.prlimit(front, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert server.predict(colors["green"])[0] == 200
    server.account()
