"""Kill training with SIGKILL at many points, take it up again each time, and compare with a run never killed.

    python benchmarks/kill_resume.py              27 kills over 8 runs and a control, minutes of one CPU; POSIX

Each kind of run is done once undisturbed, and once more in a process that is killed where `CASES` says: at a training
step, in the middle of a checkpoint, in the probe, in the closing steps, or at a random time. Compared are the SHA-256
of the final weights, `metrics.jsonl` apart from times, the numbers of the report, and the rate of every single step,
also of steps that were done twice. The control draws dropout from torch's global generator and has to come out
different.

Processes are forked from one that has imported everything (`Nursery`), because importing takes longer than training.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Kill = Mapping[str, Any]
"""`{"step": n}`, `{"enter": "module:function", "nth": k, "holding": "in the first argument"}` or `{"after_s": t}`."""

TIMES = {"images_per_s", "data_s", "forward_s", "backward_s", "step_s", "eval_s", "epoch_s", "features_s", "head_s"}
SMALL = (
    "model=sortal_tiny",
    "model.arguments={width: 0.15, depth: 0.5}",
    "model.weights=null",
    "input.size=16",
    "train.batch=8",
    "train.epochs=4",
    "optim.lr=4e-3",
    "train.precision=fp32",
    "train.layout=channels_last",
    "train.compile=false",
    "train.workers=0",
)
"""Nothing is left to a measurement, which could come out differently the next time."""
TUNED = (*SMALL, "model.weights=weights.safetensors", "train.freeze=none")

FLUSH = "sortal.core.publish:_sync_tree"
CHECKPOINT = {"enter": FLUSH, "nth": 2, "holding": "step-"}
BEST = {"enter": FLUSH, "nth": 1, "holding": "best-"}
BUNDLE = {"enter": FLUSH, "nth": 1, "holding": "tmp-bundle"}
ARTIFACT = {"enter": FLUSH, "nth": 1, "holding": "tmp-onnx"}
PROBE = {"enter": "sortal.train.linear:choose_head", "nth": 1}
FINISH = {"enter": "sortal.train.gradient:finish", "nth": 1}
EXPORT = {"enter": "sortal.build:publish", "nth": 1}
VERDICT = {"enter": "sortal.build:final_report", "nth": 1}
CARD = {"enter": "sortal.verdict:write_card", "nth": 1}
MARK = {"enter": "sortal.build:mark_finished", "nth": 1}
RANDOM = {"after_s": None}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of run and where it is killed."""

    name: str
    settings: Sequence[str]
    kills: Sequence[Kill]
    save_steps: int = 5


