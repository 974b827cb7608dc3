"""Kill or fail a change of a workspace at every system call it makes, and look at what is left; then kill writers.

    python benchmarks/workspace_crash.py [--every 1] [--rounds 30]     needs Linux and strace

strace delivers SIGKILL, or makes a call fail with ENOSPC or EIO, at the k-th call of each kind. After each such state
the workspace has to open, its database to be whole, what is live to be a whole bundle (the old or the new; the new one
where the change was reported as done), every listed image to be there with its own bytes, and the same change to go
through.

Then several processes say labels as fast as they can and are all killed: every label that was acknowledged has to be
there.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sortal.core.bundle import BundleContents, attach, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import SortalError
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec
from sortal.workspace.bundles import stored_bundle, stored_ids
from sortal.workspace.deployment import clear, deployment, promote, rollback
from sortal.workspace.feedback import say_label, statements
from sortal.workspace.folder import BUNDLES, Settings, Workspace, change_settings, create_workspace, open_workspace
from sortal.workspace.images import keep_image, read_image

CHILD = Path(__file__).with_name("workspace_crash_child.py")
CALLS = (
    "mkdir",
    "openat",
    "write",
    "pwrite64",
    "sendfile",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
)
FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")
OPERATIONS = ("promote", "rollback", "clear", "image")


@dataclass(frozen=True, kw_only=True)
class State:
    """The `number`-th call of `call` in the child meets `fault`."""

    operation: str
    call: str
    number: int
    fault: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the child said (`done`, `failed`, `killed`, `crashed`) and what was wrong afterwards; empty for nothing."""

    said: str
    wrong: str


def make_bundle(path: Path, number: int) -> None:
    """A bundle of its own for each number, with an artifact of a few kilobytes."""
    contents = BundleContents(
        labels=LabelSet(names=("nut", "screw")),
        preprocess=PreprocessSpec(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3),
        decision=DecisionSpec(temperature=1.0 + number),
        model=ModelSpec(architecture="tiny", classes=2, embedding=4, parameters=10),
        weights_licence="none",
    )
    write_bundle(path, contents)
    attach(path, "artifacts/onnx", lambda folder: (folder / "model.onnx").write_bytes(b"graph" * 900) and None)


def prepare(parent: Path) -> None:
    """A workspace in which 1, 2 and 3 were live in turn, and the bundle 4, under `parent`."""
    for number in (1, 2, 3, 4):
        make_bundle(parent / f"bundle-{number}", number)
    with create_workspace(parent / "workspace", Settings(bundles=2)) as workspace:
        for number in (1, 2, 3):
            promote(workspace, open_bundle(parent / f"bundle-{number}"), by="before")
        keep_image(workspace, b"an earlier picture", suffix=".png")


def trace(parent: Path, operation: str, state: State | None = None) -> tuple[int, str, Path]:
    """Run the child on a fresh copy of the workspace: exit code (negative for a signal), strace's log, the copy."""
    scene = Path(tempfile.mkdtemp(dir=parent))
    shutil.copytree(parent / "workspace", scene / "workspace")
    log = scene / "strace.log"
    command = ["strace", "-o", str(log), "-e", f"trace=access,faccessat,faccessat2,{','.join(CALLS)}"]
    command += ["-e", f"inject={state.call}:{state.fault}:when={state.number}"] if state else []
    command += [sys.executable, "-B", str(CHILD), operation, str(scene / "workspace"), str(parent / "bundle-4")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, timeout=120
    )
    return done.returncode, log.read_text(encoding="utf-8", errors="replace"), scene


def states(parent: Path, operation: str, faults: tuple[str, ...] = FAULTS) -> list[State]:
    """Every call that an undisturbed change makes, with every fault."""
    code, log, scene = trace(parent, operation)
    if code != 0 or look(scene / "workspace", operation, done=True):
        raise RuntimeError(f"an undisturbed {operation} failed: {log[-2000:]}")
    shutil.rmtree(scene)
    counts: collections.Counter[str] = collections.Counter()
    found, inside = [], False
    for line in log.splitlines():
        name = re.match(r"(\w+)\(", line)
        if "/change-begins" in line or "/change-ends" in line:
            inside = "/change-begins" in line
        elif name:
            counts[name[1]] += 1
            if inside and name[1] in CALLS:
                found += [
                    State(operation=operation, call=name[1], number=counts[name[1]], fault=fault) for fault in faults
                ]
    return found


def run_state(parent: Path, state: State) -> Outcome:
    """Disturb one change and look."""
    code, log, scene = trace(parent, state.operation, state)
    if "INJECTED" not in log and "killed by SIGKILL" not in log:
        raise RuntimeError(f"{state} was never reached")
    said = {0: "done", 3: "failed", -9: "killed", 137: "killed"}.get(code, "crashed")
    wrong = look(scene / "workspace", state.operation, done=said == "done")
    wrong = wrong or again(scene / "workspace", parent, state.operation)
    shutil.rmtree(scene)
    return Outcome(said=said, wrong="the process crashed" if said == "crashed" else wrong)


