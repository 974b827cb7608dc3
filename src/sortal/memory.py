"""A run taken up again, or done again: what of it has to be known, and whether images and machine are still the same.

`state.json` of a run says where its images came from, what they were (a digest over content and labels) and on what it
ran. With the recipe, the plan, the split and the newest checkpoint beside it, that is all.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sortal.core.canonical import parse, pretty
from sortal.core.errors import DataError, InputError
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe, load_recipe
from sortal.core.run import RunFolder
from sortal.core.team import team_size
from sortal.data.dvc import version_of_table
from sortal.data.remote import is_remote
from sortal.data.scan import scan
from sortal.data.split import check_leaks
from sortal.data.split_file import load_split
from sortal.data.table import ImageTable
from sortal.train.plan import Plan

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What a run knows of its beginning."""

    recipe: Recipe
    plan: Plan
    origin: Mapping[str, Any]
    data_digest: str
    machine: Mapping[str, str]


def write_state(run: RunFolder, table: ImageTable, origin: Mapping[str, Any]) -> None:
    """Remember where the images came from and what they were."""
    state = {
        "format": _FORMAT,
        "finished": False,
        "origin": dict(origin),
        "data_digest": table.content_digest,
        "data_version": version_of_table(table),
        "machine": this_machine(),
    }
    publish_file(run.state_path, pretty(state).encode())


def data_version(run: RunFolder) -> dict[str, Any] | None:
    """The version of the images that DVC and Git named when the run began; None where they are not under DVC."""
    state = parse(run.state_path.read_bytes(), where=str(run.state_path))
    found = state.get("data_version")
    return found if isinstance(found, dict) else None


def mark_finished(run: RunFolder) -> None:
    """Remember that nothing is left to be done. A run that was broken off before this has to be taken up again."""
    state = parse(run.state_path.read_bytes(), where=str(run.state_path))
    publish_file(run.state_path, pretty({**state, "finished": True}).encode())


def remember(run: RunFolder) -> Remembered:
    """Read what `write_state` and the beginning of a run left. Raises InputError where something is missing."""
    for path in (run.recipe_path, run.plan_path, run.state_path, run.split_path):
        if not path.is_file():
            raise InputError(f"this run cannot be repeated: it has no {path.name}", where=str(run.path))
    state = parse(run.state_path.read_bytes(), where=str(run.state_path))
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise InputError("state of an unknown format", where=str(run.state_path))
    return Remembered(
        recipe=load_recipe(run.recipe_path),
        plan=Plan.model_validate(parse(run.plan_path.read_bytes(), where=str(run.plan_path))),
        origin=state["origin"],
        data_digest=state["data_digest"],
        machine=state["machine"],
    )


def same_images(
    table: ImageTable, run: RunFolder, known: Remembered, *, allow_data_change: bool, listener: Listener
) -> ImageTable:
    """`table` scanned and split as the run split it.

    Raises DataError where an image was added, removed, edited or labeled otherwise since, unless that is allowed.
    """
    scanned = scan(table, progress=lambda done, total: listener.progress("reading", done, total))
    changed = scanned.content_digest != known.data_digest
    if changed and not allow_data_change:
        raise DataError(
            "the images or their labels are not those that this run began with",
            where=table.source,
            received=f"content {scanned.content_digest[:12]}, expected {known.data_digest[:12]}",
            hint="restore them, start a new run, or go on all the same with --allow-data-change",
        )
    divided = load_split(scanned, run.split_path, edited=changed)
    if changed:
        listener.say("warning: images or labels changed since this run began; new images take no part")
    return divided.with_findings(*check_leaks(divided))


def machine_differences(known: Remembered) -> list[str]:
    """What is not as it was: with any of it the result is as good, and not the same to the bit."""
    now = this_machine()
    before = known.machine
    return [f"{name} {before.get(name)} -> {value}" for name, value in now.items() if before.get(name) != value]


def this_machine() -> dict[str, str]:
    """What equal results to the bit depend on, beside recipe, plan and images."""
    return {
        "python": platform.python_version(),
        "processor": _processor(),
        "cpus": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": str(team_size()),
        **{name: version(name) for name in ("sortal", "torch", "timm", "numpy", "opencv-python-headless")},
    }


def origin_of(source: object) -> dict[str, Any]:
    """Where images came from, as far as it can be written down: paths or a URL; empty for a table made in Python."""
    if is_remote(source):
        return {"source": str(source)}
    if isinstance(source, str | Path):
        return {"source": str(Path(source).absolute())}
    if isinstance(source, Sequence) and all(isinstance(part, str | Path) for part in source):
        return {"source": [str(Path(part).absolute()) for part in source]}
    return {}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
