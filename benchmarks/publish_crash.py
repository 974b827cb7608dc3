"""Kill or fail a publication at every system call it makes, and look at what a reader then finds.

    python benchmarks/publish_crash.py            all states, about 80 s on 2 cores; needs Linux and strace

strace delivers SIGKILL, or makes a call fail with ENOSPC or EIO, at the k-th call of each kind (the method by which
SQLite tests its commits). After each such state the bundle is opened: it must be the old one or the new one as a
whole, and the new one if the publication said that it was done. The next publication must succeed and clear up.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sortal
from sortal.core.bundle import BundleContents, attach, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec
from sortal.core.publish import HIDDEN, publish_file, publish_folder
from sortal.core.recipe import Recipe

CHILD = Path(__file__).with_name("publish_crash_child.py")
CALLS = ("mkdir", "openat", "write", "sendfile", "fsync", "rename", "renameat2", "unlink", "unlinkat", "rmdir")
FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")
OPERATIONS = ("folder", "replace", "aside", "file")
"""A new bundle; an attachment replaced by exchange; one replaced where the system cannot exchange; a single file.

In the third a reader may find nothing between the two renames; the next publication has to mend that.
"""
CONTROL = "naive"
"""Writes in place: if no state of this one were found broken, the method would see nothing."""


@dataclass(frozen=True, kw_only=True)
class State:
    """The `number`-th call of `call` in the child meets `fault`."""

    operation: str
    call: str
    number: int
    fault: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the publisher said (`done`, `failed`, `killed`, `crashed`) and what a reader found.

    `broken` is a part of something, or not the new thing although the publisher said that it was done.
    """

    said: str
    found: str
    hidden: int
    """Hidden remains right afterwards."""
    mended: bool
    """The next publication succeeded, is what a reader finds, and left no hidden remains."""


class Scene:
    """A fresh folder with the old thing, the new thing to publish, and the way to read what is there."""

    def __init__(self, parent: Path, operation: str):
        self.folder = Path(tempfile.mkdtemp(dir=parent))
        self.operation = operation
        self.home = self.folder / "home"
        self.home.mkdir()
        old, new = parent / "old", parent / "new"
        self.source = new
        if operation in ("replace", "aside"):
            shutil.copytree(old, self.home / "bundle")
            self.source = new / "artifacts" / "onnx"
            self.target = self.home / "bundle" / "artifacts" / "onnx"
        elif operation == "file":
            self.target = self.home / "labels.json"
            self.target.write_bytes(b"old")
        else:
            self.target = self.home / "bundle"

    def read(self) -> str:
        """`old`, `new`, `nothing` or `broken`, as the real reader sees it."""
        if self.operation == "file":
            raw = self.target.read_bytes() if self.target.exists() else None
            return {b"old": "old", (self.source / "labels.json").read_bytes(): "new", None: "nothing"}.get(
                raw, "broken"
            )
        if not self.target.exists():
            return "nothing" if self.operation in ("replace", "aside") else "old"  # a new bundle replaces nothing
        try:
            if self.operation not in ("replace", "aside"):
                open_bundle(self.target).artifact("onnx")
                return "new"
            artifact = open_bundle(self.home / "bundle").artifact("onnx")
        except BundleError:
            return "broken"
        return "new" if (artifact / "model.onnx").read_bytes() == (self.source / "model.onnx").read_bytes() else "old"

    def hidden(self) -> list[Path]:
        return [path for path in self.home.rglob("*") if path.name.startswith(HIDDEN)]

    def publish_again(self) -> bool:
        """In this process, as the next command would."""
        if self.operation == "file":
            publish_file(self.target, (self.source / "labels.json").read_bytes())
        else:
            publish_folder(
                self.target,
                lambda folder: shutil.copytree(self.source, folder, dirs_exist_ok=True) and None,
                replace=True,
            )
        return self.read() == "new" and not self.hidden()

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def prepare(parent: Path) -> None:
    """Two bundles of one id whose artifact differs: `old` and `new` under `parent`."""
    contents = BundleContents(
        labels=LabelSet(names=("nut", "screw")),
        preprocess=PreprocessSpec(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3),
        decision=DecisionSpec(),
        model=ModelSpec(architecture="tiny", classes=2, embedding=4, parameters=10),
        weights_licence="none",
        recipe=Recipe(),
    )
    write_bundle(parent / "new", contents)
    shutil.copytree(parent / "new", parent / "old")
    attach(parent / "new", "artifacts/onnx", lambda folder: (folder / "model.onnx").write_bytes(b"new" * 9) and None)
    attach(parent / "old", "artifacts/onnx", lambda folder: (folder / "model.onnx").write_bytes(b"old" * 9) and None)


