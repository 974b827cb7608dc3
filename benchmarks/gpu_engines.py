"""PyTorch, recorded CUDA graphs, ONNX Runtime and TensorRT on one NVIDIA GPU, in one table.

    python benchmarks/gpu_engines.py runs/photos-1 [--batch 1 --batch 32] [--calls 200]

Each engine opens the run's own `onnx` artifact (float32) and, where it can, the `tensorrt` one (float16), both given
the same noise from host memory to host memory. Rows: median and 99th percentile of a call in milliseconds, images per
second at the median, and the largest difference of probabilities from ONNX Runtime on the CPU in float32, which is the
bound of what half precision changes. Interleaved: every engine has its turn before any has its second.
An engine that is missing, or falls back from the GPU, is listed as `not measured` with the reason.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import SortalError
from sortal.export.artifacts.onnx_fp16 import write_half
from sortal.export.targets import this_machine
from sortal.export.tensorrt.build import build_engine
from sortal.runtime.engines.opening import open_engine
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.threads import allowed_cpus

WARM_UP = 20


@dataclass
class Entry:
    """One engine on one file."""

    engine: str
    precision: str
    opened: Engine | None = None
    reason: str = ""
    times_ms: dict[int, list[float]] = field(default_factory=dict)
    difference: float = 0.0


def main() -> int:
    asked = _arguments()
    folder = asked.run / "bundle" if (asked.run / "bundle").is_dir() else asked.run
    bundle = open_bundle(folder)
    machine = this_machine()
    print(f"{machine.cpu}; GPU: {machine.nvidia or 'none'}")
    with TemporaryDirectory(prefix="sortal-gpu-") as work:
        entries = _entries(bundle, Path(work))
        for size in asked.batch:
            _measure(entries, bundle, size, asked.calls)
        _print(entries, asked.batch)
        for entry in entries:
            if entry.opened is not None:
                entry.opened.close()
    return 0 if any(entry.opened is not None for entry in entries) else 3


def _entries(bundle: Bundle, work: Path) -> list[Entry]:
    plain = bundle.artifact("onnx") / "model.onnx"
    half, plan, plain_plan = work / "half.onnx", work / "half.plan", work / "plain.plan"
    write_half(plain, half)

    def built(source: Path, target: Path) -> Callable[[], Engine]:
        def make() -> Engine:
            build_engine(source, target)
            return open_engine(target, "tensorrt", threads=1)

        return make

    def on(path: Path, engine: str) -> Callable[[], Engine]:
        return lambda: open_engine(path, engine, threads=allowed_cpus())

    ways = [
        ("ONNX Runtime", "float32", on(plain, "onnxruntime:CUDAExecutionProvider")),
        ("ONNX Runtime", "float16", on(half, "onnxruntime:CUDAExecutionProvider")),
        ("PyTorch, CUDA graphs", "float32", on(plain, "cuda-graph")),
        ("PyTorch, CUDA graphs", "float16", on(half, "cuda-graph")),
        ("TensorRT", "float32", built(plain, plain_plan)),
        ("TensorRT", "float16", built(half, plan)),
    ]
    eager = [
        ("PyTorch, eager", "float32", on(plain, "cuda-graph")),
        ("PyTorch, eager", "float16", on(half, "cuda-graph")),
    ]
    return [_opened(Entry(name, precision), make) for name, precision, make in (*eager, *ways)]


def _opened(entry: Entry, make: Callable[[], Engine]) -> Entry:
    try:
        engine = make()
    except SortalError as error:
        entry.reason = error.what
        return entry
    reason = getattr(engine, "fallback", None)  # why it does not run where it was asked to
    if reason is None and "CPU instead" in engine.name:
        reason = getattr(engine, "ran_on", "it fell back to the CPU")
    if reason is not None:
        engine.close()
        entry.reason = str(reason)
        return entry
    if entry.engine.endswith("eager"):
        engine.fallback = "eager calls are what is measured"  # type: ignore[attr-defined]
    entry.opened = engine
    return entry


def _measure(entries: list[Entry], bundle: Bundle, size: int, calls: int) -> None:
    spec = bundle.preprocess
    random = np.random.default_rng(0)
    batch = random.standard_normal((size, spec.channels, *spec.size), dtype=np.float32)
    plain = open_engine(
        bundle.artifact("onnx") / "model.onnx", "onnxruntime:CPUExecutionProvider", threads=allowed_cpus()
    )
    expected = _chances(plain.run(batch).logits)
    plain.close()
    alive = [entry for entry in entries if entry.opened is not None]
    for number in range(WARM_UP + calls):
        for entry in alive:
            started_s = time.perf_counter()
            logits = entry.opened.run(batch).logits
            spent_ms = 1000 * (time.perf_counter() - started_s)
            if number >= WARM_UP:
                entry.times_ms.setdefault(size, []).append(spent_ms)
            else:
                entry.difference = max(entry.difference, float(np.abs(_chances(logits) - expected).max()))


def _chances(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _print(entries: list[Entry], sizes: list[int]) -> None:
    print("| engine | precision | batch | p50, ms | p99, ms | images/s | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for entry in entries:
        if entry.opened is None:
            print(f"| {entry.engine} | {entry.precision} | | not measured: {entry.reason} | | | |")
            continue
        for size in sizes:
            times = sorted(entry.times_ms[size])
            middle = statistics.median(times)
            high = times[min(len(times) - 1, int(0.99 * len(times)))]
            rate = 1000 * size / middle
            print(
                f"| {entry.engine} | {entry.precision} | {size} | {middle:.3f} | {high:.3f} | {rate:.0f} "
                f"| {entry.difference:.2g} |"
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Engines on one NVIDIA GPU, in one table.")
    parser.add_argument("run", type=Path, help="a run or a bundle")
    parser.add_argument("--batch", type=int, action="append", help="images in a call; may be repeated (1 and 32)")
    parser.add_argument("--calls", type=int, default=200)
    asked = parser.parse_args()
    asked.batch = asked.batch or [1, 32]
    return asked


if __name__ == "__main__":
    sys.exit(main())
