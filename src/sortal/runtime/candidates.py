"""What could answer for a bundle here: its artifacts, the engines that open them, and how many threads to give them.

Artifacts of float32 are interchangeable: all were found to decide the same before they were attached. Lower precisions
are not, so they are candidates only where somebody asks for them, and only those that were held against a budget of
accuracy (int8) or of probability (float16) when they were made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError, InputError, nearest
from sortal.runtime.engines.opening import BY_NAME, EngineName, engines_for, is_installed
from sortal.runtime.locate import locate, model_in
from sortal.runtime.network_input import FLOAT32
from sortal.runtime.threads import thread_steps

Precision = Literal["auto", "float32", "float16", "int8", "fastest"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "float16", "int8", "fastest")
_PLAIN = "float32"
_LEFT_OUT = frozenset({"torch"})
"""Engines that are taken where they are named: loading torch takes longer than most answers."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to answer: a model file on an engine with so many threads."""

    artifact: str
    model: Path
    manifest_id: str
    precision: str
    engine: str
    threads: int

    @property
    def key(self) -> str:
        """Names it among the candidates of a bundle."""
        return f"{self.artifact}|{self.engine}|{self.threads}"


def as_precision(text: str) -> Precision:
    """What a user typed. Raises InputError for anything else than one of `PRECISIONS`."""
    for known in PRECISIONS:
        if text == known:
            return known
    raise InputError("unknown precision", received=text, hint=nearest(text, PRECISIONS))


def candidates_of(
    bundle: Bundle,
    *,
    artifact: str | None = None,
    engine: EngineName | None = None,
    threads: int | None = None,
    precision: Precision = "auto",
    cpus: int,
) -> list[Candidate]:
    """Everything that may answer for a bundle, the usual one first: float32, ONNX Runtime, all CPUs.

    Each of `artifact`, `engine` and `threads` that is given leaves no choice in that. `precision` is one of
    `PRECISIONS`: `auto` is float32, or what the bundle has where it has none; `fastest` any. Artifacts that resize
    images themselves, or are for other programs, are left to those who name them. Raises BundleError where nothing is
    left, and where the artifact that is named cannot be opened here.
    """
    steps = (threads,) if threads else thread_steps(cpus)[::-1]
    names = [artifact] if artifact else sorted(bundle.artifacts(), key=lambda name: (name != "onnx", name))
    found = [one for name in names for one in _of_artifact(bundle, name, engine, steps, named=artifact is not None)]
    wanted = {one.precision for one in found} if artifact or precision == "fastest" else {precision}
    if precision == "auto" and not artifact:
        wanted = {_PLAIN} if any(one.precision == _PLAIN for one in found) else {one.precision for one in found}
    left = [one for one in found if one.precision in wanted]
    if not found and engine is not None:
        able = {one for name in names for one in _engines_of(bundle, name)}
        hint = f"what opens its artifacts: {', '.join(sorted(able))}; other files: sortal targets"
        raise BundleError(
            "no artifact of the bundle is for this engine", where=str(bundle.path), received=str(engine), hint=hint
        )
    if not left:
        hint = f"precisions of its artifacts that open here: {', '.join(sorted({one.precision for one in found}))}"
        raise BundleError("no artifact fits", where=str(bundle.path), received=f"precision {precision}", hint=hint)
    return left


def _of_artifact(
    bundle: Bundle, name: str, engine: EngineName | None, steps: tuple[int, ...], *, named: bool
) -> list[Candidate]:
    attachment = bundle.attachment(f"artifacts/{name}")
    details, model = attachment.manifest.details, model_in(attachment.path)
    if model is None and named:
        locate(attachment.path)  # says for whom it is
    if model is None or (not named and not _may_be_chosen(details)):
        return []
    precision, stated = str(details.get("precision", _PLAIN)), details.get("engine")
    if engine is not None:
        known = (*engines_for(model), *BY_NAME.get(model.suffix, ()))
        engines = [str(engine)] if engine.name in known or named else []
    elif precision == _PLAIN:
        engines = [one for one in engines_for(model) if is_installed(one) and (named or one not in _LEFT_OUT)]
    else:  # judged on this engine and no other
        engines = [str(stated)] if stated and is_installed(str(stated)) else []
    return [
        Candidate(
            artifact=name,
            model=model,
            manifest_id=attachment.manifest.id,
            precision=precision,
            engine=one,
            threads=count,
        )
        for one in engines
        for count in steps
    ]


def _engines_of(bundle: Bundle, name: str) -> tuple[str, ...]:
    model = model_in(bundle.attachment(f"artifacts/{name}").path)
    return () if model is None else tuple(one for one in engines_for(model) if is_installed(one))


def _may_be_chosen(details: dict[str, Any]) -> bool:
    """Whether an artifact is one of a choice: it takes normalized float32 and was checked when it was made."""
    kind = (details.get("input") or {}).get("type", "float32")
    layout = (details.get("input") or {}).get("layout", FLOAT32.partition(" ")[2])
    plain = details.get("precision", _PLAIN) == _PLAIN
    checked = details.get("parity") is not None or details.get("measured") is not None
    return "for" not in details and kind == "float32" and "any size" not in str(layout) and (plain or checked)
