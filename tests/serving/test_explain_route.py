"""Answers explained over HTTP: maps that mark what matters, refusals that say why, and predictions that never wait."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sortal
from servers import Server, Start
from sortal.core.errors import ImageError, InputError, NotFoundError
from sortal.evaluate.explain.places import boxes, grid


def halves() -> bytes:
    """Red on the left, where the classifier of colors looks, blue on the right."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :8, 0], pixels[:, 8:, 2] = 250, 250
    pixels[:, :4, 0] = 40
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def explain(server: Server, body: bytes, query: str = "") -> tuple[int, dict[str, Any]]:
    status, _, text = server.ask("POST", f"/explain{query}", body)
    return status, json.loads(text)


def explaining(server: Server) -> list[int]:
    """Processes of the server that explain."""
    return server.children("sortal.serve.explaining")


def test_maps_lie_where_the_classifier_looks(shared: Server) -> None:
    status, told = explain(shared, halves())
    assert status == 200
    assert told["label"] == told["explained"]["label"] == "red"
    [one] = told["maps"]
    cells = np.asarray(one["grid"])
    assert (one["kind"], cells.shape) == ("occlusion", (14, 14))
    assert cells[:, :7].sum() > 2 * abs(cells[:, 7:].sum())
    assert one["boxes"][0]["left"] + one["boxes"][0]["width"] <= 0.6
    assert one["checks"]["marks_what_matters"] is True
    assert one["checks"]["score_lost"] > one["checks"]["score_lost_at_random"]
    against = explain(shared, halves(), "?class=blue")[1]
    assert (against["label"], against["explained"]["label"]) == ("red", "blue")
    assert np.asarray(against["maps"][0]["grid"]).sum() < 0


def test_a_picture_comes_alone_or_with_the_numbers(shared: Server) -> None:
    status, headers, data = shared.ask("POST", "/explain?format=png", halves(), {"X-Request-Id": "why-1"})
    assert (status, headers["content-type"], headers["x-map"]) == (200, "image/png", "occlusion")
    assert headers["x-request-id"] == "why-1"
    picture = np.asarray(Image.open(io.BytesIO(data)))
    assert picture.shape == (448, 448, 3)
    red, blue = picture[:, :200, 0].mean(), picture[:, 260:, 0].mean()
    assert red > blue
    told = explain(shared, halves(), "?overlay=true")[1]
    assert base64.b64decode(told["maps"][0]["overlay"].partition(",")[2]) == data


@pytest.mark.parametrize(
    ("query", "body", "status", "said"),
    [
        ("?class=violet", halves(), 400, "unknown class"),
        ("?class=", halves(), 400, "unknown class"),
        ("?format=gif", halves(), 400, "json or png"),
        ("?overlay=1", halves(), 400, "false or true"),
        ("?format=png&map=grad_cam", halves(), 400, "no such map"),
        ("?model=nobody", halves(), 404, "no such model"),
        ("", b"", 400, "no image"),
        ("", b"damaged", 422, ""),
        ("", b'{"images": ["aGVsbG8=", "aGVsbG8="]}', 400, "one image"),
    ],
)
def test_what_cannot_be_explained_is_said(shared: Server, query: str, body: bytes, status: int, said: str) -> None:
    kind = {"Content-Type": "application/json"} if body.startswith(b"{") else {}
    found, _, text = shared.ask("POST", f"/explain{query}", body, kind)
    assert found == status
    assert said in json.loads(text)["error"]


def test_the_client_explains(shared: Server) -> None:
    with sortal.Client(f"http://127.0.0.1:{shared.port}") as client:
        pixels = np.asarray(Image.open(io.BytesIO(halves())))
        assert client.explain(pixels, class_name="green")["explained"]["label"] == "green"
        with pytest.raises(InputError, match="unknown class"):
            client.explain(pixels, class_name="violet")
        with pytest.raises(ImageError):
            client.explain(b"damaged")


def test_one_process_explains_and_is_replaced_when_it_dies(start: Start, bundles: tuple[Path, Path]) -> None:
    server = start(bundles[0], "workers=1")
    assert explaining(server) == []
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(explain(server, halves())[0])) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200, 503}
    [first] = explaining(server)
    while first in explaining(server):
        os.kill(first, signal.SIGKILL)
        time.sleep(0.05)
    assert explain(server, halves())[0] == 200
    assert explaining(server) != [first]
    server.account()


def test_explanations_that_take_too_long_end(start: Start, bundles: tuple[Path, Path]) -> None:
    server = start(bundles[0], "workers=1", "explain_s=0.01")
    status, told = explain(server, halves())
    assert (status, told["error"]) == (504, "not explained within 0.01 s")
    assert explaining(server) == []


def test_it_can_be_switched_off(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1", "explain=false", "page=false")
    assert explain(server, halves())[0] == 404
    assert server.ask("GET", "/")[0] == 404
    with sortal.Client(f"http://127.0.0.1:{server.port}") as client, pytest.raises(NotFoundError):
        client.explain(colors["red"])


def test_a_map_in_few_numbers() -> None:
    values = np.zeros((28, 56))
    values[4:8, 8:16] = 2.0
    values[20:24, 40:44] = 1.5
    values[0:2, 0:4] = -5.0
    cells = grid(values)
    assert cells.shape == (14, 14)
    first, second = boxes(cells)
    assert (first.left, first.top, first.width, first.height) == pytest.approx((2 / 14, 2 / 14, 2 / 14, 2 / 14))
    assert (second.left, second.top) == pytest.approx((10 / 14, 10 / 14))
    assert first.share + second.share == pytest.approx(1.0)
    assert grid(np.ones((5, 9))).shape == (5, 9)
    assert boxes(np.zeros((3, 3))) == []
    assert boxes(-np.ones((3, 3))) == []
