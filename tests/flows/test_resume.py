"""`sortal train --resume` and `sortal reproduce`: runs killed for real, and what stands in the way of going on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nursery import kill_resume
from sortal.core.errors import MachineError
from sortal.core.run import open_run, take_run
from sortal.train.checkpoint import Checkpoint, load, save
from worlds import refused, sortal

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SMALL = kill_resume.SMALL


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    kill_resume.draw(folder / "photos")
    return folder


@pytest.fixture(scope="module")
def nursery(home: Path) -> Iterator[Any]:
    made = kill_resume.Nursery(home)
    yield made
    made.close()


@pytest.fixture(scope="module")
def killed(nursery: Any, home: Path) -> Path:
    """A folder with images and a run of them that was killed in its second epoch."""
    shutil.copytree(home / "photos", home / "killed" / "photos")
    ended = nursery.run(home / "killed", "train", "photos", *SMALL, kill={"step": 8})
    assert ended.code == -signal.SIGKILL, ended.err
    return home / "killed"


@pytest.fixture
def broken(killed: Path, tmp_path: Path) -> Path:
    """A copy whose run still knows its images, at their new place."""
    where = tmp_path / "home"
    shutil.copytree(killed, where)
    state = where / "runs" / "photos-1" / "state.json"
    state.write_text(state.read_text().replace(str(killed), str(where)))
    return where


@pytest.mark.parametrize(
    ("name", "settings", "kills"),
    [
        ("0", ("model.dropout=0.3", "optim.ema=0.9"), ({"step": 8}, kill_resume.EXPORT)),
        ("2", ("train.workers=2", "augment.mixup=0.3"), (kill_resume.CHECKPOINT, kill_resume.CARD)),
    ],
    ids=["no workers", "two workers"],
)
def test_killed_and_taken_up_again_is_the_same_to_the_bit(
    nursery: Any, home: Path, name: str, settings: tuple[str, ...], kills: tuple[Any, ...]
) -> None:
    case = kill_resume.Case(name=name, settings=(*SMALL, "train.epochs=2", *settings), kills=kills)
    done, same = kill_resume.compare(nursery, home, case, seed=0)
    assert done == len(kills)
    assert same
    run = home / f"{name}-broken" / "runs" / "photos-1"
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert open_run(run).finished
    assert not (run / "checkpoints").exists()
    assert not (run / "cache").exists()
    assert not [path for path in run.rglob(".*") if path.name.startswith((".tmp-", ".old-"))]
    refused(sortal(run.parent.parent, "train", "--resume", "runs/photos-1"), "this run is finished")


@pytest.mark.slow  # its like runs in process in tests/unit/train/test_keeper.py
def test_chance_from_a_global_state_makes_a_difference(nursery: Any, home: Path) -> None:
    """The control: what the test above compares does change when chance is not counted."""
    settings = (*SMALL, "model.dropout=0.3", "train.epochs=2")
    case = kill_resume.Case(name="control", settings=settings, kills=({"step": 8},))
    assert kill_resume.compare(nursery, home, case, seed=0, global_chance=True) == (1, False)


def test_a_ctrl_c_publishes_and_the_run_goes_on_from_it(nursery: Any, home: Path) -> None:
    """Ctrl-C at the last step of an epoch, during the closing validation: nothing of it is lost."""
    where = home / "interrupted"
    where.mkdir()
    (where / "photos").symlink_to(home / "photos")
    code = """
import os, signal, sys
from sortal.cli.app import run
from sortal.train import loop
step = loop._train_step
def stepping(state, *rest):
    step(state, *rest)
    if state.step == {step}:
        os.kill(os.getpid(), signal.{signal})
