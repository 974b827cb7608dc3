"""The parts case: 200 kinds of part, cut by a fifth and in int8, from the bytes of a 640 x 480 JPEG to a decision.

    SORTAL_ZOO=cards/ python benchmarks/parts_case.py FOLDER [--images 4000] [--cut 0.2] [--epochs 5] [--seed 1]
    python benchmarks/parts_case.py FOLDER --measure [--small BUNDLE] [--frames 300] [--rounds 5] [--cpu 0]

The first line draws the images, trains MobileNetV2 at 128 pixels (frozen features and a linear head), compresses it
with `sortal compress` and measures; what FOLDER holds already is not made again. The second measures alone.

Accuracy is that of the validation images, which chose the penalty of the head and the int8; the test split is not
read. Frames a second are counted on one CPU, to which the process is bound: the bytes are in memory, every frame is
one call of `Classifier.predict`, one thread, models in turns, the median of the rounds. Stages are timed apart, the
least of many, so that they add up to less than a frame.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sortal
from sortal.core.bundle import open_bundle
from sortal.core.predictions import Predictions
from sortal.core.preprocess import prepare
from sortal.data.decode import to_pixels, to_source
from sortal.data.synth.options import SynthOptions
from sortal.data.table import ImageTable
from sortal.evaluate.compare.paired import difference_interval, paired_test
from sortal.evaluate.latency import encoded_images, processor
from sortal.runtime.classifier import Classifier, open_classifier
from sortal.runtime.locate import locate

CLASSES = 200
SIZE_MB, POINTS, FRAMES_S = 2.6, 1.0, 120.0
"""What the case asks for."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A model, and what it answers about the validation images."""

    name: str
    path: Path
    answers: Predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cut", type=float, default=0.2, help="share of the parameters")
    parser.add_argument("--epochs", default="5", help="after a cut; twice as many after the last")
    parser.add_argument("--steps", type=int, default=1, help="cuts")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--run", type=Path, help="a run in the place of FOLDER/runs/parts-1")
    parser.add_argument("--small", type=Path, help="a bundle or artifact in the place of the int8 one")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", type=int, default=0)
    asked = parser.parse_args()
    run, made = asked.run or asked.folder / "runs" / "parts-1", asked.folder / "small"
    small = asked.small or made / "artifacts" / "onnx-int8"
    if not asked.measure:
        _make(asked, run, made)
    os.sched_setaffinity(0, {asked.cpu})
    table = _validation(run)
    truth = table.label_array()
    sides = [
        _side(name, path, table)
        for name, path in (
            ("float32, whole", run / "bundle" / "artifacts" / "onnx"),
            (f"int8, {asked.cut:.0%} cut", small),
        )
    ]
    _print_accuracy(sides, truth)
    frames = encoded_images(table, most=asked.frames)
    _print_frames(sides, [frame for frame in frames if isinstance(frame, bytes)], asked.rounds)


def _make(asked: argparse.Namespace, run: Path, small: Path) -> None:
    images = asked.folder / "parts"
    if not images.exists():
        options = SynthOptions(classes=CLASSES, images=asked.images, size_px=(640, 480), seed=asked.seed)
        sortal.synthesize(images, options=options)
    if not (run / "bundle").exists():
        overrides = ["model=mobilenetv2_100", "model.pooling=sqrt", "input.size=128", "data.refit=false"]
        overrides += ["train.head_fit=logistic", "evaluate.unknown=energy"]
        sortal.train(images, overrides=overrides, out=run.parent)
    if not small.exists():
        cut = [
            f"compress.prune={asked.cut}",
            "compress.prune_by=parameters",
            f"compress.prune_steps={asked.steps}",
            f"compress.prune_epochs={asked.epochs}",
        ]
        int8 = ["compress.int8=true", "compress.method=own", f"compress.max_drop={POINTS}"]
        sortal.compress(run, settings=[*int8, *cut], out=small)


def _validation(run: Path) -> ImageTable:
    """The run's own validation images, with the labels of its bundle."""
    from sortal.compress.images import divided_images
    from sortal.core.progress import Silent
    from sortal.core.run import open_run

    table, _ = divided_images(open_bundle(run / "bundle"), open_run(run), None, listener=Silent())
    return table.select(table.split_rows("val"))