CASES = (
    Case(
        name="plain",
        settings=SMALL,
        kills=({"step": 1}, {"step": 8}, CHECKPOINT, EXPORT),
    ),
    Case(
        name="2 workers",
        settings=(*SMALL, "train.workers=2", "augment=trivial"),
        kills=({"step": 3}, RANDOM, BUNDLE),
    ),
    Case(
        name="dropout, EMA, mixup, accumulate",
        settings=(*SMALL, "model.dropout=0.3", "optim.ema=0.9", "augment.mixup=0.4", "optim.accumulate=2"),
        kills=(BEST, RANDOM, EXPORT),
    ),
    Case(
        name="average, sizes",
        settings=(*SMALL, "train.average=0.4", "train.sizes=[8,16]", "augment.erase=0.3", "train.workers=2"),
        kills=({"step": 2}, {"step": 12}, {"step": 17}, VERDICT),
    ),
    Case(
        name="multi_scale, sgd, sampler",
        settings=(*SMALL, "model.head=multi_scale", "optim.name=sgd", "loss.imbalance=sampler"),
        kills=(RANDOM, ARTIFACT),
    ),
    Case(
        name="probe and gradient, gradual",
        settings=(*TUNED, "train.unfreeze=gradual", "model.dropout=0.2"),
        kills=(PROBE, {"step": 6}, RANDOM, FINISH),
    ),
    Case(
        name="probe alone",
        settings=(*TUNED, "train.freeze=backbone", "train.epochs=0"),
        kills=(PROBE, CARD),
    ),
    Case(
        name="early stop",
        settings=(*SMALL, "train.patience=1", "optim.lr=1e-9", "train.epochs=9"),
        kills=({"step": 4}, EXPORT, VERDICT, MARK),
    ),
)
CONTROL = Case(name="global chance", settings=(*SMALL, "model.dropout=0.3"), kills=({"step": 9},))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and what it printed."""

    code: int
    out: str
    err: str
    seconds: float


class Nursery:
    """A process that has imported everything and forks one child for every command line."""

    def __init__(self, home: Path):
        environment = os.environ | {
            "SORTAL_CACHE": str(home / "cache"),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "MPLCONFIGDIR": str(home / "matplotlib"),
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=home,
        )

    def run(
        self,
        cwd: Path,
        *arguments: object,
        kill: Kill | None = None,
        save_steps: int = 5,
        global_chance: bool = False,
        ranks: int = 1,
        code: str | None = None,
        strace: Sequence[str] = (),
    ) -> Ended:
        """One `sortal` command line in `cwd`, or the Python `code`. `kill` is where the child gets SIGKILL.

        With several `ranks` there are as many children, a team as torchrun would start it; when one is killed, all are.
        `strace` are arguments of an strace that is attached before the child begins.
        """
        job = {
            "cwd": str(cwd),
            "arguments": [str(argument) for argument in arguments],
            "kill": dict(kill or {}),
            "save_steps": save_steps,
            "global_chance": global_chance,
            "ranks": ranks,
            "code": code,
            "strace": list(strace),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def serve() -> None:
    """The nursery's side: one JSON object a line in, one out."""
    _warm_up()
    for line in sys.stdin:
        job = json.loads(line)
        began_s = time.monotonic()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            port = _free_port() if job["ranks"] > 1 else 0
            children = []
            for rank in range(job["ranks"]):
                child = os.fork()
                if child == 0:
                    os.dup2(out.fileno(), 1)
                    os.dup2(err.fileno(), 2)
                    if port:
                        team = {"RANK": rank, "WORLD_SIZE": job["ranks"], "MASTER_PORT": port}
                        os.environ |= {name: str(value) for name, value in team.items()} | {"MASTER_ADDR": "127.0.0.1"}
                    os._exit(_child(job))
                children.append(child)
                if job["strace"]:
                    _attach(child, job["strace"])
            code = _wait(children, job["kill"].get("after_s"))
            out.seek(0)
            err.seek(0)
            ended = {"code": code, "out": out.read(), "err": err.read(), "seconds": time.monotonic() - began_s}
        print(json.dumps(ended), flush=True)


