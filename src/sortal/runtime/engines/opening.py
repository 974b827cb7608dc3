"""Open a model file with an engine by its name, `onnxruntime` or `onnxruntime:XnnpackExecutionProvider`.

What follows the colon is a variant: an execution provider of ONNX Runtime, a delegate of LiteRT, a device. An engine
that knows variants offers `open(path, *, threads, variant)`; all others refuse one. Where no engine is named, the file
says by its ending which ones can open it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sortal.core.errors import InputError
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine

AUTO = "auto"

OPENED_BY: Mapping[str, tuple[str, ...]] = {
    ".onnx": ("onnxruntime", "openvino"),
    ".xml": ("openvino",),
    ".tflite": ("litert",),
    ".pt2": ("torch",),
    ".pt": ("torch",),
    ".pte": ("executorch",),
    ".plan": ("tensorrt",),
}
"""Ending of a model file -> the engines that open it, the one that is taken first."""

BY_NAME: Mapping[str, tuple[str, ...]] = {".onnx": ("cuda-graph",)}
"""Engines that open such a file too, and are taken only where they are named."""

PACKAGES: Mapping[str, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai_edge_litert",
    "torch": "torch",
    "executorch": "executorch",
    "tensorrt": "tensorrt",
    "cuda-graph": "torch",
}
"""Engine -> the package it imports."""


@dataclass(frozen=True, kw_only=True)
class EngineName:
    """An engine of `ENGINES` and a variant of it, or None where the engine's own default is meant."""

    name: str
    variant: str | None = None

    def __str__(self) -> str:
        return self.name if self.variant is None else f"{self.name}:{self.variant}"


def parse_engine(text: str) -> EngineName:
    """`litert:gpu` apart. Raises InputError where one of both is empty or the engine is unknown."""
    name, colon, variant = text.partition(":")
    if not name or (colon and not variant):
        hint = "name an engine such as openvino, or with its variant: onnxruntime:XnnpackExecutionProvider"
        raise InputError("this names no inference engine", received=text, hint=hint)
    if name not in ENGINES.names():
        ENGINES.get(name)  # says which names are near
    return EngineName(name=name, variant=variant or None)


def open_engine(path: Path, engine: str | EngineName, *, threads: int) -> Engine:
    """The model file opened by that engine. Raises as the registry's page says, InputError for an unknown variant."""
    chosen = parse_engine(engine) if isinstance(engine, str) else engine
    module = ENGINES.get(chosen.name)
    if chosen.variant is None:
        plain: Engine = module.open(path, threads=threads)
        return plain
    if "variant" not in inspect.signature(module.open).parameters:
        hint = f"leave it out: {chosen.name}"
        raise InputError("this inference engine has no variants", received=str(chosen), hint=hint)
    opened: Engine = module.open(path, threads=threads, variant=chosen.variant)
    return opened


def ran_on(engine: Engine) -> str:
    """Who really computes, of an engine that can tell (`XNNPACK (68 of 70 operators), ...`); else the engine's name."""
    told = getattr(engine, "ran_on", "")
    return str(told) if told else engine.name


def engines_for(model: Path) -> tuple[str, ...]:
    """Every engine that opens a file of that ending, installed or not; ONNX is assumed where the ending says nothing.

    Engines that other packages add are not among them: they are taken when they are named.
    """
    return OPENED_BY.get(model.suffix.lower(), OPENED_BY[".onnx"])


def is_installed(engine: str) -> bool:
    """Whether the package of an engine is there; engines that other packages add count as there."""
    package = PACKAGES.get(engine)
    return package is None or find_spec(package) is not None


def default_engine(model: Path, *, stated: str | None = None, exchangeable: bool = True) -> str:
    """Who opens `model` where nobody says: the engine that its manifest has `stated`, else the first one by its ending.

    An engine that is not installed gives way to the next one that opens such files where the file is `exchangeable`
    (float32), so that every engine decides the same; else it stays, and opening says which package is missing.
    """
    known = engines_for(model)
    if stated is not None and (is_installed(stated) or not exchangeable):
        return stated
    return next((name for name in known if is_installed(name)), stated or known[0])
