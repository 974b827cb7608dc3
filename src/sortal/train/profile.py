"""Where the time of training goes: shares of the stages of a step, the most expensive operators and kernels, a trace.

    with profiled(run, steps=20) as profile:
        for batch in in_stage("data", batches):
            with stage("forward"): ...
            with stage("backward"): ...
            with stage("step"): ...
            if not profile.step():
                break
    profile.report

`stage` costs nothing while nobody measures. On CUDA every stage waits for the device while it is measured, so that its
time is its own; a timeline without that is for NVIDIA Nsight Systems (`nsys_command`), which sees the stages as NVTX
ranges, and what holds up a single kernel for Nsight Compute (`ncu_command`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from sortal.core.errors import InputError, InternalError
from sortal.core.publish import machine_error, publish_file
from sortal.core.report import Finding, Metric, Report, Table

STAGES = ("data", "forward", "backward", "step")
FOLDER = "profile"
NVTX = "SORTAL_NVTX"
"""Environment variable that makes stages visible to Nsight Systems."""

_TOP = 20
_WAITS = 0.25
"""Share of waiting for images from which they hold up training."""
_PREFIX = "sortal."
_STEP = "ProfilerStep"
_MEASURING: ContextVar[bool] = ContextVar("measuring", default=False)
_PROFILE: ContextVar[Profile | None] = ContextVar("profile", default=None)

Item = TypeVar("Item")


def stage(name: str) -> AbstractContextManager[None]:
    """A stage of a training step, one of STAGES (or `serve`), as a range in profiles."""
    if _MEASURING.get():
        return _measured(name)
    return _nvtx(name) if NVTX in os.environ and torch.cuda.is_available() else nullcontext()


def in_stage(name: str, items: Iterable[Item]) -> Iterator[Item]:
    """`items`, with the time it takes to get each of them in a stage."""
    left = iter(items)
    while True:
        with stage(name):
            try:
                item = next(left)
            except StopIteration:
                return
        yield item


class EnoughError(Exception):
    """All steps of a profile have been measured; training for its own sake is not wanted."""


def step_done() -> None:
    """To be called by a training loop after every step: tells the profile under way, if there is one.

    Raises EnoughError when that has all it wants.
    """
    profile = _PROFILE.get()
    if profile is not None and not profile.step():
        raise EnoughError


class Profile:
    """A measurement under way; afterwards its report."""

    def __init__(self, profiler: profile, *, steps: int, skip: int):
        self._profiler = profiler
        self._steps = steps
        self._left = steps + skip
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """Kind `profile`. Raises InternalError before the measurement has ended."""
        if self._report is None:
            raise InternalError("the profile has not ended yet")
        return self._report

    @property
    def steps(self) -> int:
        """How many steps have been measured so far."""
        return max(0, self._steps - self._left)

    def step(self) -> bool:
        """To be called at the end of every step: whether there is more to measure."""
        if self._left > 0:
            self._left -= 1
            self._profiler.step()
        return self._left > 0

    def finish(self, report: Report) -> None:
        """What came out."""
        self._report = report


@contextmanager
def profiled(run: Path, *, steps: int = 20, skip: int = 3, command: Sequence[str] = ()) -> Iterator[Profile]:
    """Measure `steps` steps after `skip` others (at least 1), into `<run>/profile/`: `report.json` and `trace.json`.

    The trace opens in chrome://tracing or ui.perfetto.dev. `command` is what a person typed, for the hints. Raises
    MachineError when the disk refuses, InputError when training ended before a step was measured.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler talks to stderr about absent devices
    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    token = _MEASURING.set(True)
    try:
        # The last skipped step is the profiler's own warm-up.
        plan = schedule(wait=skip - 1, warmup=1, active=steps, repeat=1)
        with profile(activities=activities, schedule=plan, acc_events=True) as profiler:
            measured = Profile(profiler, steps=steps, skip=skip)
            current = _PROFILE.set(measured)
            try:
                yield measured
            finally:
                _PROFILE.reset(current)
    finally:
        _MEASURING.reset(token)
    if not measured.steps:
        raise InputError("training ended before a step was measured", hint="skip fewer steps, or train longer")
    measured.finish(_write(profiler, run, cuda=cuda, command=command))


def nsys_command(command: Sequence[str], run: Path) -> list[str] | None:
    """The command line that runs `command` under Nsight Systems, or None where `nsys` is not installed."""
    found = shutil.which("nsys")
    if found is None:
        return None
    options = ["--trace=cuda,nvtx,osrt", "--force-overwrite=true", f"--env-var={NVTX}=1"]
    return [found, "profile", *options, f"--output={run / FOLDER / 'nsys'}", *command]


def ncu_command(command: Sequence[str], run: Path, kernel: str, *, launches: int = 5) -> list[str]:
    """The command line that has Nsight Compute take one kernel apart, by its name, for a few of its launches."""
    options = ["--set=full", f"--kernel-name=regex:^{_identifier(kernel)}", f"--launch-count={launches}"]
    return ["ncu", *options, f"--export={run / FOLDER / 'ncu'}", *command]


