"""The run side alone: predict, evaluate and show where nothing of the training side is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from worlds import World

REPOSITORY = Path(__file__).parents[2]
TRAINING = ("torch", "torchvision", "timm", "safetensors", "onnx", "onnxscript", "sklearn", "scipy")
BLOCKED = """
    import sys
    from importlib.machinery import PathFinder

    find = PathFinder.find_spec
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {names!r} else find(name, path, target)

    PathFinder.find_spec = classmethod(find_spec)
    import sortal
    from sortal.cli.app import run
    sys.exit(run(sys.argv[1:]))
"""


def _without_torch(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = textwrap.dedent(BLOCKED.format(names=TRAINING))
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_predicting_and_evaluating(world: World, tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    done = _without_torch(tmp_path, "predict", world.run, world.home / "other", "--engine", engine)
    assert done.returncode == 0, done.stderr
    assert len(pl.read_csv(tmp_path / "predictions.csv")) == 9
    more = ("--engine", engine, "--out", "report", "--json")
    done = _without_torch(tmp_path, "evaluate", world.run, world.home / "other", *more)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["accuracy"]["n"] == 9
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000


def test_show_and_doctor_work_and_training_names_the_extra(world: World, tmp_path: Path) -> None:
    assert _without_torch(tmp_path, "show", world.run).returncode == 0
    done = _without_torch(tmp_path, "train", world.home / "photos")
    assert done.returncode == 3
    assert 'pip install "sortal[train]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
    assert _without_torch(tmp_path, "doctor", "--json").returncode == 0


@pytest.mark.slow
def test_an_environment_that_has_no_torch(world: World, tmp_path: Path) -> None:
    """`pip install .` into a new environment, then the commands as installed."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    lock = REPOSITORY / "requirements.lock"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", lock, REPOSITORY]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode != 0 and os.environ.get("CI") != "true":
        pytest.skip(f"the packages cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    assert not {package["name"] for package in json.loads(listed.stdout)} & set(TRAINING)
    command = tmp_path / "venv" / "bin" / "sortal"
    for arguments in (
        ("predict", world.run, world.home / "inbox"),
        ("evaluate", world.run, world.home / "other", "--out", "report"),
        ("show", world.run),
        ("doctor",),
    ):
        done = subprocess.run([command, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").is_file()
    recipe = subprocess.run(
        [python, "-c", "from sortal.core.shelf import find_recipe; print(find_recipe('small-data'))"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "site-packages" in recipe.stdout, recipe.stderr
