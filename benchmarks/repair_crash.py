"""Kill or fail a repair, and its undo, at every system call they make, and look whether every image is still there.

    python benchmarks/repair_crash.py             all states; needs Linux and strace
    python benchmarks/repair_crash.py --every 7   every seventh state

strace delivers SIGKILL, or makes a call fail with ENOSPC or EIO, at the k-th call of each kind; renames are refused
with EXDEV as well, as across file systems, so that copies are interrupted too. After each state every file's bytes
must exist below the data set. Then the repair is either gone on with and undone, or undone at once (in turns), and the
tree must be the one before it: names, bytes, times of files and folders.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import repair_crash_child

from sortal.core.errors import SortalError
from sortal.data.formats import FORMATS
from sortal.data.repair.fix import resume, take_back
from sortal.data.repair.journal import journals

MARKS = ("access", "faccessat", "faccessat2")
CALLS = ("mkdir", "openat", "write", "fsync", "rename", "renameat2", "unlink", "rmdir", "utimensat", "chmod", "lseek")
FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")
OPERATIONS = ("folders", "across", "undo", "table")
"""A repair of class folders; one whose renames are refused as across file systems; its undo; a table that is edited."""
CONTROL = "naive"
"""Deletes before it writes, without a journal: if it lost nothing in any state, the method would see nothing."""
_TIME_NS = 10**18


@dataclass(frozen=True, kw_only=True)
class State:
    """The `number`-th call of `call` in the child meets `fault`."""

    operation: str
    call: str
    number: int
    fault: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the child said (`done`, `failed`, `killed`, `crashed`); whether bytes were lost right after it, more copies
    than one were there, and whether the tree was the one before in the end."""

    said: str
    lost: int
    doubled: int
    restored: bool


class Scene:
    """A data set of its own, with a plan beside it."""

    def __init__(self, parent: Path, operation: str):
        self.folder = Path(tempfile.mkdtemp(dir=parent))
        self.operation = operation
        self.root = self.folder / "photos"
        make(self.root, table=operation == "table")
        self.source = self.root / "labels.csv" if operation == "table" else self.root
        self.before = picture(self.root)
        if operation == "undo":
            run("repair", self.source)
        self.bytes_before = contents(self.root)

    def lost(self) -> int:
        """Files whose bytes are nowhere any more."""
        return sum((self.bytes_before - contents(self.root)).values())

    def doubled(self) -> int:
        """Files that are there twice."""
        return sum((contents(self.root) - self.bytes_before).values())

    def finish(self, *, onward: bool) -> bool:
        """Go on or not, undo, and compare."""
        states = [journal.state for journal in journals(self.root)]
        begun = any(state != "not begun" for state in states)
        try:
            if onward and "broken off" in states:
                resume(self.source)
            if any(journal.stands for journal in journals(self.root)):
                _, undone = take_back(self.source, do=True)
                if undone.kept:
                    return False
        except SortalError as error:
            print(error, file=sys.stderr)
            return False
        now = picture(self.root)
        if not begun:  # all that was done is that `.sortal` was made, which shows in the time of the folder it is in
            now["."] = self.before["."]
        return now == self.before

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def warm_up() -> None:
    """Load all that a repair loads, so that what fails in a child is the repair and not an import."""
    for name in FORMATS.names():
        FORMATS.get(name)


def make(root: Path, *, table: bool) -> None:
    """Three classes in two splits, folders below, a link, a file that is no image, times of long ago."""
    names = [
        "train/cat/0.png",
        "train/cat/1.png",
        "train/dog/0.png",
        "train/dog/deep/2.png",
        "train/pup/0.png",
        "val/cat/0.png",
    ]
    for number, name in enumerate([*names, "train/pup/notes.txt", "train/cow/0.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes([number]) * 1000)
    (root / "train/cat/link.png").symlink_to(root / "train/cat/1.png")
    if table:
        lines = [f"{name},{name.split('/')[1]},train\n" for name in names]
        (root / "labels.csv").write_text("path,label,split\n" + "".join(lines))
    for parent, _, files in os.walk(root, topdown=False):
        for name in [*files, "."]:
            os.utime(Path(parent, name), ns=(_TIME_NS, _TIME_NS), follow_symlinks=False)


def picture(root: Path) -> dict[str, tuple[object, int]]:
    """Every file and folder but those of repairs: content or where it leads, and time."""
    found: dict[str, tuple[object, int]] = {}
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != ".sortal"]
        for path in [Path(parent), *(Path(parent, name) for name in files)]:
            content: object = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(root))] = (content, path.lstat().st_mtime_ns)
    return found


def contents(root: Path) -> collections.Counter[bytes]:
    """The bytes of all images, and how often they are there; what repairs keep of tables does not count."""
    paths = (path for path in root.rglob("*.png") if path.is_file() and not path.is_symlink())
    return collections.Counter(path.read_bytes() for path in paths)