@contextmanager
def _measured(name: str) -> Iterator[None]:
    with record_function(f"{_PREFIX}{name}"), _nvtx(name) if torch.cuda.is_available() else nullcontext():
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()


@contextmanager
def _nvtx(name: str) -> Iterator[None]:
    torch.cuda.nvtx.range_push(name)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.cuda.nvtx.range_pop()  # type: ignore[no-untyped-call]


def _write(profiler: profile, run: Path, *, cuda: bool, command: Sequence[str]) -> Report:
    folder = run / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise machine_error(error, folder) from error
    profiler.export_chrome_trace(str(folder / "trace.json"))
    report = make_report(profiler.key_averages(), run, cuda=cuda, command=command)
    publish_file(folder / "report.json", report.to_json().encode())
    return report


def make_report(averages: Iterable[Any], run: Path, *, cuda: bool, command: Sequence[str] = ()) -> Report:
    """From the averages that torch's profiler gives by name; times there are in microseconds."""
    averages = list(averages)
    steps = sum(event.count for event in averages if event.key.startswith(_STEP) and not _on_device(event))
    total_us = sum(event.cpu_time_total for event in averages if event.key.startswith(_STEP) and not _on_device(event))
    stages = _stage_times(averages, total_us)
    kernels = _table(averages, device=True)
    metrics = {"step_ms": Metric(value=total_us / steps / 1000, n=steps)}
    metrics |= {f"share_{name}": Metric(value=time_us / total_us, n=steps) for name, time_us in stages.items()}
    rows = tuple((name, t / 1000, t / steps / 1000, t / total_us) for name, t in stages.items())
    tables = {"stages": Table(columns=("stage", "total ms", "ms a step", "share"), rows=rows)}
    tables |= {"operators": _table(averages, device=False)} | ({"kernels": kernels} if kernels.rows else {})
    return Report(
        kind="profile",
        subject=run.name,
        metrics=metrics,
        tables=tables,
        findings=(*_waiting(stages["data"] / total_us), *(_nvidia(run, kernels, command) if cuda else ())),
        paths={"trace": f"{FOLDER}/trace.json"},
        body={"steps": steps, "torch": torch.__version__, "device": torch.cuda.get_device_name() if cuda else "cpu"},
    )


def _stage_times(averages: Sequence[Any], total_us: float) -> Mapping[str, float]:
    """Microseconds of every stage, and of what lies between them."""
    found = dict.fromkeys(STAGES, 0.0)
    for event in averages:
        name = event.key.removeprefix(_PREFIX)
        if event.key.startswith(_PREFIX) and name in found and not _on_device(event):
            found[name] += event.cpu_time_total
    return found | {"other": max(0.0, total_us - sum(found.values()))}


def _table(averages: Sequence[Any], *, device: bool) -> Table:
    """The operators (or kernels on the device) with the most time of their own."""
    kind = "self_device_time_total" if device else "self_cpu_time_total"
    events = [event for event in averages if _on_device(event) == device and not event.is_user_annotation]
    events = [event for event in events if getattr(event, kind) > 0 and not event.key.startswith((_PREFIX, _STEP))]
    total = sum(getattr(event, kind) for event in events)
    top = sorted(events, key=lambda event: -getattr(event, kind))[:_TOP]
    rows = tuple((e.key, e.count, getattr(e, kind) / 1000, getattr(e, kind) / total) for e in top)
    return Table(columns=("kernel" if device else "operator", "calls", "own ms", "share"), rows=rows)


def _on_device(event: Any) -> bool:
    return bool(event.device_type.name != "CPU")


def _waiting(share: float) -> tuple[Finding, ...]:
    if share < _WAITS:
        return ()
    message = f"training waits for images {share:.0%} of the time"
    hint = "train.workers, train.cache=true and train.decode=fast make images come faster"
    return (Finding(code="waits_for_images", severity="warning", message=message, hint=hint),)


def _nvidia(run: Path, kernels: Table, command: Sequence[str]) -> tuple[Finding, ...]:
    """Where a CUDA device is, what the next tools are, as commands."""
    asked = list(command) or ["sortal", "train", "..."]
    systems = nsys_command(asked, run)
    found = [
        Finding(
            code="nsight_systems",
            severity="info",
            message="a timeline of CPU and GPU with the stages of training comes from NVIDIA Nsight Systems",
            hint=" ".join(systems) if systems else "install nsys (NVIDIA Nsight Systems); it is not on the PATH",
        )
    ]
    if kernels.rows:
        name, share = str(kernels.rows[0][0]), kernels.rows[0][3]
        message = f"{name} takes {share:.0%} of the GPU's time; NVIDIA Nsight Compute says what holds it up"
        hint = " ".join(ncu_command(asked, run, name))
        found.append(Finding(code="nsight_compute", severity="info", message=message, hint=hint))
    return tuple(found)


def _identifier(kernel: str) -> str:
    """The plain function name that Nsight Compute filters by: no return type, no template arguments, no namespace."""
    head = kernel.removeprefix("void ").split("<", 1)[0].split("(", 1)[0]
    return head.rsplit("::", 1)[-1].strip()
