"""What every tracker promises, over the whole table; what each one leaves is read back with its own package."""

from __future__ import annotations

import io
import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.core.errors import InputError, MissingExtraError
from sortal.core.progress import Plain
from sortal.core.report import Metric, Report
from sortal.train.trackers import TRACKERS, Trackers, open_trackers
from sortal.train.trackers.protocol import final_values, pixels_of, scalars, settings

RECIPE = {"seed": 3, "optim": {"lr": 1e-3, "name": "adamw"}, "train": {"sizes": [32, 48]}}
PLAN = {"batch": 16, "notes": ["螺丝 and others"]}
ROWS = (
    {"epoch": 1, "step": 10, "train_loss": 1.5, "val_accuracy": 0.25, "data_s": 0.5, "tried": [{"a": 1}]},
    {"epoch": 2, "step": 20, "train_loss": 0.5, "val_accuracy": 0.75, "data_s": 0.25, "val_loss": float("nan")},
)
REPORT = Report(
    kind="evaluation",
    subject="photos",
    metrics={"accuracy": Metric(value=0.875, low=0.5, high=0.9, n=8), "auc": Metric(value=None)},
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets reach this machine only."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):  # type: ignore[index]
            raise AssertionError(f"a tracker reaches for {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "photos-1"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    path = tmp_path / "confusion_matrix.png"
    Image.fromarray(np.full((6, 9), 90, np.uint8)).save(path)
    return path


def tracked(name: str, run: Path, matrix: Path) -> Trackers:
    """A run of two epochs with both kinds of pictures."""
    told = io.StringIO()
    trackers = open_trackers([name], Plain(told))
    trackers.start(run, RECIPE, PLAN)
    trackers.image("train_batch", np.zeros((4, 8, 3), np.uint8), step=0)
    for row in ROWS:
        trackers.row(row)
    trackers.finish(REPORT, pictures=(matrix, matrix.with_name("absent.png")))
    assert (trackers.findings, told.getvalue()) == ((), "")
    return trackers


def test_tensorboard_writes_event_files_with_scalars_images_and_texts(run: Path, matrix: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracked("tensorboard", run, matrix)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val/accuracy")] == [(10, 0.25), (20, 0.75)]
    assert [(e.step, e.value) for e in events.Scalars("final/accuracy")] == [(20, 0.875)]
    assert "val/loss" not in events.Tags()["scalars"], "NaN is no point of a curve"
    shown = {name: Image.open(io.BytesIO(events.Images(name)[0].encoded_image_string)) for name in
             ("train_batch", "confusion_matrix")}  # fmt: skip
    assert {name: image.size for name, image in shown.items()} == {"train_batch": (8, 4), "confusion_matrix": (9, 6)}
    assert np.asarray(shown["confusion_matrix"]).max() == 90
    assert "lr: 0.001" in events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()


def test_mlflow_keeps_runs_in_one_sqlite_file_and_goes_on_with_a_run(run: Path, matrix: Path) -> None:
    tracked("mlflow", run, matrix)
    import mlflow
    from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY

    assert MLFLOW_DISABLE_TELEMETRY.get(), "no usage reports"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("sortal").experiment_id
    (found,) = client.search_runs([experiment])
    assert (found.info.run_name, found.info.status) == ("photos-1", "FINISHED")
    assert (found.data.params["recipe.optim.lr"], found.data.params["plan.batch"]) == ("0.001", "16")
    assert found.data.metrics["final/accuracy"] == 0.875
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(10, 1.5), (20, 0.5)]
    pictures = sorted((run.parent / "mlflow-artifacts").rglob("*.png"))
    assert [path.name for path in pictures] == ["confusion_matrix-20.png", "train_batch-0.png"]

    again = open_trackers(["mlflow"], Plain(io.StringIO()))
    again.start(run, RECIPE, PLAN)
    again.row({"train_loss": 0.25, "step": 30})
    again.finish(None)
    (same,) = client.search_runs([experiment])
    assert (same.info.run_id, same.info.status) == (found.info.run_id, "KILLED")
    assert same.data.metrics["train/loss"] == 0.25


def test_wandb_writes_files_and_stays_offline(
    run: Path, matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    tracked("wandb", run, matrix)
    tracked("wandb", run, matrix)
    import wandb

    wandb.teardown()
    parts = sorted((run / "wandb").glob("offline-run-*"))
    assert len({part.name.split("-")[3] for part in parts}) == 1, "the run that goes on keeps its id"
    (file,) = parts[0].glob("*.wandb")
    data = file.read_bytes()
    assert all(text.encode() in data for text in ("photos-1", "val/accuracy", "final/accuracy", "0.875"))
    assert len(list(parts[0].glob("files/media/images/*.png"))) == 2
    assert (run / "wandb" / "latest-run").exists()


@pytest.mark.parametrize("name", sorted(TRACKERS.table))
def test_every_tracker_offers_the_protocol(name: str) -> None:
    opened = TRACKERS.get(name).open()
    assert all(callable(getattr(opened, method)) for method in ("start", "row", "image", "finish"))


def test_rows_become_grouped_finite_numbers() -> None:
    assert scalars(ROWS[1] | {"images_per_s": np.float32(8), "flag": True, "note": "x", "empty": None}) == {
        "run/epoch": 2.0, "run/step": 20.0, "train/loss": 0.5, "val/accuracy": 0.75, "time/data_s": 0.25,
        "run/images_per_s": 8.0,
    }  # fmt: skip
    assert final_values(REPORT.model_dump(mode="json")) == {"final/accuracy": 0.875}
    assert settings({"a": {"b": 1, "c": {}}, "d": [1, 2]}, "p") == {"p.a.b": "1", "p.a.c": "{}", "p.d": "[1, 2]"}


def test_grey_pixels_become_rgb() -> None:
    assert pixels_of(np.full((2, 3, 1), 7, np.uint8)).tolist() == np.full((2, 3, 3), 7).tolist()


def test_unknown_names_and_absent_packages_are_said_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown tracker") as unknown:
        open_trackers(["tensorbord"], Plain(io.StringIO()))
    assert unknown.value.hint == "did you mean tensorboard?"
    for name, blocked in (("tensorboard", "torch.utils.tensorboard.writer"), ("mlflow", "mlflow"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, blocked, None)
        with pytest.raises(MissingExtraError) as missing:
            open_trackers([name], Plain(io.StringIO()))
        assert "sortal[track]" in str(missing.value)


class Flaky:
    """A tracker that fails from the second row on."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, run: Path, recipe: object, plan: object) -> None:
        self.calls.append("start")

    def row(self, metrics: object, step: int) -> None:
        self.calls.append(f"row {step}")
        if step > 1:
            raise OSError("no space left on device")

    def image(self, name: str, picture: object, step: int) -> None:
        self.calls.append(f"image {name}")

    def finish(self, report: object) -> None:
        self.calls.append(json.dumps(report))


def test_a_tracker_that_fails_is_named_once_and_dropped_and_the_others_go_on(tmp_path: Path) -> None:
    class Steady(Flaky):
        def row(self, metrics: object, step: int) -> None:
            self.calls.append(f"row {step}")

    flaky, steady, told = Flaky(), Steady(), io.StringIO()
    trackers = Trackers({"flaky": flaky, "steady": steady}, Plain(told))
    trackers.start(tmp_path, {}, {})
    for step in (1, 2, 3):
        trackers.row({"loss": 1.0, "step": step})
    trackers.image("x", tmp_path / "x.png")
    trackers.finish(None)
    trackers.finish(None)
    assert flaky.calls == ["start", "row 1", "row 2"]
    assert steady.calls == ["start", "row 1", "row 2", "row 3", "image x", "null"]
    (finding,) = trackers.findings
    assert (finding.code, finding.severity) == ("tracker_failed", "warning")
    assert told.getvalue().count("no space left on device") == 1
