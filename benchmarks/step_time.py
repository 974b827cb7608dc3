"""A training step as Sortal takes it against plain eager PyTorch, on the same network and batch, in turns.

Each has a process of its own, because Sortal also tells the C library to keep freed memory, which would help both.

    python benchmarks/step_time.py [--rounds 9] [--batch 32] [--threads 2] [--compile] [--memory] [--json FILE]
                                   [MODEL:SIZE ...]

Plain: contiguous float32, torch.optim.AdamW with its defaults, clipping by torch. Sortal: the mode that `choose_mode`
measures (with `--compile` torch.compile is tried), and its optimizer and gradient step. With `--memory` the second is
the plain step too, freed memory kept: what that alone is worth. Both clip at 1.0 and read the loss every step. Prints
medians of the wall time and of the CPU time of the process (on a busy machine the steadier of the two) as a Markdown
table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sortal.core.sections import OptimSection, TrainSection
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.train.allocator import keep_freed_memory
from sortal.train.optim import make_optimizer
from sortal.train.precision import COMPILE_FROM_S, GradientStep, Mode, choose_mode

CASES = (
    "mobilenetv3_small_100:128",
    "mobilenetv2_100:160",
    "mobilenetv2_100:224",
    "resnet18:128",
    "convnext_atto:128",
)
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Line:
    """One model. Times in milliseconds a step; ratios are plain over Sortal, larger than 1 is faster than plain."""

    model: str
    size_px: int
    batch: int
    mode: str
    plain_ms: float
    sortal_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_ratio: float


def main() -> None:
    """Measure each case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=("plain", "kept", "sortal"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.side:
        model, size = asked.cases[0].split(":")
        serve(asked.side, model, int(size), asked.batch, compiling=asked.compile)
        return
    print("| model | size | batch | mode | plain ms | Sortal ms | plain / Sortal (quartiles) | CPU time |")
    print("|---|---|---|---|---|---|---|---|")
    lines = []
    for case in asked.cases:
        model, size = case.split(":")
        lines.append(measure(model, int(size), asked))
        print(as_row(lines[-1]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(line) for line in lines], indent=1), encoding="utf-8")


def measure(model: str, size: int, asked: argparse.Namespace) -> Line:
    """Medians over rounds in which both take one step, one after the other."""
    batch, threads = asked.batch, asked.threads
    names = ("plain", "kept" if asked.memory else "sortal")
    sides = [Side(side, model, size, batch, threads, compiling=asked.compile) for side in names]
    with sides[0] as before, sides[1] as after:
        times = [[side.step() for side in (before, after)] for _ in range(asked.rounds)]
        mode = after.mode
    wall = [one[0] / other[0] for one, other in times]
    low, _, high = statistics.quantiles(wall, n=4)
    return Line(
        model=model,
        size_px=size,
        batch=batch,
        mode=mode,
        plain_ms=1e3 * statistics.median(one[0] for one, _ in times),
        sortal_ms=1e3 * statistics.median(other[0] for _, other in times),
        ratio=statistics.median(wall),
        ratio_low=low,
        ratio_high=high,
        cpu_ratio=statistics.median(one[1] / other[1] for one, other in times),
    )


class Side:
    """A process that takes a step whenever it is told to."""

    def __init__(self, side: str, model: str, size: int, batch: int, threads: int, *, compiling: bool):
        command = [sys.executable, __file__, f"{model}:{size}", "--side", side, "--batch", str(batch)]
        command += ["--threads", str(threads), *(["--compile"] if compiling else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.mode = self._line().strip()

    def step(self) -> tuple[float, float]:
        """Wall and CPU seconds of one step."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        wall_s, cpu_s = json.loads(self._line())
        return wall_s, cpu_s

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(side: str, model: str, size: int, batch: int, *, compiling: bool) -> None:
    """The child: prints its mode, then the time of a step for every line it reads."""
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(batch) % CLASSES
    if side != "plain":
        keep_freed_memory()
    if side != "sortal":
        mode, step = "fp32 contiguous", plain(make(model, size), images, targets)
    else:
        train = TrainSection(compile="auto" if compiling else False)
        worth_s = COMPILE_FROM_S if compiling else None
        found = choose_mode(make(model, size), images, targets, cross_entropy, train, compile_worth_s=worth_s).mode
        mode, step = found.name, ours(make(model, size), images, targets, found)
    for _ in range(3):
        step()
    print(mode, flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(step)), flush=True)


def make(model: str, size: int) -> Network:
    """The same numbers every time."""
    return create(ModelSource(name=model, architecture=model), classes=CLASSES, size=(size, size))


def plain(network: nn.Module, images: Tensor, targets: Tensor) -> Callable[[], None]:
    """A step as in PyTorch's tutorials, with clipping."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.05)

    def step() -> None:
        optimizer.zero_grad()
        loss = cross_entropy(network(images)[0], targets)
        loss.item()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def ours(network: Network, images: Tensor, targets: Tensor, mode: Mode) -> Callable[[], None]:
    """A step as `train.loop` takes it."""
    network.to(memory_format=mode.memory_format)
    optimizer = make_optimizer(network, OptimSection(), lr=1e-4, backbone_lr=1e-4, layer_decay=1.0)
    stepper = GradientStep(clip=1.0, mode=mode)
    forward = torch.compile(network) if mode.compiled else network
    laid_out = images.contiguous(memory_format=mode.memory_format)

    def step() -> None:
        with mode.autocast():
            loss = cross_entropy(forward(laid_out)[0].float(), targets)
        loss.item()
        stepper.backward(loss)
        stepper.step(network, optimizer)

    return step


def timed(step: Callable[[], None]) -> tuple[float, float]:
    """(wall, CPU) seconds."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def as_row(line: Line) -> str:
    """For the table."""
    cells: Iterator[object] = iter(
        (
            line.model,
            line.size_px,
            line.batch,
            line.mode,
            f"{line.plain_ms:.0f}",
            f"{line.sortal_ms:.0f}",
            f"**{line.ratio:.2f}** ({line.ratio_low:.2f} to {line.ratio_high:.2f})",
            f"{line.cpu_ratio:.2f}",
        )
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