def trace(scene: Scene, state: State | None = None) -> tuple[int, str]:
    """Run the child, with a fault if `state` asks for one: its exit code (negative for a signal) and strace's log."""
    log = scene.folder / "strace.log"
    inject = [f"inject={state.call}:{state.fault}:when={state.number}"] if state else []
    if scene.operation == "aside" and not (state and state.call == "renameat2"):
        inject.append("inject=renameat2:error=ENOSYS")
    command = ["strace", "-o", str(log), "-y", "-e", f"trace=access,faccessat,faccessat2,{','.join(CALLS)}"]
    command += [part for rule in inject for part in ("-e", rule)]
    command += [sys.executable, "-S", "-B", str(CHILD), scene.operation, str(scene.source), str(scene.target)]
    environment = {
        "PYTHONPATH": str(Path(sortal.__file__).parents[1]),
        "PYTHONHASHSEED": "0",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, log.read_text(encoding="utf-8", errors="replace")


def calls(log: str) -> Iterator[tuple[str, str, bool]]:
    """(name, whole line, inside the publication) of every call in a log of strace."""
    inside = False
    for line in log.splitlines():
        found = re.match(r"(\w+)\(", line)
        if "/publication-begins" in line or "/publication-ends" in line:
            inside = "/publication-begins" in line
        elif found:
            yield found[1], line, inside


def states(parent: Path, operation: str, faults: Iterable[str] = FAULTS) -> list[State]:
    """Every call that an undisturbed publication makes, with every fault."""
    scene = Scene(parent, operation)
    code, log = trace(scene)
    if code != 0 or scene.read() not in ("new", "broken"):
        raise RuntimeError(f"an undisturbed {operation} failed: {log[-2000:]}")
    scene.remove()
    counts: collections.Counter[str] = collections.Counter()
    found = []
    for name, _, inside in calls(log):
        counts[name] += 1
        if inside and name in CALLS and not (operation == "aside" and name == "renameat2"):
            found += [State(operation=operation, call=name, number=counts[name], fault=fault) for fault in faults]
    return found


def run_state(parent: Path, state: State) -> Outcome:
    """Disturb one publication and look."""
    scene = Scene(parent, state.operation)
    code, log = trace(scene, state)
    if "INJECTED" not in log and "killed by SIGKILL" not in log:
        raise RuntimeError(f"{state} was never reached")
    said = {0: "done", 3: "failed", -9: "killed", 137: "killed"}.get(code, "crashed")
    found, hidden = scene.read(), len(scene.hidden())
    if said == "done" and found != "new":
        found = "broken"
    outcome = Outcome(said=said, found=found, hidden=hidden, mended=scene.publish_again())
    scene.remove()
    return outcome


def main() -> int:
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        prepare(parent)
        print("operation  states killed failed  done |  old  new nothing broken | unmended crashed")
        tallies = {operation: tally(parent, operation) for operation in (*OPERATIONS, CONTROL)}
    control = tallies.pop(CONTROL)["broken"]
    total = sum(counts["states"] for counts in tallies.values())
    broken = sum(counts["broken"] + counts["unmended"] + counts["crashed"] for counts in tallies.values())
    absent = sum(counts["nothing"] for operation, counts in tallies.items() if operation != "aside")
    print(f"{total} states, {broken + absent} broken; control, written in place: {control} broken")
    print(f"{time.monotonic() - began_s:.0f} s")
    return 0 if broken + absent == 0 and control > 0 and total >= 80 else 1


def tally(parent: Path, operation: str) -> collections.Counter[str]:
    """Run all states of an operation and print how often each outcome was seen."""
    counts: collections.Counter[str] = collections.Counter()
    for state in states(parent, operation):
        outcome = run_state(parent, state)
        counts.update(["states", outcome.said, outcome.found, *([] if outcome.mended else ["unmended"])])
    print(
        f"{operation:9} {counts['states']:7} {counts['killed']:6} {counts['failed']:6} {counts['done']:5} |"
        f" {counts['old']:4} {counts['new']:4} {counts['nothing']:7} {counts['broken']:6} |"
        f" {counts['unmended']:8} {counts['crashed']:7}"
    )
    return counts


if __name__ == "__main__":
    sys.exit(main())
