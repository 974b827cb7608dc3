"""What a server answers is what `predict` answers, whatever way the image comes; what is wrong is said in JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from corpus.hostile import hostile
from corpus.odd import odd
from servers import Server
from sortal.runtime.classifier import open_classifier


def form(files: list[bytes], boundary: str = "limit") -> tuple[bytes, str]:
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="file"; filename="%d.png"\r\n\r\n%s\r\n'
        % (boundary.encode(), number, data)
        for number, data in enumerate(files)
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def test_an_image_is_answered_as_predict_does(
    shared: Server, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    with open_classifier(bundles[0]) as model:
        expected = model.predict([colors["green"]])
    status, found = shared.predict(colors["green"])
    assert status == 200
    [answer] = found["predictions"]
    assert (answer["label"], answer["abstained"]) == ("green", bool(expected.abstained[0]))
    assert answer["probability"] == pytest.approx(float(expected.probability[0]), abs=1e-6)
    assert [one["label"] for one in answer["top"]] == ["green", "red", "blue"]
    assert found["bundle_id"] == expected.bundle_id


def test_every_way_in_leads_to_the_same_answers(shared: Server, colors: dict[str, bytes]) -> None:
    files = list(colors.values())
    body, kind = form(files)
    texts = [base64.b64encode(data).decode() for data in files]
    asked = [
        shared.predict(body, content_type=kind),
        shared.predict(json.dumps({"images": texts}).encode(), content_type="application/json"),
        shared.predict(
            json.dumps({"images": [f"data:image/png;base64,{text}" for text in texts]}).encode(),
            content_type="application/json; charset=utf-8",
        ),
    ]
    for status, found in asked:
        assert status == 200
        assert [one["label"] for one in found["predictions"]] == ["red", "green", "blue"]
        assert found["predictions"] == asked[0][1]["predictions"]
    one = shared.predict(json.dumps({"image": texts[2]}).encode(), content_type="application/json")
    assert one[1]["predictions"] == asked[0][1]["predictions"][2:]


def test_top_says_how_many_classes(shared: Server, colors: dict[str, bytes]) -> None:
    assert len(shared.predict(colors["red"], "/predict?top=1")[1]["predictions"][0]["top"]) == 1
    for wrong in ("0", "21", "-1", "many", "", "9" * 500):
        status, found = shared.predict(colors["red"], f"/predict?top={wrong}")
        assert status == 400
        assert "top is a number from 1 to 20" in found["error"]


def test_a_request_keeps_its_own_name(shared: Server, colors: dict[str, bytes]) -> None:
    status, headers, body = shared.ask("POST", "/predict", colors["red"], {"X-Request-Id": "order-7"})
    assert status == 200
    assert headers["x-request-id"] == json.loads(body)["request_id"] == "order-7"
    for own in ("x" * 129, "a\tb"):
        _, headers, _ = shared.ask("POST", "/predict", colors["red"], {"X-Request-Id": own})
        assert headers["x-request-id"] != own


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "image/png", 400, "no image in the request"),
        (b"hello", "image/png", 422, ""),
        (b"{", "application/json", 400, "no JSON"),
        (b"[]", "application/json", 400, "object with image"),
        (b'{"images": 3}', "application/json", 400, "list of texts"),
        (b'{"images": [3]}', "application/json", 400, "text in base64"),
        (b'{"image": "%%%"}', "application/json", 400, "not in base64"),
        (b'{"images": []}', "application/json", 400, "no image in the request"),
        (b'{"images": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "application/json", 400, ""),
        (b'{"images": [[[[[[[[[[[1]]]]]]]]]]]}', "application/json", 400, "nested too deeply"),
        (b"--x\r\nnothing", "multipart/form-data", 400, "form cannot be read"),
        (b"--x\r\nnothing", "multipart/form-data; boundary=x", 400, ""),
        (b"x" * 1_000_001, "image/png", 413, "1 MB"),
    ],
)
def test_what_is_wrong_is_said(shared: Server, body: bytes, kind: str, status: int, said: str) -> None:
    found, answer = shared.predict(body, content_type=kind)
    assert found == status
    if said:
        assert said in answer["error"]


def test_more_images_than_allowed_are_refused(shared: Server, colors: dict[str, bytes]) -> None:
    body, kind = form([colors["red"]] * 9)
    status, answer = shared.predict(body, content_type=kind)
    assert (status, answer["error"]) == (413, "one request may bring 8 images")


def test_one_damaged_image_does_not_spoil_the_others(shared: Server, colors: dict[str, bytes]) -> None:
    body, kind = form([colors["red"], b"damaged", colors["blue"]])
    status, answer = shared.predict(body, content_type=kind)
    assert status == 200
    assert [one.get("label") for one in answer["predictions"]] == ["red", None, "blue"]
    assert answer["predictions"][1]["code"] == "not_an_image"


def test_addresses_that_are_none_say_so_in_json(shared: Server) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/predict", 405),
        ("POST", "/metrics", 405),
    ):
        found, _, body = shared.ask(method, path)
        assert found == status
        assert json.loads(body)["error"]


def test_the_hostile_files_get_the_verdict_of_predict(shared: Server, bundles: tuple[Path, Path]) -> None:
    cases = [(name, make()) for name, _, make in [*hostile(), *odd()]]
    cases = [(name, data) for name, data in cases if 0 < len(data) < 900_000]
    with open_classifier(bundles[0]) as model:
        expected = model.predict([data for _, data in cases])
    for row, (name, data) in enumerate(cases):
        status, found = shared.predict(data)
        [answer] = found["predictions"]
        if row in expected.errors:
            assert (status, answer["code"]) == (422, expected.errors[row][0]), name
        else:
            assert (status, answer["label"]) == (200, expected.answers()[row]), name
    assert shared.numbers()["sortal_worker_deaths_total"] == 0
    shared.account()
