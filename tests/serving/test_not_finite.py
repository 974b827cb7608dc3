"""A network that gives NaN or infinity: the server's failure, never an answer and never the client's fault."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from colors import color_bundle
from servers import Start


def plain(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), (red, 10, 10)).save(file, "PNG")
    return file.getvalue()


def test_an_answer_that_is_no_finite_number_is_a_failure(start: Start, tmp_path: Path) -> None:
    server = start(color_bundle(tmp_path / "large", factor=1e38), "workers=1")  # overflows where an image is bright
    assert server.predict(plain(90))[0] == 200
    (worker,) = server.workers()
    status, told = server.predict(plain(250))
    assert status == 500
    assert [one["code"] for one in told["predictions"]] == ["not_finite"]
    pixels = np.full((1, 16, 16, 3), 250, np.uint8)
    tensor = {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8", "data": pixels.ravel().tolist()}
    status, _, body = server.ask("POST", "/v2/models/large/infer", json.dumps({"inputs": [tensor]}).encode())
    assert (status, b"finite" in body) == (500, True)
    assert server.workers() == [worker]
    server.account()
