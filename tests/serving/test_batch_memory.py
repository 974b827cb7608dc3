"""Images go to a worker through shared memory where they fit, over the socket where they do not; nobody can tell."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from servers import PATIENCE_S, Server, Start
from sortal.serve.memory import SIZE, BatchMemory, create_memory, open_memory


@pytest.fixture
def both() -> tuple[BatchMemory, BatchMemory]:
    """The front's view and a worker's."""
    made = create_memory()
    assert made is not None
    memory, descriptor = made
    other = open_memory(descriptor)
    assert other is not None
    return memory, other


def test_what_is_laid_down_is_read_on_the_other_side(both: tuple[BatchMemory, BatchMemory]) -> None:
    ours, theirs = both
    chance = random.Random(5)
    for count in (1, 7, 0, 64):
        images = [chance.randbytes(chance.randrange(60_000)) for _ in range(count)]
        sizes = ours.put(images)
        assert sizes is not None
        assert theirs.get(sizes) == images


def test_what_does_not_fit_is_not_laid_down_and_leaves_what_was_there(both: tuple[BatchMemory, BatchMemory]) -> None:
    ours, theirs = both
    assert ours.put([b"before"]) == [6]
    assert ours.put([bytes(SIZE), b"x"]) is None
    assert theirs.get([6]) == [b"before"]
    whole = ours.put([b"\x07" * SIZE])
    assert whole == [SIZE]
    assert theirs.get(whole) == [b"\x07" * SIZE]


@pytest.mark.parametrize("sizes", [[SIZE + 1], [SIZE, 1], [-1, 5], [10, -3]])
def test_sizes_that_nobody_can_have_laid_down_are_refused(
    both: tuple[BatchMemory, BatchMemory], sizes: list[int]
) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        both[1].get(sizes)


def test_batches_that_do_not_fit_are_answered_as_those_that_do(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=1", "batch=32", "images=32")
    names = ["red", "green", "blue", "green"] * 4
    padded = {name: image + bytes(SIZE // 10) for name, image in colors.items()}  # bytes behind an image are ignored
    for images in (padded, colors, padded):
        status, told = server.predict(form([images[name] for name in names]), content_type=f"{FORM}{EDGE}")
        assert status == 200
        assert [one["label"] for one in told["predictions"]] == names
    server.account()


def test_workers_that_die_leave_nothing(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1")
    assert server.predict(colors["red"])[0] == 200
    before = descriptors(server)
    for _ in range(4):
        [worker] = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_for_another(server, worker)
        assert server.predict(colors["red"])[0] == 200
    assert descriptors(server) == before


EDGE = "edge"
FORM = "multipart/form-data; boundary="


def form(images: list[bytes]) -> bytes:
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    return b"".join(head + image + b"\r\n" for image in images) + f"--{EDGE}--\r\n".encode()


def descriptors(server: Server) -> list[str]:
    """What the front has open, without connections of clients that may not be gone yet."""
    found = list[str]()
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            found.append(str(link.readlink()).partition(":")[0])
        except OSError:
            continue
    return sorted(one for one in found if one != "socket")


def wait_for_another(server: Server, old: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while server.workers() in ([], [old]) or server.numbers()["sortal_workers_ready"] < 1:
        assert time.monotonic() < end
        time.sleep(0.05)
