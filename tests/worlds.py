"""Helpers of the flows: photographs of three colors, a network small enough for tests, commands in this process."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sortal.cli.app import run

COLORS = {"blue": (40, 60, 200), "green": (50, 190, 70), "red": (200, 50, 40)}
TINY = (
    "model=sortal_tiny",
    "model.arguments={width: 0.15, depth: 0.5}",
    "model.weights=null",
    "input.size=32",
    "train.epochs=6",
    "train.batch=8",
    "train.workers=0",
)
"""A network of 14,000 parameters, six quick epochs."""
NO_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """The JSON on stdout, which must hold nothing else."""
        return json.loads(self.out)

    @property
    def codes(self) -> list[str]:
        return [finding["code"] for finding in self.report["findings"]]


def sortal(folder: Path, *arguments: object) -> Done:
    """Run a command line inside `folder`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Done(code=code, out=out.getvalue(), err=err.getvalue())


def refused(done: Done, *said: str, code: int = 2) -> None:
    """The command ended with `code` and one clear error that says all of `said`, on stderr, without a traceback."""
    assert done.code == code, done.err
    assert done.err.count("error:") == 1
    assert NO_TRACEBACK not in done.err
    assert done.out == ""
    for words in said:
        assert words in done.err


def photo(color: tuple[int, int, int], random: np.random.Generator, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """Noise around a color, (height, width, 3)."""
    return np.clip(np.asarray(color) + random.normal(0, 25, (*size, 3)), 0, 255).astype(np.uint8)


def class_folders(
    where: Path, counts: dict[str, int], *, seed: int = 0, size: tuple[int, int] = (32, 32), first: int = 0
) -> Path:
    """`where/<class>/<number>.png`; a class that is called like a color looks like it."""
    random = np.random.default_rng(seed)
    for position, (name, count) in enumerate(counts.items()):
        color = COLORS.get(name.lower(), tuple(COLORS.values())[position % 3])
        (where / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            Image.fromarray(photo(color, random, size)).save(where / name / f"{number:03d}.png")
    return where


def spoil(folder: Path) -> None:
    """Put two files into `folder` that cannot be read: no image, and a PNG that ends early."""
    whole = next(folder.glob("*.png")).read_bytes()
    (folder / "nothing.png").write_bytes(b"this is no image")
    (folder / "short.png").write_bytes(whole[: len(whole) // 2])


@dataclass(frozen=True, kw_only=True)
class World:
    """`home` is where commands are typed; `train` is what training printed."""

    home: Path
    train: Done

    @property
    def run(self) -> Path:
        return self.home / "runs" / "photos-1"


def copied(world: World, folder: Path) -> World:
    """The same world in another place, to write into."""
    shutil.copytree(world.home, folder)
    return replace(world, home=folder)