def look(path: Path, operation: str, *, done: bool) -> str:
    """What is wrong with a workspace, as the next process finds it; empty where nothing is."""
    try:
        with open_workspace(path) as workspace:
            return damage(workspace) or (missing(workspace, operation) if done else "")
    except SortalError as error:
        return f"does not open: {error}"


def damage(workspace: Workspace) -> str:
    """What is not whole."""
    if workspace.database.one("pragma integrity_check") != ("ok",):
        return "the database is not whole"
    live = deployment(workspace).live
    if live is None:
        return "nothing is live"
    stored_bundle(workspace, live).artifact("onnx")
    for name in stored_ids(workspace):
        stored_bundle(workspace, name).artifact("onnx")
    for (name,) in workspace.database.all("select sha256 from images"):
        if not read_image(workspace, str(name)):
            return "an image is empty"
    return ""


def missing(workspace: Workspace, operation: str) -> str:
    """What was reported as done and is not so."""
    now = deployment(workspace)
    if operation in ("promote", "rollback") and now.generation != 4:
        return "the change was acknowledged and is not there"
    if operation == "clear" and len(stored_ids(workspace)) != 2:
        return "a bundle that nothing needs is still there"
    if operation == "image" and [one.key for one in statements(workspace)] != ["child"]:
        return "the label was acknowledged and is not there"
    return ""


def again(path: Path, parent: Path, operation: str) -> str:
    """Whether the next process can do the same, and leaves no remains."""
    try:
        with open_workspace(path) as workspace:
            if operation == "promote" and deployment(workspace).generation == 3:
                promote(workspace, open_bundle(parent / "bundle-4"))
            elif operation == "rollback" and deployment(workspace).generation == 3:
                rollback(workspace)
            elif operation == "image":
                name = keep_image(workspace, b"picture" * 10_000, suffix=".jpg")
                say_label(workspace, "nut", image_sha256=name, key="child")
            clear(change_settings(workspace, Settings(bundles=1)))
            left = [entry.name for entry in (workspace.path / BUNDLES).iterdir() if entry.name.startswith(".")]
            return damage(workspace) or missing_again(workspace, operation) or f"{left}" * bool(left)
    except SortalError as error:
        return f"cannot be done again: {error}"


def missing_again(workspace: Workspace, operation: str) -> str:
    if operation in ("promote", "rollback") and deployment(workspace).generation != 4:
        return "the next process could not do it"
    return ""


def kill_writers(parent: Path, writers: int, seconds: float) -> tuple[int, int]:
    """(labels acknowledged, labels of them that are lost) after all writers were killed at once."""
    path = Path(tempfile.mkdtemp(dir=parent)) / "workspace"
    shutil.copytree(parent / "workspace", path)
    logs = [path.parent / f"writer-{number}" for number in range(writers)]
    children = []
    for log in logs:
        with log.open("wb") as file:
            command = [sys.executable, "-B", str(CHILD), "write", str(path), log.name]
            children.append(subprocess.Popen(command, stdout=file))
    end = time.monotonic() + 60
    while time.monotonic() < end and not all(log.stat().st_size for log in logs):
        time.sleep(0.05)
    time.sleep(seconds)
    for child in children:
        child.send_signal(signal.SIGKILL)
    for child in children:
        child.wait()
    acknowledged = {line for log in logs for line in log.read_text().split("\n")[:-1]}
    with open_workspace(path) as workspace:
        wrong = damage(workspace)
        stored = {one.key for one in statements(workspace)}
    if wrong:
        raise RuntimeError(wrong)
    if len(stored - acknowledged) > writers:
        raise RuntimeError("more was stored than was said")
    shutil.rmtree(path.parent)
    return len(acknowledged), len(acknowledged - stored)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--every", type=int, default=1, help="take every so-manieth state only")
    asked.add_argument("--rounds", type=int, default=30, help="how often all writers are killed")
    asked.add_argument("--writers", type=int, default=8)
    options = asked.parse_args()
    parent = Path(tempfile.mkdtemp(prefix="sortal-workspace-"))
    prepare(parent)
    for operation in OPERATIONS:
        said: collections.Counter[str] = collections.Counter()
        broken = []
        for state in states(parent, operation)[:: options.every]:
            outcome = run_state(parent, state)
            said[outcome.said] += 1
            broken += [f"{state}: {outcome.wrong}"] * bool(outcome.wrong)
        print(f"| {operation} | {sum(said.values())} | {dict(said)} | {len(broken)} |", flush=True)
        for line in broken[:10]:
            print("   ", line)
    draws = random.Random(0)
    counts = [kill_writers(parent, options.writers, draws.uniform(0.05, 0.5)) for _ in range(options.rounds)]
    acknowledged, lost = (sum(numbers) for numbers in zip(*counts, strict=True))
    print(f"| {options.writers} writers killed {options.rounds} times | {acknowledged} acknowledged | {lost} lost |")
    shutil.rmtree(parent)


if __name__ == "__main__":
    main()