def _side(name: str, path: Path, table: ImageTable) -> Side:
    with open_classifier(path, threads=1) as model:
        return Side(name=name, path=path, answers=model.predict(table))


def _print_accuracy(sides: Sequence[Side], truth: np.ndarray) -> None:
    print("| network | file | accuracy | lost | decided otherwise |\n|---|---|---|---|---|")
    first = sides[0].answers.index == truth
    for side in sides:
        right = side.answers.index == truth
        test = paired_test(first, right)
        low, high = difference_interval(test, int(first.sum()))
        lost = (
            f"{0.0 - 100 * test.difference:.2f} points ({-100 * high:.2f} to {-100 * low:.2f})"
            if side is not sides[0]
            else ""
        )
        size = locate(side.path).model.stat().st_size / 1e6
        other = int((side.answers.index != sides[0].answers.index).sum())
        print(f"| {side.name} | {size:.2f} MB | {right.mean():.2%} of {len(truth)} | {lost} | {other or ''} |")
    size = locate(sides[-1].path).model.stat().st_size / 1e6
    print(f"\nAsked: at most {SIZE_MB} MB ({'kept' if size <= SIZE_MB else 'missed'}), {POINTS:g} point.\n")


def _print_frames(sides: Sequence[Side], frames: Sequence[bytes], rounds: int) -> None:
    opened = [open_classifier(side.path, threads=1) for side in sides]
    wall, cpu = np.zeros((len(sides), rounds)), np.zeros((len(sides), rounds))
    for model in opened:
        model.predict(frames[:8], batch=1)
    for turn in range(rounds):
        for place, model in enumerate(opened):
            began_s, used_s = time.perf_counter(), time.process_time()
            for frame in frames:
                model.predict([frame], batch=1)
            wall[place, turn] = time.perf_counter() - began_s
            cpu[place, turn] = time.process_time() - used_s
    kilobytes = np.mean([len(frame) for frame in frames]) / 1e3
    print(f"{processor()}, one CPU, {len(frames)} frames of {kilobytes:.0f} kB, {rounds} rounds\n")
    print("| network | engine | frames/s (least, most) | CPU ms a frame | decode ms | resize ms | network ms |")
    print("|---|---|---|---|---|---|---|")
    for place, (side, model) in enumerate(zip(sides, opened, strict=True)):
        rates = np.sort(len(frames) / wall[place])
        stages = " | ".join(f"{1000 * one:.2f}" for one in _stages(model, frames[:16]))
        middle = f"{np.median(rates):.1f} ({rates[0]:.1f}, {rates[-1]:.1f})"
        print(
            f"| {side.name} | {model.engine} | {middle} | {1000 * np.median(cpu[place]) / len(frames):.2f} | {stages} |"
        )
        model.close()
    kept = np.median(len(frames) / wall[-1]) >= FRAMES_S
    print(f"\nAsked: {FRAMES_S:g} frames a second ({'kept' if kept else 'missed'}).")
    with open_classifier(sides[0].path, threads=1) as model:
        spec = model.preprocess
    copied, kept_s = (
        _least_s(lambda frame, way=way: prepare(spec, way(frame)), frames[:16]) for way in (to_pixels, to_source)
    )
    print(f"From bytes to a prepared image: {1000 * kept_s:.2f} ms; by way of copied pixels {1000 * copied:.2f} ms.")


def _stages(model: Classifier, frames: Sequence[bytes]) -> tuple[float, float, float]:
    """Seconds of decoding, of resizing, and of normalizing with the network, each the least of many."""
    spec = model.preprocess
    sources = [to_source(frame) for frame in frames]
    prepared = [prepare(spec, source)[None] for source in sources]
    return (
        _least_s(to_source, frames),
        _least_s(lambda source: prepare(spec, source), sources),
        _least_s(lambda pixels: model.run_network(model.network_input(pixels)), prepared),
    )


def _least_s(call: Callable[[object], object], given: Sequence[object], turns: int = 8) -> float:
    """Mean over what is given of the least CPU time of some turns."""
    least = np.full(len(given), np.inf)
    for _ in range(turns):
        for place, one in enumerate(given):
            used_s = time.process_time()
            call(one)
            least[place] = min(least[place], time.process_time() - used_s)
    return float(least.mean())


if __name__ == "__main__":
    main()
