"""Several processes train one network: the same numbers as one process, one voice, one bundle, exact resume."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import sortal as package
from nursery import kill_resume

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

FROZEN = (*kill_resume.SMALL, "train.statistics=frozen", "train.batch=12", "train.epochs=4")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    kill_resume.draw(folder / "photos", images=16)
    return folder


@pytest.fixture(scope="module")
def nursery(home: Path) -> Iterator[object]:
    made = kill_resume.Nursery(home)
    yield made
    made.close()


def torchrun(
    cwd: Path, *arguments: object, program: tuple[str, ...] = ("-m", "sortal")
) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port), *program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(package.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)


def folder(home: Path, name: str) -> Path:
    made = home / name
    made.mkdir()
    (made / "photos").symlink_to(home / "photos")
    return made


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_end_with_the_weights_of_one(nursery: object, home: Path) -> None:
    """Frozen statistics: nothing depends on how a batch is divided. The batch of 12 is divided; the rate is kept."""
    ones, twos = folder(home, "one"), folder(home, "two")
    one = nursery.run(ones, "train", "photos", *FROZEN)  # type: ignore[attr-defined]
    two = nursery.run(twos, "train", "photos", *FROZEN, "--json", ranks=2)  # type: ignore[attr-defined]
    assert (one.code, two.code) == (0, 0), two.err
    assert json.loads(two.out)["kind"] == "evaluation"  # once
    assert [path.name for path in (twos / "runs").iterdir()] == ["photos-1"]
    assert two.err.count("epoch 1/4") == 1
    log = (twos / "runs" / "photos-1" / "train.log").read_text()
    assert "2 processes train together (gloo): each takes its share of the 12 images" in log
    state = json.loads((twos / "runs" / "photos-1" / "state.json").read_text())
    assert state["machine"]["processes"] == "2"
    alone, together = rows(ones / "runs" / "photos-1"), rows(twos / "runs" / "photos-1")
    assert [row["epoch"] for row in together] == [1, 2, 3, 4]
    for mine, theirs in zip(alone, together, strict=True):
        assert mine["lr"] == theirs["lr"]
        assert mine["step"] == theirs["step"]
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)
        assert mine["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-4)
    weights = [load_file(where / "runs" / "photos-1" / "bundle" / "weights.safetensors") for where in (ones, twos)]
    assert weights[0].keys() == weights[1].keys()
    assert not any(name.startswith("module.") for name in weights[1])
    assert max(float(np.abs(weights[0][name] - weights[1][name]).max()) for name in weights[0]) < 1e-5


def test_two_processes_killed_and_taken_up_again_are_the_same_to_the_bit(nursery: object, home: Path) -> None:
    """With batch statistics, dropout, averages and mixing, in the middle of an accumulation."""
    settings = (
        *kill_resume.SMALL,
        "train.batch=12",
        "model.dropout=0.3",
        "optim.ema=0.9",
        "augment.mixup=0.3",
        "optim.accumulate=2",
        "train.parallel=dp",
    )
    whole, broken = folder(home, "whole"), folder(home, "broken")
    done = nursery.run(whole, "train", "photos", *settings, ranks=2)  # type: ignore[attr-defined]
    assert done.code == 0, done.err
    assert "train.parallel=dp" in done.err
    killed = nursery.run(broken, "train", "photos", *settings, ranks=2, kill={"step": 7}, save_steps=5)  # type: ignore[attr-defined]
    assert killed.code == -9, killed.err
    again = nursery.run(broken, "train", "--resume", "runs/photos-1", ranks=2)  # type: ignore[attr-defined]
    assert again.code == 0, again.err
    assert "going on after step" in again.err
    found = [kill_resume.look(where / "runs" / "photos-1", where / "rates.txt") for where in (whole, broken)]
    assert found[0] == found[1]


def test_torchrun_from_end_to_end(home: Path) -> None:
    where = folder(home, "torchrun")
    done = torchrun(where, "train", "photos", *kill_resume.SMALL, "train.epochs=1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "evaluation"
    assert done.stderr.count("processes train together") == 1
    assert [path.name for path in (where / "runs").iterdir()] == ["photos-1"]
    assert (where / "runs" / "photos-1" / "bundle" / "weights.safetensors").is_file()
    refused = torchrun(where, "train", "--resume", "runs/photos-1")
    assert refused.returncode != 0
    assert refused.stderr.count("error: ") == 1
    assert "this run is finished" in refused.stderr


FAILING = """
import os, sys
from sortal import api
from sortal.cli.app import run

train = api.train
def failing(*arguments, **named):
    from sortal.core.errors import DataError
    from sortal.train import loop

    step = loop._train_step
    def third(state, *rest):
        if state.step == 3 and os.environ["RANK"] == "1":
            raise DataError("the disk of process 1 is gone")
        step(state, *rest)
    loop._train_step = third
    return train(*arguments, **named)
api.train = failing
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_one_process_that_fails_ends_the_other_and_one_error_is_printed(home: Path) -> None:
    where = folder(home, "failing")
    (where / "failing.py").write_text(FAILING)
    done = torchrun(where, "train", "photos", *kill_resume.SMALL, "--debug-dist", program=("failing.py",))
    assert done.returncode != 0
    assert done.stderr.count("error: the disk of process 1 is gone") == 1
    assert done.stderr.count("\nerror: ") == 1
    assert f"what process 1 said is in {where / 'dist-1.log'}" in done.stderr
    assert "DataError" in (where / "dist-1.log").read_text()
    assert "c10d" in (where / "dist-0.log").read_text()
