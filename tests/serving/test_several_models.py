"""Several models behind one server: by name on every way, each with its own settings, none at the mercy of another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import Server, start_server
from sortal.core.bundle import open_bundle
from sortal.core.errors import InputError
from sortal.serve.listed import read_models
from sortal.serve.protocol import most_connections
from sortal.serve.settings import ServeSettings
from sortal.workspace.deployment import promote
from sortal.workspace.events import events_since
from sortal.workspace.folder import create_workspace, open_workspace


@pytest.fixture(scope="module")
def several(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A bundle, a workspace, and an empty workspace that has nothing to answer with."""
    folder = tmp_path_factory.mktemp("several")
    for name, filled in (("line4", True), ("line5", False)):
        with create_workspace(folder / name) as workspace:
            if filled:
                promote(workspace, open_bundle(bundles[1]))
    (folder / "models.yaml").write_text(
        "default: plain\nmodels:\n  line4: {path: line4/, workers: 1, queue: 7, batch: 3}\n"
        f"  plain: {{path: {bundles[0]}, workers: 1}}\n  empty: {{path: line5, workers: 1}}\n"
    )
    server = start_server(folder / "models.yaml", folder / "log", "workers=2", several=True)
    try:
        server.wait_for("ready", count=2)
        yield server, folder
    finally:
        server.end()


def test_each_answers_under_its_name(
    several: tuple[Server, Path], bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server, _ = several
    ids = [open_bundle(path).id for path in bundles]
    asked = (
        "/predict",
        "/predict?model=plain",
        "/models/plain/predict",
        "/models/line4/predict",
        "/predict?model=line4",
    )
    answers = [server.predict(colors["red"], path, X_Request_Id=f"r{number}") for number, path in enumerate(asked)]
    assert [status for status, _ in answers] == [200] * 5
    assert [told["bundle_id"] for _, told in answers] == [ids[0]] * 3 + [ids[1]] * 2
    assert {told["predictions"][0]["label"] for _, told in answers} == {"red"}
    status, told = server.predict(colors["red"], "/models/plian/predict")
    assert (status, "no such model" in told["error"]) == (404, True)
    server.wait_for("ready", count=2)
    names = json.loads(server.ask("POST", "/v2/repository/index")[2])
    assert [(one["name"], one["state"]) for one in names] == [
        ("plain", "READY"),
        ("line4", "READY"),
        ("empty", "UNAVAILABLE"),
    ]
    assert "nothing is live" in names[2]["reason"]
    assert json.loads(server.ask("GET", "/v2/models/line4")[2])["name"] == "line4"
    server.account()


def test_each_is_told_with_its_own_settings(several: tuple[Server, Path]) -> None:
    server, _ = several
    health = json.loads(server.ask("GET", "/health")[2])
    assert health["workers_wanted"] == 1
    for name, queue, images, batch in (("plain", 256, 64, 32), ("line4", 7, 7, 3)):
        series = f'sortal_queue_limit_images{{model="{name}",role="live"}}'
        assert f"{series} {queue:.1f}\n" in server.ask("GET", "/metrics")[2].decode()
        assert json.loads(server.ask("GET", f"/model?model={name}")[2])["limits"]["images"] == images
        told = json.loads(server.ask("GET", f"/v2/models/{name}/config")[2])
        assert told["dynamic_batching"]["preferred_batch_size"] == [batch]


def test_descriptors_are_left_for_the_workers_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 512))
    settings = ServeSettings(workers=2, grpc_port=None)
    assert most_connections(settings, 2) - most_connections(settings, 10) == 8 * (
        most_connections(settings, 2) - most_connections(settings, 3)
    )
    assert most_connections(settings, 3) < most_connections(settings, 2) < 512


