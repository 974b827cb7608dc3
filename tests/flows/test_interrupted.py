"""What happens when the machine, or a person, stops a command on its way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sortal as package
from worlds import COLORS, NO_TRACEBACK, TINY, World, class_folders, refused, sortal

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX systems")

KILLED = """
import os, signal, sys
from sortal.core import publish
from sortal.cli.app import run

flush = publish._sync_tree
def die_with_the_bundle_half_written(folder):
    if "bundle" in folder.name:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(folder)
publish._sync_tree = die_with_the_bundle_half_written
run(sys.argv[1:])
"""


STUCK = """
import sys, time
from sortal.cli.app import run
from sortal.train import loop

step = loop._train_step
def stuck(state, *rest):
    step(state, *rest)
    if state.step == 3:
        print("stuck", file=sys.stderr, flush=True)
        for _ in range(1200):
            time.sleep(0.05)
loop._train_step = stuck
sys.exit(run(sys.argv[1:]))
"""


def _environment() -> dict[str, str]:
    source = str(Path(package.__file__).parents[1])
    return os.environ | {"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def _hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith((".tmp-", ".old-"))]


def test_ctrl_c_keeps_the_best_state_and_says_how_to_go_on(world: World, tmp_path: Path) -> None:
    settings = [*TINY, "train.epochs=5000", "train.patience=5000"]
    command = [sys.executable, "-m", "sortal", "train", str(world.home / "photos"), *settings, "--json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("epoch 1/"):
            process.send_signal(signal.SIGINT)
            break
    out, rest = process.communicate(timeout=120)
    said.append(rest)
    err = "".join(said)
    assert process.returncode == 130, err
    assert NO_TRACEBACK not in err
    assert "To go on where it stopped: sortal train --resume runs/photos-1" in err
    report = json.loads(out)
    assert "interrupted" in [finding["code"] for finding in report["findings"]]
    assert report["provenance"]["stopped"] == "interrupted"
    run = tmp_path / "runs" / "photos-1"
    assert list((run / "checkpoints").glob("step-*"))
    assert not (run / "cache").exists()
    assert _hidden(run) == []
    assert sortal(tmp_path, "predict", "runs/photos-1", world.home / "other").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(number: int, world: World, tmp_path: Path) -> None:
    """The first asks for an orderly end, which takes its time when a step does: here one that never ends."""
    command = [sys.executable, "-c", STUCK, "train", str(world.home / "photos"), *TINY]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "stuck\n":
            process.send_signal(number)
            break
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGTERM), err
    assert NO_TRACEBACK not in err


def test_killed_while_the_bundle_is_published(world: World, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, "train", str(world.home / "photos"), *TINY, "train.epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = tmp_path / "runs" / "photos-1"
    assert not (run / "bundle").exists()
    refused(sortal(tmp_path, "show", "runs/photos-1"), "did not finish", "train.log")
    refused(sortal(tmp_path, "predict", "runs/photos-1", world.home / "other"), "runs/photos-1")


@pytest.fixture
def limit_files() -> Iterator[object]:
    """Lets no file of this process grow beyond a number of bytes, as a full disk would."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 500, 20_000, 120_000])
def test_the_disk_fills_up_while_training(size: int, world: World, tmp_path: Path, limit_files) -> None:
    limit_files(size)
    done = sortal(tmp_path, "train", world.home / "photos", *TINY, "train.epochs=1")
    limit_files(-1)
    refused(done, "File too large", str(Path("runs/photos-1")), code=3)
    assert list((tmp_path / "runs").rglob("bundle")) == []
    assert list((tmp_path / "runs").rglob("cache")) == []
    assert _hidden(tmp_path / "runs") == []


def test_the_disk_fills_up_while_the_report_is_written(world: World, tmp_path: Path, limit_files) -> None:
    limit_files(600_000)
    done = sortal(tmp_path, "train", world.home / "photos", *TINY, "train.epochs=1")
    limit_files(-1)
    refused(done, "report.html", "File too large", code=3)
    run = tmp_path / "runs" / "photos-1"
    assert not (run / "report.html").exists()
    assert "ended early" in (run / "train.log").read_text()
    assert sortal(tmp_path, "predict", "runs/photos-1", world.home / "other").code == 0


def test_the_disk_fills_up_while_predicting(world: World, tmp_path: Path, limit_files) -> None:
    (tmp_path / "answers.csv").write_text("old")
    before = sorted((world.run / "evaluations").glob("*"))
    limit_files(100)
    done = sortal(tmp_path, "predict", world.run, world.home / "other", "--out", "answers.csv")
    evaluated = sortal(tmp_path, "evaluate", world.run / "bundle" / "artifacts" / "onnx", world.home / "other")
    limit_files(-1)
    refused(done, "answers.csv", "File too large", code=3)
    refused(evaluated, "File too large", code=3)
    assert (tmp_path / "answers.csv").read_text() == "old"
    assert sorted((world.run / "evaluations").glob("*")) == before
    assert not (tmp_path / "evaluations").exists()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user of the machine may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _as_nobody(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-m", "sortal", *map(str, arguments)]
    environment = _environment() | {"HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv to give up the rights of root")
def test_without_permission(world: World, public: Path) -> None:
    shutil.copytree(world.run, public / "run")
    class_folders(public / "photos", dict.fromkeys(COLORS, 4))
    (public / "locked").mkdir()
    class_folders(public / "locked", {"red": 1})
    (public / "locked").chmod(0o700 if os.geteuid() == 0 else 0)
    public.chmod(0o555)
    cases = (
        (("predict", "run", "photos", "--out", "answers.csv"), 3, "answers.csv"),
        (("evaluate", "run", "photos"), 3, "evaluations"),
        (("train", "photos", *TINY), 3, "runs"),
        (("predict", "run", "locked", "--out", "/dev/null/x.csv"), 3, "locked"),
    )
    for arguments, code, named in cases:
        done = _as_nobody(*arguments, cwd=public)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("error:") == 1
        assert NO_TRACEBACK not in done.stderr
        assert named in done.stderr
        assert "ermission" in done.stderr
    (public / "locked").chmod(0o700)
    assert sorted(path.name for path in public.iterdir()) == ["locked", "photos", "run"]