def _warm_up() -> None:
    """Import everything, and export and draw once, which fills caches that children inherit."""
    import torch
    from matplotlib.figure import Figure

    import sortal.build
    import sortal.evaluate.pages
    import sortal.takeup  # noqa: F401
    from sortal.core.preprocess import PreprocessSpec
    from sortal.export.graph import export_onnx
    from sortal.models.backbones import create
    from sortal.models.resolve import ModelSource

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    torch.use_deterministic_algorithms(mode=False)
    source = ModelSource(name="tiny", architecture="sortal_tiny", arguments={"width": 0.15, "depth": 0.5})
    with tempfile.TemporaryDirectory() as name:
        spec = PreprocessSpec(size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
        export_onnx(create(source, classes=3, size=(16, 16)).eval(), spec, Path(name) / "model.onnx")
        figure = Figure()
        figure.subplots().plot([0, 1], label="a")
        figure.savefig(Path(name) / "figure.png")


def _wait(children: Sequence[int], after_s: float | None) -> int:
    """The code of the first child that did not end well, else 0. All are killed when one is, or after a time."""
    until_s = time.monotonic() + (after_s if after_s is not None else 1e9)
    left, first = list(children), 0
    while left:
        for child in tuple(left):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                left.remove(child)
                first = first or os.waitstatus_to_exitcode(status)
        if time.monotonic() > until_s or first == -signal.SIGKILL:
            for child in left:
                os.kill(child, signal.SIGKILL)
            until_s = 1e18
        time.sleep(0.005)
    return first


def _attach(child: int, arguments: Sequence[str]) -> None:
    """Trace a child that has stopped itself, and let it go on."""
    os.waitpid(child, os.WUNTRACED)
    tracer = subprocess.Popen(["strace", *arguments, "-p", str(child)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    while "attached" not in tracer.stderr.readline():
        if tracer.poll() is not None:
            break
    os.kill(child, signal.SIGCONT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _child(job: Mapping[str, Any]) -> int:
    import torch

    torch.set_num_threads(1)  # renews PyTorch's pool after the fork while there is one thread: two would race for it
    os.chdir(job["cwd"])
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    try:
        if job["strace"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        if job["code"] is not None:
            exec(job["code"], {"__name__": "code"})
            return 0
        _arrange(job)
        from sortal.cli.app import run

        return run(job["arguments"])
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _arrange(job: Mapping[str, Any]) -> None:
    """Checkpoints every few steps and not by the clock, the rate of each step noted, and the kill."""
    from sortal.train import keeper, loop

    counted = iter(range(1, 10**9))
    keeper.SAVE_EVERY_S = 0.0
    keeper.Files.due = lambda _: next(counted) % job["save_steps"] == 0  # type: ignore[method-assign]
    step, kill_at = loop._train_step, job["kill"].get("step")

    def noted(state: Any, run: Any, *rest: Any) -> None:
        with Path("rates.txt").open("a") as file:
            file.write(f"{state.step} {loop._rate(state, run)!r}\n")
        step(state, run, *rest)
        if state.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    loop._train_step = noted
    if job["global_chance"]:
        loop.torch_randomness = lambda *_, **__: nullcontext()  # type: ignore[assignment]
    if "enter" in job["kill"]:
        _on_entering(**job["kill"])


def _on_entering(*, enter: str, nth: int = 1, holding: str = "") -> None:
    """Kill this process when a function is called for the `nth` time with `holding` in its first argument."""
    import importlib

    module, _, name = enter.partition(":")
    owner = importlib.import_module(module)
    function: Callable[..., Any] = getattr(owner, name)
    counted = iter(range(1, 10**9))

    def entered(*arguments: Any, **named: Any) -> Any:
        if holding in str(arguments[0] if arguments else "") and next(counted) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    setattr(owner, name, entered)


def draw(folder: Path, *, images: int = 20, size: int = 16, seed: int = 0) -> Path:
    """Class folders of gratings at three angles, with noise."""
    from PIL import Image

    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    for label, name in enumerate(("flat", "slant", "steep")):
        (folder / name).mkdir(parents=True)
        angle = np.pi * label / 3
        for number in range(images):
            wave = np.sin(2 * np.pi * (3 * (x * np.cos(angle) + y * np.sin(angle)) + chance.random()))
            pixels = np.clip(127 + 50 * wave[:, :, None] + chance.normal(0, 15, (size, size, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a finished run left that has to be the same."""

    weights: str
    rows: list[dict[str, Any]]
    metrics: dict[str, Any]
    rates: dict[int, float] = field(compare=True)
    contradictions: int = 0
    """Steps whose rate was another one when they were done again."""


def look(run: Path, rates: Path) -> Left:
    """Read it."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    found: dict[int, float] = {}
    wrong = 0
    for line in rates.read_text().splitlines() if rates.exists() else ():
        number, rate = line.split()
        wrong += found.setdefault(int(number), float(rate)) != float(rate)
    return Left(
        weights=hashlib.sha256((run / "bundle" / "weights.safetensors").read_bytes()).hexdigest(),
        rows=rows,
        metrics={name: metric["value"] for name, metric in report["metrics"].items() if "_s" not in name[-3:]},
        rates=found,
        contradictions=wrong,
    )


def disturbed(
    nursery: Nursery, home: Path, case: Case, *, chance: random.Random, whole_s: float, global_chance: bool = False
) -> tuple[Path, int]:
    """A run killed at each of the points in turn and taken up again after each; (its folder, kills that happened)."""
    run, kills = home / "runs" / "photos-1", 0
    arguments: Sequence[object] = ("train", "photos", *case.settings)
    for kill in (*case.kills, None):
        if kill == RANDOM:
            kill = {"after_s": chance.uniform(0.05, 0.95) * whole_s}
        if (run / "split.csv").exists():
            arguments = ("train", "--resume", run)
        else:
            shutil.rmtree(run, ignore_errors=True)  # killed before there was anything to go on with
        ended = nursery.run(home, *arguments, kill=kill, save_steps=case.save_steps, global_chance=global_chance)
        if kill is not None and ended.code == -signal.SIGKILL:
            kills += 1
        elif ended.code == 0 and kill is not None and RANDOM in case.kills:
            break  # the random kill came late, so that what should have followed was over
        elif ended.code != 0 or kill is not None:
            raise RuntimeError(f"{case.name}: {kill} ended with {ended.code}\n{ended.err}")
    return run, kills


def compare(nursery: Nursery, parent: Path, case: Case, *, seed: int, global_chance: bool = False) -> tuple[int, bool]:
    """(kills, whether the disturbed run is the same as the undisturbed one)."""
    homes = []
    for name in ("whole", "broken"):
        home = parent / f"{case.name}-{name}"
        home.mkdir()
        (home / "photos").symlink_to(parent / "photos")
        if (parent / "weights.safetensors").exists():
            (home / "weights.safetensors").symlink_to(parent / "weights.safetensors")
        homes.append(home)
    whole = nursery.run(homes[0], "train", "photos", *case.settings, global_chance=global_chance)
    if whole.code != 0:
        raise RuntimeError(f"{case.name}: {whole.err}")
    chance = random.Random(seed)
    run, kills = disturbed(nursery, homes[1], case, chance=chance, whole_s=whole.seconds, global_chance=global_chance)
    expected, found = look(homes[0] / "runs" / "photos-1", homes[0] / "rates.txt"), look(run, homes[1] / "rates.txt")
    differing = [name for name in vars(expected) if getattr(expected, name) != getattr(found, name)]
    if differing:
        print(f"    differs in {', '.join(differing)}")
    return kills, not differing


def prepare(nursery: Nursery, parent: Path) -> None:
    """Images, and weights for the cases that start from some."""
    draw(parent / "photos")
    home = parent / "pretraining"
    home.mkdir()
    (home / "photos").symlink_to(parent / "photos")
    done = nursery.run(home, "train", "photos", *SMALL, "train.epochs=2", "seed=9")
    if done.code != 0:
        raise RuntimeError(done.err)
    weights = home / "runs" / "photos-1" / "bundle" / "weights.safetensors"
    (parent / "weights.safetensors").write_bytes(weights.read_bytes())


def main() -> int:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})  # so that plans have one thread
    began_s, total, same = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name).resolve()
        nursery = Nursery(parent)
        prepare(nursery, parent)
        for number, case in enumerate(CASES):
            kills, equal = compare(nursery, parent, case, seed=number)
            print(f"{case.name:34} {kills} kills  {'the same to the bit' if equal else 'DIFFERENT'}", flush=True)
            total, same = total + kills, same + equal
        _, equal = compare(nursery, parent, CONTROL, seed=0, global_chance=True)
        print(f"{'control: ' + CONTROL.name:34}          {'THE SAME' if equal else 'different, as it has to be'}")
        nursery.close()
    print(f"{total} kills over {len(CASES)} runs, {same} of {len(CASES)} runs bit-identical")
    print(f"{time.monotonic() - began_s:.0f} s")
    return 0 if same == len(CASES) and not equal and total >= 20 else 1


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve()
    else:
        sys.exit(main())