loop._train_step = stepping
os._exit(run({arguments!r}))
"""
    arguments = ["train", "photos", *SMALL, "--json"]
    ended = nursery.run(where, code=code.format(step=8, signal="SIGINT", arguments=arguments))
    assert ended.code == 130, ended.err
    report = json.loads(ended.out)
    assert "interrupted" in [finding["code"] for finding in report["findings"]]
    run = where / "runs" / "photos-1"
    assert "sortal train --resume runs/photos-1" in ended.err
    refused(sortal(where, "reproduce", "runs/photos-1"), "only a finished run", "--resume")
    again = nursery.run(where, code=code.format(step=15, signal="SIGTERM", arguments=["train", "--resume", str(run)]))
    assert again.code == 130, again.err
    assert f"stopped by SIGTERM at step 15; to go on: sortal train --resume {run}" in again.err
    assert again.out == ""
    done = nursery.run(where, "train", "--resume", run)
    assert done.code == 0, done.err
    whole = home / "uninterrupted"
    whole.mkdir()
    (whole / "photos").symlink_to(home / "photos")
    assert nursery.run(whole, "train", "photos", *SMALL).code == 0
    expected = kill_resume.look(whole / "runs" / "photos-1", where / "none")
    assert kill_resume.look(run, where / "none") == expected
    reproduced = nursery.run(whole, "reproduce", "runs/photos-1", "--json")
    assert reproduced.code == 0, reproduced.err
    assert json.loads(reproduced.out)["metrics"]["same_weights"]["value"] == 1.0


def test_changed_images_are_refused_unless_that_is_allowed(nursery: Any, broken: Path) -> None:
    photos = broken / "photos"
    one = photos / "flat" / "000.png"
    raw = one.read_bytes()

    def edit() -> None:
        Image.open(photos / "flat" / "001.png").rotate(90).save(one)

    changes = {
        "add": (lambda: Image.new("RGB", (16, 16)).save(photos / "flat" / "new.png"), photos / "flat" / "new.png"),
        "delete": (one.unlink, None),
        "edit": (edit, None),
        "relabel": (lambda: one.rename(photos / "steep" / "moved.png"), photos / "steep" / "moved.png"),
    }
    for change, made in changes.values():
        change()
        refused(sortal(broken, "train", "--resume", "runs/photos-1"), "not those that this run began with")
        if made is not None:
            made.unlink()
        one.write_bytes(raw)
    edit()
    ended = nursery.run(broken, "train", "--resume", "runs/photos-1", "--allow-data-change")
    assert ended.code == 0, ended.err
    assert "warning: images or labels changed since this run began" in ended.err
    rows = [json.loads(line) for line in (broken / "runs" / "photos-1" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


def test_what_cannot_be_gone_on_with_is_said(broken: Path, tmp_path: Path) -> None:
    refused(sortal(broken, "train", "--resume", "photos"), "cannot be taken up again", "recipe.yaml")
    assert not (broken / "photos" / "run.lock").exists()
    refused(sortal(broken, "train", "--resume", "nothing"), "there is no run here")
    refused(sortal(broken, "train", "photos", "--resume", "runs/photos-1"), "with the images and the recipe it began")
    refused(sortal(broken, "train"), "name the images")
    (broken / "photos").rename(broken / "moved")
    refused(sortal(broken, "train", "--resume", "runs/photos-1"), "not where they were", "sortal.resume(run, source=")
    (broken / "runs" / "photos-1" / "state.json").unlink()
    refused(sortal(broken, "train", "--resume", "runs/photos-1"), "it has no state.json")


def test_a_run_has_one_writer_and_a_dead_one_is_none(nursery: Any, broken: Path) -> None:
    run = broken / "runs" / "photos-1"
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file())
    with take_run(run):
        for _ in range(40):
            ended = nursery.run(broken, "train", "--resume", "runs/photos-1")
            assert ended.code == 3
            assert f"being written by process {os.getpid()}" in ended.err
    after = sorted((path.name, path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file())
    assert [entry for entry in after if entry[0] != "run.lock"] == [entry for entry in before if entry[0] != "run.lock"]
    hold = "import os, signal; from pathlib import Path; from sortal.core.run import take_run; "
    for _ in range(10):
        died = nursery.run(broken, code=hold + f"take_run(Path({str(run)!r})); os.kill(os.getpid(), signal.SIGKILL)")
        assert died.code == -signal.SIGKILL
    with take_run(run), pytest.raises(MachineError, match="this process itself"):
        take_run(run)


def test_other_packages_and_other_threads_are_warned_of(nursery: Any, broken: Path) -> None:
    state = broken / "runs" / "photos-1" / "state.json"
    known = json.loads(state.read_text())
    known["machine"] |= {"torch": "1.0.0", "cpus": "64"}
    state.write_text(json.dumps(known))
    ended = nursery.run(broken, "train", "--resume", "runs/photos-1", kill=kill_resume.EXPORT)
    assert ended.code == -signal.SIGKILL
    assert "will not be the same to the bit: torch 1.0.0 -> " in ended.err
    assert "will not be the same to the bit: cpus 64 -> " in ended.err


def test_a_time_budget_counts_what_was_used_before(nursery: Any, home: Path, tmp_path: Path) -> None:
    """Killed after most of its time: taken up again, it has little left and stops well before the epochs asked for."""
    (tmp_path / "photos").symlink_to(home / "photos")
    settings = (*SMALL, "train.epochs=300", "train.patience=300", "train.time=600")
    ended = nursery.run(tmp_path, "train", "photos", *settings, kill={"step": 8})
    assert ended.code == -signal.SIGKILL, ended.err
    newest = max((tmp_path / "runs" / "photos-1" / "checkpoints").glob("step-*"), key=lambda path: path.stat().st_mtime)
    progress = json.loads((newest / "progress.json").read_text())
    assert 0 < progress["spent_s"] < 300
    kept = load(newest)
    save(Checkpoint(weights=kept.weights, moments=kept.moments, progress={**kept.progress, "spent_s": 599.0}), newest)
    done = nursery.run(tmp_path, "train", "--resume", "runs/photos-1")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "runs" / "photos-1" / "report.json").read_text())
    assert report["provenance"]["stopped"] == "time"
    rows = [json.loads(line) for line in (tmp_path / "runs" / "photos-1" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) <= 4
