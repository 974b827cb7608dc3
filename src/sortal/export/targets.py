"""Where a classifier can go: every artifact with what runs it and whether that is here, and which one a machine wants.

A scenario is a kind of machine (`android`, `nvidia`, ...); `auto` is this one. Scenarios choose what is known to work
there, not what is fastest: that is measured, by `sortal benchmark` where an artifact runs here.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sortal.core.errors import InputError, nearest
from sortal.core.report import Report, Table
from sortal.evaluate.latency import processor
from sortal.export.artifacts import ARTIFACTS, FROM_WEIGHTS, member

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides on this machine."""

    system: str
    """`Linux`, `Windows`, `Darwin`."""
    cpu: str
    nvidia: str | None = None
    """Name of the GPU, None where there is none; `Jetson` for NVIDIA's boards."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A kind of machine, the artifacts that fit it, the best first, and why."""

    artifacts: tuple[str, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a scenario comes to here."""

    scenario: str
    artifact: str
    why: str


SCENARIOS: Mapping[str, Scenario] = {
    "any": Scenario(artifacts=("onnx",), why="ONNX Runtime is made for any CPU on Linux, Windows and macOS"),
    "intel": Scenario(artifacts=("openvino", "onnx"), why="OpenVINO is made for Intel CPUs"),
    "nvidia": Scenario(
        artifacts=("tensorrt-engine", "tensorrt"),
        why="TensorRT is made for NVIDIA GPUs; its engine can only be built on the machine with the GPU",
    ),
    "jetson": Scenario(
        artifacts=("tensorrt",), why="the engine is built on the board itself, by deploy/jetson/classify.sh"
    ),
    "server": Scenario(artifacts=("triton",), why="Triton batches the requests of many clients"),
    "android": Scenario(
        artifacts=("tflite", "onnx-uint8"),
        why="LiteRT is Android's own; tflite-int8 is a third of the size where its check holds",
    ),
    "ios": Scenario(artifacts=("coreml", "onnx-uint8"), why="Core ML reaches the Neural Engine"),
    "pytorch": Scenario(artifacts=("torch", "onnx"), why="PyTorch opens it without the code of the model"),
    "browser": Scenario(
        artifacts=("onnx-uint8",), why="ONNX Runtime Web opens ONNX files; with pixels as input nothing is left to do"
    ),
}
"""Scenario -> artifacts in order of preference; those that this version does not have are passed over."""

_RUNS_ON = {
    "onnx": "any CPU (ONNX Runtime)",
    "openvino-ir": "Intel CPUs (OpenVINO)",
    "tflite": "Android, Linux boards (LiteRT)",
    "tensorrt-plan": "the NVIDIA GPU it was built on",
    "triton-model-repository": "Triton Inference Server, on CPUs and GPUs",
    "torchserve-archive": "TorchServe (archived by its makers)",
    "mlprogram": "iPhone, iPad, Mac (Core ML)",
    "executorch": "phones and boards (ExecuTorch)",
    "torch-export": "wherever PyTorch is",
    "torchscript": "wherever PyTorch is",
    "hub": "PyTorch with timm; the Hugging Face hub",
    "tensorrt": "NVIDIA GPUs (TensorRT)",
    "tensorrt-int8": "NVIDIA GPUs (TensorRT)",
}
_MADE_BY = {
    "openvino-ir": ("openvino", "openvino"),
    "tflite": ("ai_edge_litert", "mobile"),
    "tensorrt-plan": ("tensorrt", "tensorrt"),
    "mlprogram": ("coremltools", "mobile"),
    "executorch": ("executorch", "executorch"),
    "openvino-int8": ("nncf", "compress"),
}
"""Format or artifact -> the package that its converter or engine imports, and the extra that brings it."""
_NEVER_RUN = {
    "tensorrt": "neither built nor run as an engine, only as ONNX",
    "tensorrt-int8": "neither built nor run as an engine, only as ONNX",
    "tensorrt-engine": "never built: no GPU",
    "triton": "the server; only its graphs",
    "torchserve": "the server; only its handler",
    "mlprogram": "on Apple's systems",
    "tflite": "on a phone",
    "executorch": "on a phone",
}
"""What Sortal's own tests and benchmarks have not run."""


def targets(machine: Machine | None = None) -> Report:
    """Every artifact and every scenario as tables; `machine` is this one by default."""
    here = machine or this_machine()
    found = choose(AUTO, here)
    columns = ("artifact", "file", "runs on", "precision", "extra", "here", "never run by us")
    rows = tuple(_row(name) for name in (*ARTIFACTS.names(), *FROM_WEIGHTS.names()))
    choices = [choose(name, here) for name in (AUTO, *SCENARIOS)]
    chosen = tuple((one.scenario, one.artifact, one.why) for one in choices)
    return Report(
        kind="targets",
        subject=_named(here),
        tables={
            "targets": Table(columns=columns, rows=rows),
            "scenarios": Table(columns=("for", "artifact", "why"), rows=chosen),
        },
        body={"auto": found.artifact, "why": found.why},
    )


def choose(scenario: str, machine: Machine) -> Choice:
    """The artifact for a scenario. Raises InputError as `check_scenario` does."""
    check_scenario(scenario)
    name, reason = _of(machine) if scenario == AUTO else (scenario, "")
    known = ARTIFACTS.names()
    wanted = [one for one in SCENARIOS[name].artifacts if one in known] or ["onnx"]
    usable = [one for one in wanted if _missing(one) is None]
    artifact = (usable or wanted)[0]
    why = reason + SCENARIOS[name].why
    missing = _missing(wanted[0])
    if wanted[0] != SCENARIOS[name].artifacts[0]:
        why += f"; this version has no {SCENARIOS[name].artifacts[0]}"
    if artifact != wanted[0] and missing is not None:
        why += f"; {wanted[0]} would be better: {missing}"
    return Choice(scenario=scenario, artifact=artifact, why=why)


def check_scenario(name: str) -> None:
    """Raise InputError, with the nearest names, unless `name` is a scenario."""
    if name != AUTO and name not in SCENARIOS:
        raise InputError("no such kind of machine", received=name, hint=nearest(name, (AUTO, *SCENARIOS)))


def settle(
    names: Sequence[str],
    present: Collection[str],
    *,
    replace: bool,
    say: Callable[[str], None],
    machine: Machine | None = None,
) -> tuple[list[str], list[str]]:
    """(names to make, names that are there already), with every scenario among `names` replaced by its artifact.

    `say` tells what was chosen and why. Only what a scenario chose may be there already; what was named is left for
    the caller to refuse.
    """
    wanted: list[str] = []
    kept: list[str] = []
    for name in (part.strip() for part in names):
        if name != AUTO and name not in SCENARIOS:
            wanted.append(name)
            continue
        choice = choose(name, machine or this_machine())
        there = choice.artifact in present and not replace
        say(f"{name}: {choice.artifact}, because {choice.why}" + ("; it is there already" if there else ""))
        (kept if there else wanted).append(choice.artifact)
    return wanted, kept


def this_machine(root: Path = Path("/")) -> Machine:
    """What this machine is, without asking any GPU library."""
    return Machine(system=platform.system(), cpu=processor(), nvidia=nvidia_gpu(root))


def nvidia_gpu(root: Path) -> str | None:
    """The name of an NVIDIA GPU by what its driver shows under `root`, or None."""
    if (root / "etc" / "nv_tegra_release").is_file():
        return "Jetson"
    for file in sorted((root / "proc" / "driver" / "nvidia" / "gpus").glob("*/information")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                return value.strip()
    return None


def _of(machine: Machine) -> tuple[str, str]:
    """The scenario of a machine and how it was told."""
    if machine.nvidia == "Jetson":
        return "jetson", "this is a Jetson: "
    if machine.nvidia is not None:
        return "nvidia", f"there is an {machine.nvidia}: "
    if machine.system == "Darwin":
        return "ios", "this is a Mac: "
    if "intel" in machine.cpu.lower():
        return "intel", f"the CPU is an {machine.cpu}: "
    return "any", f"the CPU is {machine.cpu}: "


def _row(name: str) -> tuple[Any, ...]:
    details = member(name).DETAILS
    kind = str(details["format"])
    extra = ", ".join(extra for _, extra in _needs(name))
    missing = _missing(name)
    runs_on = _RUNS_ON.get(name) or _RUNS_ON.get(kind, kind)
    usable = "yes" if details["engine"] is not None else "made here, cannot be opened here"
    here = usable if missing is None else f"no: {missing}"
    never = _NEVER_RUN.get(name) or _NEVER_RUN.get(kind) or (f"{details['for']} itself" if "for" in details else "")
    return name, str(details["model"]), runs_on, str(details["precision"]), extra, here, never


def _missing(name: str) -> str | None:
    """What has to be installed before the artifact can be made and opened here; None where nothing is."""
    absent = [(package, extra) for package, extra in _needs(name) if find_spec(package) is None]
    return f'{absent[0][0]} is missing, pip install "sortal[{absent[0][1]}]"' if absent else None


def _needs(name: str) -> list[tuple[str, str]]:
    kind = str(member(name).DETAILS["format"])
    return [_MADE_BY[key] for key in dict.fromkeys((kind, name)) if key in _MADE_BY]


def _named(machine: Machine) -> str:
    return ", ".join(part for part in (machine.system, machine.cpu, machine.nvidia) if part)
