"""Precision, memory layout and compilation of training, chosen by a measurement on the network and the machine at hand.

What is faster differs from one processor and one network to the next: on CPUs channels_last is up to 1.8 times as
fast, and bfloat16 mostly slower. So a few steps of a copy are timed, and nothing slower than plain training is chosen.
`GradientStep` is the other half: how a loss becomes a change of the weights in the mode that was chosen.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sortal.core.sections import TrainSection
from sortal.models.network import Network
from sortal.train.health import gradient_norms
from sortal.train.optim import clip as clip_gradients

Precision = Literal["fp32", "bf16", "fp16"]
Layout = Literal["channels_last", "contiguous"]
LossOfLogits = Callable[[Tensor, Tensor], Tensor]
Clock = Callable[[], float]

COMPILE_FROM_S = 3600.0
"""Shorter trainings are compiled only when asked to. MobileNetV3-S at 128 px took 36 s of one CPU to compile, and then
213 ms a step where eager channels_last took 189 (plain eager 298)."""

_ROUNDS = 3
_LIMIT_S = 20.0
"""The measurement ends after the round in which it has taken so long."""
_IMAGES = 32
"""At most so many images a timed step on a CPU, where larger batches are not faster an image."""
_FASTER, _FEWER_BITS, _COMPILED = 0.97, 0.9, 0.95
"""Below this share of the time of what it replaces a layout, a precision or a compilation is worth it."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How steps are computed. The defaults are plain eager PyTorch."""

    precision: Precision = "fp32"
    """fp32, or the type that matrix products and convolutions have under autocast; weights stay float32."""
    layout: Layout = "contiguous"
    compiled: bool = False
    device: str = "cpu"
    """The kind of device: cpu or cuda."""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.precision} {self.layout}{' compiled' if self.compiled else ''}"

    @property
    def memory_format(self) -> torch.memory_format:
        """For `Module.to` and for images."""
        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """The context of forward passes."""
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device, dtype=dtype, enabled=self.precision != "fp32")

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Mode:
        """The opposite of `plain`, also after a way through JSON."""
        return cls(**{**plain, "notes": tuple(plain["notes"])})


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The mode that was chosen, and (name, seconds a forward and backward pass) of everything that was timed."""

    mode: Mode
    table: tuple[tuple[str, float], ...] = ()


def choose_mode(
    network: Network,
    images: Tensor,
    targets: Tensor,
    loss: LossOfLogits,
    train: TrainSection,
    *,
    compile_worth_s: float | None = None,
    clock: Clock = time.perf_counter,
) -> Measured:
    """Settle what `train.precision`, `layout` and `compile` leave open by timing steps of a copy of `network`.

    `images` (N, C, H, W) and `targets` are a batch as training sees it. Given settings are obeyed; where nothing is
    open, nothing is timed. `compile=auto` is tried only when `compile_worth_s`, the seconds of training ahead, is at
    least an hour. Weights, batch statistics and torch's random state of the caller stay as they are.
    """
    precisions, notes = _precisions(train, images.device.type)
    layouts: list[Layout] = ["contiguous", "channels_last"] if train.layout == "auto" else [train.layout]
    modes = [
        Mode(precision=precision, layout=layout, device=images.device.type)
        for precision in precisions
        for layout in layouts
    ]
    compiling = _compiling(train, compile_worth_s, notes)
    if len(modes) == 1 and not compiling:
        return Measured(mode=replace(modes[0], notes=tuple(notes)))
    trial = _Trial(network, images, targets, loss, clock)
    with _spared_randomness(images.device):
        trial.time(modes)
        best = _best(trial.times_s)
        if compiling:
            best = _try_compiled(trial, best, notes, asked=train.compile is True)
    notes.append(_sentence(trial.times_s, best))
    table = tuple((mode.name, statistics.median(times)) for mode, times in trial.times_s.items())
    return Measured(mode=replace(best, notes=tuple(notes)), table=table)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a call of `GradientStep.step` did."""

    norm: float | None
    """Total norm of the gradients before clipping; None where they were only added up."""
    changed: bool
    """Whether the weights changed."""
    skipped: bool = False
    """Whether the step was left out because fp16 gradients overflowed; the scale is smaller from now on."""
    layers: Mapping[str, float] = field(default_factory=dict)
    """`health.gradient_norms` before clipping, where they were asked for."""


