"""The client gives what the classifier gives, image for image; what goes wrong is an error of Sortal."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sortal
from servers import Server, Start, start_server
from sortal.client.talk import Ask, Failure, Heard, Patience, Reply, Send, Sleep, answered
from sortal.core.bundle import open_bundle
from sortal.core.errors import (
    ConflictError,
    DeadlineError,
    InputError,
    InternalError,
    MachineError,
    NotFoundError,
    OverloadError,
)
from sortal.core.predictions import Predictions
from sortal.runtime.classifier import open_classifier
from sortal.workspace.deployment import promote
from sortal.workspace.feedback import statements
from sortal.workspace.folder import create_workspace


def client_of(server: Server, **options: Any) -> sortal.Client:
    return sortal.Client(f"http://127.0.0.1:{server.port}", **options)


def noise(count: int, *, size: int = 24, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return list(random.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def turned() -> Image.Image:
    """A photograph whose EXIF says that it lies on its side; left and right differ."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :, 0] = 250
    pixels[10:, :, 2] = 250
    image, file = Image.fromarray(pixels), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, "JPEG", exif=exif)
    return Image.open(file)


def same(found: Predictions, expected: Predictions) -> None:
    assert found.names == expected.names
    assert found.labels == expected.labels
    assert found.bundle_id == expected.bundle_id
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-6)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_array_equal(found.abstained, expected.abstained)
    assert {row: code for row, (code, _) in found.errors.items()} == {
        row: code for row, (code, _) in expected.errors.items()
    }
    assert (found.unknown is None) is (expected.unknown is None)
    assert found.to_polars().columns == expected.to_polars().columns


def test_every_kind_of_image_is_answered_as_the_classifier_does(
    shared: Server, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "red.png").write_bytes(colors["red"])
    (tmp_path / "empty.png").touch()
    wide = noise(1, seed=3)[0].astype(np.uint16) * 257
    images: list[Any] = [
        tmp_path / "red.png",
        str(tmp_path / "missing.png"),
        tmp_path / "empty.png",
        colors["green"],
        b"damaged",
        noise(1)[0],
        noise(1)[0][:, :, 0],
        noise(1)[0][:, :, :1] > 100,
        np.dstack([noise(1)[0], np.full((24, 24), 90, np.uint8)]),
        wide,
        wide[:, :, 0],
        noise(1)[0].astype(np.float32),
        Image.fromarray(noise(1)[0]).convert("CMYK"),
        Image.fromarray(noise(1)[0]).convert("P"),
        turned(),
    ]
    with client_of(shared) as client, open_classifier(bundles[0]) as model:
        expected = model.predict(images)
        assert set(expected.errors) == {1, 2, 4, 11}
        same(client.predict(images), expected)
        same(client.predict(images[0]), model.predict(images[0]))
        same(client.predict(tmp_path), model.predict(tmp_path))
        same(client.predict([]), model.predict([]))
        assert client.labels == model.labels


def test_many_images_go_in_as_many_requests_as_the_limits_ask_for(shared: Server, bundles: tuple[Path, Path]) -> None:
    small, large = noise(21), noise(3, size=400)  # 8 images or 1 MB in a request
    before = shared.numbers()["sortal_requests_received_total"]
    with client_of(shared) as client, open_classifier(bundles[0]) as model:
        same(client.predict([*small, *large]), model.predict([*small, *large]))
        assert shared.numbers()["sortal_requests_received_total"] - before == 4
        too_large = np.asarray(noise(1, size=800)[0])
        found = client.predict([too_large, small[0]], request_id="order-9")
    assert list(found.errors) == [0]
    assert found.errors[0][0] == "too_large"
    assert found.index[1] >= 0
    assert any(event.get("request_id") == "order-9" for event in shared.events())


