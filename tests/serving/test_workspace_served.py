"""A workspace behind a server: what was answered is remembered, what people say is acknowledged when it is kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from servers import Server, start_server
from sortal.core.bundle import open_bundle
from sortal.core.errors import NotFoundError
from sortal.workspace.deployment import promote
from sortal.workspace.events import events_since
from sortal.workspace.feedback import statements
from sortal.workspace.folder import Workspace, create_workspace
from sortal.workspace.images import read_image


@pytest.fixture(scope="module")
def served(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Workspace]]:
    folder = tmp_path_factory.mktemp("line")
    with create_workspace(folder / "line4") as workspace:
        promote(workspace, open_bundle(bundles[1]))
        server = start_server(workspace.path, folder / "log", "workers=1", "keep=doubtful")
        try:
            server.wait_for("ready")
            yield server, workspace
        finally:
            server.end()


def say(server: Server, **told: Any) -> tuple[int, dict[str, Any]]:
    status, _, body = server.ask("POST", "/feedback", json.dumps(told).encode())
    return status, json.loads(body)


def test_answers_and_labels_are_remembered(served: tuple[Server, Workspace], colors: dict[str, bytes]) -> None:
    server, workspace = served
    _, answer = server.predict(colors["red"], X_Request_Id="part-1")
    status, told = say(server, request_id="part-1", label="blue", source="station 2", key="k1")
    assert (status, told["stored"], told["disputed"]) == (200, "new", False)
    assert told["image_sha256"] == sha256(colors["red"]).hexdigest()
    assert say(server, request_id="part-1", label="blue", key="k1")[1]["stored"] == "known"
    assert say(server, request_id="part-1", label="red", key="k2")[1]["disputed"]
    [event] = [one for one in events_since(workspace) if one.request_id == "part-1"]
    [predicted] = answer["predictions"]
    assert (event.top[0][0], event.abstained, event.bundle_id) == ("red", predicted["abstained"], answer["bundle_id"])
    assert event.top[0][1] == pytest.approx(predicted["probability"])
    assert [(one.label, one.source) for one in statements(workspace)] == [("blue", "station 2"), ("red", "")]


def test_doubtful_images_are_kept_and_others_are_not(
    served: tuple[Server, Workspace], colors: dict[str, bytes]
) -> None:
    server, workspace = served
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 120, np.uint8)).save(file, "PNG")
    for name, data, doubtful in (("part-2", colors["green"], False), ("part-3", file.getvalue(), True)):
        _, answer = server.predict(data, X_Request_Id=name)
        assert answer["predictions"][0]["abstained"] is doubtful
        assert say(server, request_id=name, label="green")[0] == 200
    assert read_image(workspace, sha256(file.getvalue()).hexdigest()) == file.getvalue()
    with pytest.raises(NotFoundError):
        read_image(workspace, sha256(colors["green"]).hexdigest())


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"label": "red"}, 422),
        ({"label": "violet", "image_sha256": "12" * 32}, 422),
        ({"label": "red", "request_id": "nobody"}, 404),
        ({"label": "red", "image_sha256": "12" * 32, "comment": "x" * 3_000}, 422),
        ({"label": "red", "image_sha256": "12" * 32, "workspace": "/etc"}, 422),
        ({"label": 3, "image_sha256": "12" * 32}, 422),
        ({"label": "red", "image_sha256": "12" * 32, "comment": "a\x00b"}, 422),
        ({}, 422),
    ],
)
def test_what_is_no_statement_is_refused(served: tuple[Server, Workspace], told: dict[str, Any], status: int) -> None:
    server, workspace = served
    before = len(statements(workspace))
    found, answer = say(served[0], **told)
    assert found == status
    assert answer["error"]
    assert len(statements(workspace)) == before
    server.account()


def test_without_a_workspace_there_is_nowhere_to_say_it(shared: Server) -> None:
    status, answer = say(shared, label="red", image_sha256="12" * 32)
    assert status == 404
    assert "sortal serve WORKSPACE" in answer["hint"]


def test_what_was_noted_is_written_at_the_end(
    bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    with create_workspace(tmp_path / "line5") as workspace:
        promote(workspace, open_bundle(bundles[0]))
        server = start_server(workspace.path, tmp_path / "log", "workers=1")
        server.wait_for("ready")
        for _ in range(5):
            assert server.predict(colors["blue"])[0] == 200
        assert server.end() == 0
        assert len(list(events_since(workspace))) == 5