class GradientStep:
    """Backward pass, accumulation over micro-steps, loss scaling for fp16, clipping, and the optimizer's step.

    Gradients are unscaled before their norm is taken and clipped (`clip` is the largest norm, 0 clips nothing). Weights
    do not change where the norm is not a finite number: under fp16 that is part of the search for the largest usable
    scale (Micikevicius et al. 2018), otherwise training has diverged and the caller decides.
    """

    def __init__(self, *, clip: float, accumulate: int = 1, mode: Mode):
        self.clip, self.accumulate = clip, accumulate
        self.pending = 0
        """Micro-steps whose gradients have been added up and not yet used."""
        self._scaler = torch.amp.GradScaler(mode.device, enabled=mode.precision == "fp16")

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss / accumulate` to those of earlier micro-steps."""
        scaled: Tensor = self._scaler.scale(loss / self.accumulate)
        scaled.backward()  # type: ignore[no-untyped-call]
        self.pending += 1

    def step(self, network: nn.Module, optimizer: torch.optim.Optimizer, *, layers: bool = False) -> Taken:
        """Change the weights after the last of `accumulate` micro-steps; before, do nothing.

        `layers` asks for the norms of each block's gradients, which cost a few milliseconds.
        """
        if self.pending < self.accumulate:
            return Taken(norm=None, changed=False)
        if self._scaler.is_enabled():
            self._scaler.unscale_(optimizer)
        looked = gradient_norms(network) if layers else {}
        norm = clip_gradients(network.parameters(), self.clip)
        finite = math.isfinite(norm)
        if finite:
            optimizer.step()
        if self._scaler.is_enabled():
            self._scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.pending = 0
        return Taken(norm=norm, changed=finite, skipped=self._scaler.is_enabled() and not finite, layers=looked)

    @property
    def scale(self) -> float:
        """What losses are multiplied with: 1 but for fp16."""
        return float(self._scaler.get_scale())

    def state(self) -> dict[str, Any]:
        """As JSON can hold it. Between micro-steps, `gradients` belong to it."""
        return {"pending": self.pending, "scaler": self._scaler.state_dict()}

    def gradients(self, network: nn.Module) -> dict[str, Tensor]:
        """What has been added up so far, by parameter; empty where a step has just been taken."""
        return {name: p.grad for name, p in network.named_parameters() if p.grad is not None and self.pending}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.pending = int(state["pending"])
        if state["scaler"]:
            self._scaler.load_state_dict(dict(state["scaler"]))

    def load_gradients(self, network: nn.Module, gradients: Mapping[str, Tensor]) -> None:
        """Go on from what `gradients` gave."""
        for name, parameter in network.named_parameters():
            if name in gradients:
                parameter.grad = torch.empty_like(parameter).copy_(gradients[name])


class _Trial:
    """Times steps of copies of a network, one copy a layout."""

    def __init__(self, network: Network, images: Tensor, targets: Tensor, loss: LossOfLogits, clock: Clock):
        count = len(images) if images.device.type == "cuda" else _IMAGES
        self._network, self._loss, self._clock = network, loss, clock
        self._images, self._targets = images[:count], targets[:count]
        self._copies: dict[Layout, Network] = {}
        self.times_s: dict[Mode, list[float]] = {}

    def time(self, modes: Sequence[Mode]) -> None:
        """Rounds through all modes in turn, so that a busy moment of the machine hits them alike."""
        calls = {mode: self._call(mode) for mode in modes}
        begun_s = self._clock()
        for call in calls.values():
            call()  # the first is slower than all others
        for _ in range(_ROUNDS):
            for mode, call in calls.items():
                started_s = self._clock()
                call()
                self.times_s.setdefault(mode, []).append(self._clock() - started_s)
            if self._clock() - begun_s > _LIMIT_S:
                break

    def _call(self, mode: Mode) -> Callable[[], None]:
        copied = self._copy(mode)
        images = self._images.contiguous(memory_format=mode.memory_format)
        forward = torch.compile(copied) if mode.compiled else copied

        def call() -> None:
            with mode.autocast():
                loss = self._loss(forward(images)[0].float(), self._targets)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            copied.zero_grad(set_to_none=True)
            if mode.device == "cuda":
                torch.cuda.synchronize()

        return call

    def _copy(self, mode: Mode) -> Network:
        if mode.layout not in self._copies:
            copied = copy.deepcopy(self._network).to(memory_format=mode.memory_format)
            self._copies[mode.layout] = copied.train()
        return self._copies[mode.layout]


def _precisions(train: TrainSection, device: str) -> tuple[list[Precision], list[str]]:
    mixed: Precision = "fp16" if device == "cuda" else "bf16"
    match train.precision:
        case "auto":
            return (["fp32", "bf16"] if _computes_bf16(device) else ["fp32"]), []
        case "amp":
            return [mixed], [f"train.precision=amp: {mixed} where it is safe, float32 elsewhere (what O1 was)."]
        case "apex":
            note = (
                f"train.precision=apex: NVIDIA Apex is deprecated and not used; torch.amp does the same in {mixed}. "
                "Write train.precision=amp."
            )
            return [mixed], [note]
        case given:
            return [given], []


def _computes_bf16(device: str) -> bool:
    """Whether the processor has instructions for it; elsewhere bfloat16 is emulated and always slower."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _compiling(train: TrainSection, worth_s: float | None, notes: list[str]) -> bool:
    asked = train.compile is True
    if not asked and (train.compile is False or worth_s is None or worth_s < COMPILE_FROM_S):
        return False
    if _compiler() is None:
        if asked:
            notes.append("train.compile=true needs a C++ compiler (g++, or the one that CXX names); there is none.")
        return False
    return True


def _compiler() -> str | None:
    """The compiler that torch's Inductor would call."""
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))


def _best(times_s: Mapping[Mode, Sequence[float]]) -> Mode:
    """The fastest, where it beats what comes before it by more than noise; fewer bits have to gain more."""
    medians = {mode: statistics.median(times) for mode, times in times_s.items()}
    best, *others = medians
    for mode in others:
        needed = _FASTER if mode.precision == best.precision else _FEWER_BITS
        if medians[mode] < needed * medians[best]:
            best = mode
    return best


def _try_compiled(trial: _Trial, eager: Mode, notes: list[str], *, asked: bool) -> Mode:
    compiled = replace(eager, compiled=True)
    try:
        trial.time([compiled])
    except Exception as error:  # whatever a compiler or its toolchain raises, training goes on without it
        notes.append(f"torch.compile failed, so training is not compiled: {str(error).strip().splitlines()[0][:200]}")
        return eager
    ratio = statistics.median(trial.times_s[compiled]) / statistics.median(trial.times_s[eager])
    if asked and ratio > 1.0:
        notes.append(f"train.compile=true as asked, although a compiled step takes {ratio:.2f} times as long.")
    return compiled if asked or ratio < _COMPILED else eager


def _sentence(times_s: Mapping[Mode, Sequence[float]], best: Mode) -> str:
    shown = ", ".join(f"{mode.name} {1e3 * statistics.median(times):.0f} ms" for mode, times in times_s.items())
    return f"Steps are computed in {best.name}; measured: {shown}."


@contextmanager
def _spared_randomness(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