def test_a_client_that_awaits_does_the_same(
    shared: Server, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    async def asked() -> list[Predictions]:
        async with sortal.AsyncClient(f"http://127.0.0.1:{shared.port}") as client:
            assert await client.ready()
            assert (await client.health())["ready"]
            assert (await client.labels()).names == ("red", "green", "blue")
            assert (await client.model())["limits"]["images"] == 8
            with pytest.raises(NotFoundError):
                await client.feedback("red", image=colors["red"])
            return list(await asyncio.gather(*(client.predict(list(colors.values())) for _ in range(6))))

    with open_classifier(bundles[0]) as model:
        expected = model.predict(list(colors.values()))
    for one in asyncio.run(asked()):
        same(one, expected)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a closed loop closes no connection
def test_a_client_that_awaits_outlives_its_loop(shared: Server, colors: dict[str, bytes]) -> None:
    """A script that calls `asyncio.run` for each question: connections belong to the loop that opened them."""
    client = sortal.AsyncClient(f"http://127.0.0.1:{shared.port}")
    for _ in range(3):
        assert asyncio.run(client.predict(colors["red"])).answers() == ["red"]
    asyncio.run(client.close())
    del client
    gc.collect()


def test_what_the_server_refuses_is_an_error_of_its_kind(shared: Server, colors: dict[str, bytes]) -> None:
    with client_of(shared, model="nobody") as client, pytest.raises(NotFoundError, match="no such model"):
        client.predict(colors["red"])
    with client_of(shared) as client:
        assert client.ready()
        assert client.health()["workers"] == 1
        with pytest.raises(NotFoundError, match="labels are kept by a workspace") as caught:
            client.feedback("red", image=colors["red"])
        assert "sortal serve WORKSPACE" in str(caught.value)
        with pytest.raises(InputError, match="not an image"):
            client.predict([3])  # type: ignore[list-item]
        for name in ("a\r\nX-Injected: 1", "夹渣", "", "x" * 121):
            with pytest.raises(InputError, match="a request is called"):
                client.predict(colors["red"], request_id=name)
    for options in ({"timeout": 0}, {"retries": -1}, {"batch": 0}, {"key": "a\nb"}, {"key": "夹渣"}):
        with pytest.raises(InputError, match="option of a client"):
            client_of(shared, **options)
    for wrong in ("localhost:8000", "ftp://localhost", "", "http://"):
        with pytest.raises(InputError, match="no address"):
            sortal.Client(wrong)


def test_labels_are_said_once_and_about_the_right_image(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    pixels = noise(1)[0]
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, open_bundle(bundles[0]))
        server = start(workspace.path, "workers=1")
        with client_of(server) as client:
            client.predict([colors["red"]], request_id="part-1")
            first = client.feedback("blue", request_id="part-1", source="station 2", key="k1")
            assert (first.stored, first.disputed, first.label) == ("new", False, "blue")
            assert client.feedback("blue", image=colors["red"], key="k1").stored == "known"
            client.predict([pixels])
            told = client.feedback("green", image=pixels, comment="<b>看</b>")
            assert (told.stored, len(told.key)) == ("new", 32)
            with pytest.raises(ConflictError):
                client.feedback("red", request_id="part-1", key="k1")
            with pytest.raises(InputError, match="no such class"):
                client.feedback("violet", image=pixels)
            with pytest.raises(NotFoundError):
                client.feedback("red", request_id="nobody")
            outcomes: list[str] = []
            threads = [
                threading.Thread(
                    target=lambda: outcomes.append(client.feedback("red", image=pixels, key="same").stored)
                )
                for _ in range(20)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(outcomes) == ["known"] * 19 + ["new"]
        assert [one.label for one in statements(workspace)] == ["blue", "green", "red"]


def test_a_busy_server_is_asked_again(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1", "queue=2", "batch=1")
    failed: list[Exception] = []
    answered_well: list[int] = []

    def ask(retries: int) -> None:
        with client_of(server, retries=retries, timeout=90.0) as client:
            for _ in range(4):
                try:
                    answered_well.append(int(client.predict([colors["blue"]]).index[0]))
                except Exception as error:
                    failed.append(error)

    for retries in (0, 60):
        failed.clear()
        answered_well.clear()
        threads = [threading.Thread(target=ask, args=(retries,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(failed) + len(answered_well) == 48
        assert set(answered_well) == {2}
        assert {type(error) for error in failed} <= ({OverloadError} if retries == 0 else set())
    server.account()


def test_a_server_that_is_killed_and_comes_back_loses_nothing(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    server = start_server(bundles[0], tmp_path / "first.log", "workers=1")
    server.wait_for("ready")
    found: list[Predictions] = []
    images = noise(600)
    with client_of(server, batch=4, timeout=90.0, retries=100) as client, open_classifier(bundles[0]) as model:
        asking = threading.Thread(target=lambda: found.append(client.predict(images)))
        asking.start()
        server.wait_for("predict", 20)
        server.process.kill()
        server.process.wait()
        again = start_server(bundles[0], tmp_path / "second.log", "workers=1", f"port={server.port}")
        try:
            asking.join(120)
            again.wait_for("predict")
            same(found[0], model.predict(images))
        finally:
            again.end()


def test_answers_come_from_one_bundle_although_it_is_exchanged(
    start: Start, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    images, found = noise(120), []
    stop = threading.Event()
    with create_workspace(tmp_path / "line5") as workspace, open_classifier(bundles[0]) as one:
        promote(workspace, open_bundle(bundles[0]))
        server = start(workspace.path, "workers=1", "canary_requests=100000")
        with client_of(server, batch=3, timeout=90.0) as client, open_classifier(bundles[1]) as two:
            expected = {model.bundle_id: model.predict(images) for model in (one, two)}

            def ask() -> None:
                while not stop.is_set():
                    found.append(client.predict(images))

            asking = threading.Thread(target=ask)
            asking.start()
            try:
                while not found:
                    time.sleep(0.02)
                for number, bundle in enumerate((bundles[1], bundles[0])):
                    promote(workspace, open_bundle(bundle))
                    server.wait_for("exchanged", number + 1)
                    assert client.explain(images[0])["bundle_id"] == open_bundle(bundle).id
                    count = len(found)
                    while len(found) < count + 2:
                        time.sleep(0.02)
            finally:
                stop.set()
                asking.join(60)
            before = len(found)
            promote(workspace, open_bundle(bundles[1]), canary=0.5)
            server.wait_for("canary")
            while len({one.bundle_id for one in found[before:]}) < 2 and len(found) < before + 300:
                found.append(client.predict(images[:9]))
    assert {one.bundle_id for one in found} == {one.bundle_id for one in found[before:]} == set(expected)
    for predictions in found:
        whole = expected[predictions.bundle_id]
        np.testing.assert_allclose(predictions.probabilities, whole.probabilities[: len(predictions)], atol=1e-6)


@contextmanager
def strange_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Something that listens, and does as it likes with a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65536)
                        talk(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def replying(status: str, body: bytes) -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + body)


def dripping(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("talk", "kind", "said"),
    [
        (replying("502 Bad Gateway", b"<html>oh</html>"), MachineError, "status 502"),
        (replying("500 Oh", b"{}"), InternalError, "status 500"),
        (replying("200 OK", b"<html>welcome</html>"), MachineError, "status 200"),
        (replying("200 OK", b"[1, 2]"), MachineError, "status 200"),
        (replying("200 OK", b'{"limits": 3}'), MachineError, "something else"),
        (replying("200 OK", b'{"label_set": {"names": ["a", "b"]}}'), MachineError, "something else"),
        (replying("301 Moved\r\nLocation: https://there.example/", b""), MachineError, "https://there.example/"),
        (replying("401 Unauthorized", b'{"error": "no key"}'), InputError, "no key"),
        (replying("503 Busy", b"busy"), OverloadError, "status 503"),
        (replying("429 Busy", b'{"error": "slower"}'), OverloadError, "slower"),
        (replying("200 OK", b"[" * 100_000), MachineError, "status 200"),
        (lambda connection: None, MachineError, "cannot be reached"),
        (dripping, DeadlineError, "no answer within"),
    ],
)
def test_other_servers_are_no_surprise(
    talk: Callable[[socket.socket], None], kind: type[Exception], said: str, colors: dict[str, bytes]
) -> None:
    with (
        strange_server(talk) as url,
        sortal.Client(url, timeout=0.5, retries=1) as client,
        pytest.raises(kind, match=said),
    ):
        client.predict(colors["red"])


TWO = {"label_set": {"names": ["a", "b"]}}
DESCRIBED = {"bundle_id": "x", "limits": {"images": 4, "body_mb": 1}, "input": {"channels": 3, "depth": 8}, **TWO}
ANSWER = {"index": 0, "label": "a", "probability": 0.9, "abstained": False, "probabilities": [0.9, 0.1]}


@pytest.mark.parametrize(
    ("described", "answered"),
    [
        ({"limits": None}, []),
        ({"limits": {"images": "many", "body_mb": 1}}, []),
        ({"limits": {"images": 0, "body_mb": 1}}, []),
        ({"limits": {"images": 4, "body_mb": 1e999}}, []),
        ({"input": {}}, []),
        ({}, []),
        ({}, ["a"]),
        ({}, [{}]),
        ({}, [{**ANSWER, "label": "another"}]),
        ({}, [{**ANSWER, "probabilities": [1.0]}]),
        ({}, [{**ANSWER, "probabilities": [float("nan"), 0.1]}]),
        ({}, [{**ANSWER, "probabilities": "all"}]),
    ],
)
def test_half_an_answer_is_none(described: dict[str, Any], answered: list[Any]) -> None:
    bodies = [{**DESCRIBED, **described}, {"bundle_id": "x", "predictions": answered, **TWO}]
    replies = iter([replying("200 OK", json.dumps(body).encode()) for body in bodies])
    with (
        strange_server(lambda connection: next(replies)(connection)) as url,
        sortal.Client(url, timeout=5.0, retries=0) as client,
        pytest.raises(MachineError, match="something else than was asked"),
    ):
        client.predict(b"an image")


def test_a_whole_answer_is_one() -> None:
    bodies = [DESCRIBED, {"bundle_id": "x", "predictions": [ANSWER], **TWO}]
    replies = iter([replying("200 OK", json.dumps(body).encode()) for body in bodies])
    with (
        strange_server(lambda connection: next(replies)(connection)) as url,
        sortal.Client(url, timeout=5.0, retries=0) as client,
    ):
        assert client.predict(b"an image").answers() == ["a"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a",
        "127.0.0.1:8000",
        "http://",
        "http://[::1",
        "http://a:99999",
        "http://a:x",
        "http://a..b",
        "http://" + "a" * 300,
        "http://a b",
        "http://a/\n",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no address of a server"):
        sortal.Client(url)


def test_a_server_that_is_not_there_is_said_to_be_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        sortal.Client(f"http://127.0.0.1:{port}", timeout=1.0) as client,
        pytest.raises(MachineError, match="cannot be reached") as caught,
    ):
        client.ready()
    assert "sortal serve MODEL" in str(caught.value)


def played(heard: list[Heard], *, timeout_s: float = 30.0, retries: int = 3) -> tuple[list[float], Reply]:
    """The pauses of a talk in which these things are heard, each a second after it was asked, and how it ends."""
    now = [0.0]
    patience = Patience(timeout_s=timeout_s, retries=retries, clock=lambda: now[0], random=lambda: 0.5)
    talk, pauses, rest = answered(Ask(method="GET", path="/model"), patience), [], iter(heard)
    step = next(talk)
    while True:
        try:
            if isinstance(step, Send):
                assert step.limit_s <= max(timeout_s - now[0], 0.001)
                now[0] += 1.0
                step = talk.send(next(rest))
            else:
                assert isinstance(step, Sleep)
                pauses.append(step.seconds)
                now[0] += step.seconds
                step = talk.send(None)
        except StopIteration as end:
            assert next(rest, None) is None
            return pauses, end.value


def reply(status: int, **headers: str) -> Reply:
    return Reply(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=b"")


def test_pauses_grow_and_keep_to_what_the_server_says() -> None:
    lost = Failure(reason="refused")
    assert played([lost, lost, lost, reply(200)])[0] == [0.05, 0.1, 0.2]
    assert played([reply(503, retry_after="2"), reply(429), reply(200)])[0] == [2.05, 0.1]
    assert played([reply(502), reply(200)])[0] == [0.05]
    assert played([reply(503), reply(503), reply(503), reply(503)])[1].status == 503
    later = "Fri, 31 Dec 1999 23:59:59 GMT"  # a date that has passed asks for no pause
    assert played([reply(503, retry_after=later), reply(200)])[0] == [0.05]


@pytest.mark.parametrize("status", [200, 400, 404, 409, 422, 500, 504])
def test_answers_are_final(status: int) -> None:
    assert played([reply(status)])[1].status == status


def test_nobody_waits_longer_than_there_is_time() -> None:
    assert played([reply(503, retry_after="40")])[0] == []
    assert played([reply(503, retry_after="4"), reply(503, retry_after="4")], timeout_s=8.0)[0] == [4.05]
    with pytest.raises(DeadlineError):
        played([Failure(reason="late", late=True)])
    with pytest.raises(MachineError, match="cannot be reached"):
        played([Failure(reason="refused")], retries=0)


def test_threads_that_begin_together_share_one_pool_of_connections(shared: Server) -> None:
    opened = []

    class Counted(sortal.Client):
        def _options(self) -> dict[str, Any]:
            opened.append(threading.get_ident())
            time.sleep(0.05)
            return super()._options()

    with Counted(f"http://127.0.0.1:{shared.port}") as client:
        threads = [threading.Thread(target=client.ready) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(opened) == 1