def test_one_that_has_nothing_is_told_and_keeps_nobody_from_answering(
    several: tuple[Server, Path], bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server, folder = several
    status, _, body = server.ask("GET", "/readyz")
    told = json.loads(body)
    assert (status, told["not_ready"]) == (503, ["empty"])
    assert "empty: " in told["reason"]
    assert "nothing is live" in told["reason"]
    assert server.predict(colors["red"], "/models/empty/predict")[0] == 503
    health = json.loads(server.ask("GET", "/health")[2])["models"]
    assert {name: one["ready"] for name, one in health.items()} == {"plain": True, "line4": True, "empty": False}
    assert health["line4"]["roles"]["live"]["classifier"]["bundle_id"] == open_bundle(bundles[1]).id
    text = server.ask("GET", "/metrics")[2].decode()
    for name in ("plain", "line4", "empty"):
        assert f'sortal_workers_ready{{model="{name}",role="live"}}' in text
    with open_workspace(folder / "line5") as workspace:  # what becomes live is followed, also from nothing
        promote(workspace, open_bundle(bundles[0]))
        server.wait_for("exchanged")
        assert server.predict(colors["blue"], "/models/empty/predict", X_Request_Id="first")[0] == 200
        assert server.ask("GET", "/readyz")[0] == 200
    with open_workspace(folder / "line4") as workspace:
        assert {one.request_id for one in events_since(workspace)} >= {"r3", "r4"}


@pytest.mark.parametrize(
    ("text", "place", "said", "received"),
    [
        ("models: {a: here}\nmodel: x", "line 2", "no such key", "model"),
        ("models:\n  a:\n    path: here\n    worker: 2", "line 4, a, worker", "no such setting of a model", "worker"),
        ("models: {a: {path: here, port: 2}}", "line 1, a, port", "setting of the whole server", "port"),
        ("models:\n  a: here\n  b: {path: here, batch: 0}", "line 3, b, batch", "greater than or equal to 1", "0"),
        ("models: {a: nowhere}", "line 1, a", "there is no such model", "nowhere"),
        ("models: {a: '~nobody-of-this-name/x'}", "line 1, a", "there is no such model", "~nobody-of-this-name/x"),
        (f"models: {{a: {'x' * 300}}}", "line 1, a", "there is no such model", "xxx"),
        ("models: {a: here, b: here, a: here}", "line 1", "the same name twice", "a"),
        ("models:\n  a: here\n  a: here", "line 3", "the same name twice", "a"),
        ("models: {a: here}\ndefault: b", "line 2", "default is none of the models", "b"),
        ("models: {a: here}\ndefault: [a]", "line 2", "default is none of the models", "['a']"),
        ("models: {a/b: here}", "line 1", "cannot be in an address", "a/b"),
        ("models: {4: here}", "line 1", "cannot be in an address", "4"),
        ("models: {a: {workers: 2}}", "line 1, a", "a model has a path", "workers"),
        ("models: &all\n  a: *all", "line 2, a", "a model has a path", "a"),
        ("models: [here]", "line 1", "there are no models", "here"),
        ("models: {}", "line 1", "there are no models", "{}"),
        ("- here", "", "expected keys and values", "list"),
        ("models: {a: here\ndefault: a", "line 2", "this is no YAML", ""),
        ("models: {a: {path: here, 2020-99-99: 1}}", "", "this is no YAML", ""),
        ("models: {a: \udcff}", "", "no text in UTF-8", ""),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(
    text: str, place: str, said: str, received: str, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    file = tmp_path / "models.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as error:
        read_models(file, ServeSettings())
    assert said in error.value.what
    assert (error.value.where or "").startswith(f"{file}, {place}" if place else str(file))
    assert received in (error.value.received or "")
    assert error.value.hint, "it says what to do"


def test_paths_are_those_of_the_file_and_settings_its_own(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    file = tmp_path / "models.yaml"
    file.write_text("default: b\nmodels:\n  a: one\n  b: {path: two, workers: 3, engine: openvino}\n")
    found = read_models(file, ServeSettings(workers=2, batch=8))
    assert [(one.name, one.path) for one in found] == [("b", tmp_path / "two"), ("a", tmp_path / "one")]
    assert [(one.settings.workers, one.settings.engine, one.settings.batch) for one in found] == [
        (3, "openvino", 8),
        (2, "auto", 8),
    ]