def trace(scene: Scene, state: State | None = None) -> tuple[int, str]:
    """Run the child under strace, with a fault if `state` asks for one: its exit code (negative: a signal) and log."""
    log = scene.folder / "strace.log"
    inject = [f"inject={state.call}:{state.fault}:when={state.number}"] if state else []
    if scene.operation == "across" and not (state and state.call == "renameat2"):
        inject.append("inject=renameat2:error=EXDEV:when=1+2")
    operation = {"undo": "undo", CONTROL: "naive"}.get(scene.operation, "repair")
    child = fork(operation, scene.source, stopped=True)
    command = ["strace", "-f", "-p", str(child), "-y", "-o", str(log), "-e", f"trace={','.join((*MARKS, *CALLS))}"]
    command += [part for rule in inject for part in ("-e", rule)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        tracer.stderr.readline()  # it has attached
        os.kill(child, signal.SIGCONT)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        tracer.communicate()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return code, "\n".join(line for line in lines if line.startswith(f"{child} "))


def fork(operation: str, source: Path, *, stopped: bool = False) -> int:
    """The process number of a child that repairs; `stopped`: it waits for SIGCONT first.

    Forked, for a new interpreter would take a second for each state. This process itself computes no table.
    """
    child = os.fork()
    if child:
        if stopped:
            os.waitpid(child, os.WUNTRACED)
        return child
    try:
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        os._exit(repair_crash_child.main(operation, source))
    finally:
        os._exit(9)


def run(operation: str, source: Path) -> int:
    """The undisturbed child's exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(operation, source), 0)[1])


def calls(log: str) -> Iterator[tuple[str, bool]]:
    """(name, whether it is the repair's and touches its folder) of every call in a log of strace."""
    inside = False
    for line in log.splitlines():
        found = re.match(r"\d+\s+(\w+)\(", line)
        if "/repair-begins" in line or "/repair-ends" in line:
            inside = "/repair-begins" in line
        elif found:
            yield found[1], inside and "/photos" in line


def states(parent: Path, operation: str) -> list[State]:
    """Every call that an undisturbed repair makes, with every fault."""
    scene = Scene(parent, operation)
    code, log = trace(scene)
    if code != 0:
        raise RuntimeError(f"an undisturbed {operation} failed: {log[-2000:]}")
    scene.remove()
    counts: collections.Counter[str] = collections.Counter()
    found = []
    for name, inside in calls(log):
        counts[name] += 1
        if inside and name in CALLS and not (operation == "across" and name == "renameat2"):
            found += [State(operation=operation, call=name, number=counts[name], fault=fault) for fault in FAULTS]
    return found


def run_state(parent: Path, state: State, *, onward: bool) -> Outcome | None:
    """Disturb one repair and look; None where the call was not reached this time."""
    scene = Scene(parent, state.operation)
    code, log = trace(scene, state)
    if "killed by SIGKILL" not in log and f"({state.fault.removeprefix('error=')}" not in log and "INJECTED" not in log:
        scene.remove()
        return None
    said = {0: "done", 3: "failed", -9: "killed", 137: "killed"}.get(code, "crashed")
    lost, doubled = scene.lost(), scene.doubled()
    outcome = Outcome(said=said, lost=lost, doubled=doubled, restored=scene.finish(onward=onward) and not scene.lost())
    broken = outcome.lost or not outcome.restored or outcome.said == "crashed"
    if broken and state.operation != CONTROL:
        print(f"broken: {state} onward={onward} {outcome}", file=sys.stderr)
    scene.remove()
    return outcome


def kill_at_random(parent: Path, seed: int, count: int, longest_s: float = 0.25) -> collections.Counter[str]:
    """SIGKILL after a random time rather than at a call."""
    random_times = random.Random(seed)
    tally: collections.Counter[str] = collections.Counter()
    for number in range(count):
        scene = Scene(parent, "folders")
        child = fork("repair", scene.source, stopped=True)
        os.kill(child, signal.SIGCONT)
        time.sleep(random_times.uniform(0, longest_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lost = scene.lost()
        tally.update(["states", "killed", *(["broken"] if lost or not scene.finish(onward=number % 2 == 0) else [])])
        scene.remove()
    return tally


def sample(chosen: list[str]) -> None:
    """Run single states, `operation/call/index/fault` (index into the states of that call and fault), and print what
    came of each as JSON; in turns gone on with and undone at once. For tests, whose own process may not be forked."""
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        known = {operation: states(parent, operation) for operation in {text.split("/")[0] for text in chosen}}
        for number, text in enumerate(chosen):
            operation, call, index, fault = text.split("/")
            fitting = [state for state in known[operation] if (state.call, state.fault) == (call, fault)]
            outcome = run_state(parent, fitting[int(index)], onward=number % 2 == 0)
            print(json.dumps({"state": text, "outcome": outcome and asdict(outcome)}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", nargs="+", default=[])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--random", type=int, default=100)
    asked = parser.parse_args()
    warm_up()
    if asked.sample:
        sample(asked.sample)
        return 0
    began_s = time.monotonic()
    total: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        print("operation  states killed failed  done crashed doubled | lost  not restored")
        for operation in (*OPERATIONS, CONTROL):
            counts: collections.Counter[str] = collections.Counter()
            every = 1 if operation == CONTROL else asked.every
            for number, state in enumerate(itertools.islice(states(parent, operation), 0, None, every)):
                outcome = run_state(parent, state, onward=number % 2 == 0)
                if outcome is not None:
                    counts.update(["states", outcome.said])
                    counts["lost"] += outcome.lost > 0
                    counts["doubled"] += outcome.doubled > 0
                    counts["unrestored"] += not outcome.restored
            print(
                f"{operation:9} {counts['states']:7} {counts['killed']:6} {counts['failed']:6} {counts['done']:5}"
                f" {counts['crashed']:7} {counts['doubled']:7} | {counts['lost']:4} {counts['unrestored']:13}",
                flush=True,
            )
            if operation == CONTROL:
                control = counts["lost"]
            else:
                total += counts
        at_random = kill_at_random(parent, 0, asked.random)
        print(f"killed at random times: {at_random['states']}, broken {at_random['broken']}")
    broken = total["lost"] + total["unrestored"] + total["crashed"] + at_random["broken"]
    print(
        f"{total['states']} states, {broken} broken; control: {control} lost images; {time.monotonic() - began_s:.0f} s"
    )
    return 0 if broken == 0 and control > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
