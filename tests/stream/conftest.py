"""A classifier of colors, and commands that stream with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from streaming import Start, Streaming

from colors import color_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The class is the color with the highest mean."""
    return color_bundle(tmp_path_factory.mktemp("stream") / "colors")


@pytest.fixture
def stream(bundle: Path, tmp_path: Path) -> Iterator[Start]:
    """`stream("--source", "camera:0", ...)`: a command in a process of its own, killed after the test if need be."""
    started: list[Streaming] = []

    def start(*arguments: object, model: Path = bundle) -> Streaming:
        number = len(started)
        out, err = tmp_path / f"out-{number}", tmp_path / f"err-{number}"
        command = [sys.executable, "-m", "sortal", "stream", str(model), *map(str, arguments)]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdout=stdout, stderr=stderr, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        started.append(Streaming(process=process, out=out, err=err))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(30)
