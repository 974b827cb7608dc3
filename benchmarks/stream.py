"""From frames of a camera to decisions: frames a second, drops and ages, with a network like MobileNetV2.

    taskset -c 0,1 python benchmarks/stream.py [--seconds 20] [--size 224] [--work FOLDER]

`sortal stream` in processes of its own, each row one run; the network has random weights, which cost what others cost.

camera   a simulated camera of 640 x 480 at 30 frames a second, and at 60: what is decided, dropped, and how old it is
video    a motion JPEG of 640 x 480 from a file, every frame, as fast as it goes

A frame's age is from being captured to being decided, the way through the processes included. CPU time is that of all
processes, their start included, over the frames that were answered: 1000 over it is what a core does a second at most.
Memory is the peak of the front process and of the largest of its children.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec
from sortal.data.synth.catalog import catalog
from sortal.data.synth.render import picture
from sortal.export.graph import export_onnx
from sortal.export.publish import stamp, write_artifact
from sortal.models.backbones import create, record
from sortal.models.resolve import ModelSource
from sortal.models.weights import weights_bytes
from sortal.runtime.threads import allowed_cpus, processor

MODEL = "mobilenetv2_100"
CLASSES = 12
WIDTH, HEIGHT = 640, 480
PARTS = 6


def classifier(folder: Path, size: int) -> Path:
    """A bundle of the network with random weights."""
    path = folder / f"{MODEL}-{size}"
    if path.is_dir():
        return path
    spec = PreprocessSpec(size=(size, size), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    source = ModelSource(name=MODEL, architecture=MODEL)
    network = create(source, classes=CLASSES, size=spec.size).eval()
    contents = BundleContents(
        labels=LabelSet(names=tuple(f"part {number}" for number in range(CLASSES))),
        preprocess=spec,
        decision=DecisionSpec(),
        model=record(network),
        weights_licence="none needed",
        weights=weights_bytes(network),
    )
    write_bundle(path, contents)
    graph = export_onnx(network, spec, folder / f"{path.name}.onnx")
    stamp(graph, open_bundle(path))
    write_artifact(path, "onnx", graph, None)
    return path


def video(folder: Path, frames: int) -> Path:
    """Drawn parts, one after another."""
    path = folder / "parts.avi"
    if path.is_file():
        return path
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 30, (WIDTH, HEIGHT))
    parts = [
        picture(part, seed=0, specimen=0, frame=0, grade="none", drift=0.0, size_px=(WIDTH, HEIGHT))
        for part in catalog()[:PARTS]
    ]
    for number in range(frames):
        writer.write(np.ascontiguousarray(parts[number % PARTS][:, :, ::-1]))
    writer.release()
    return path


def run(model: Path, *arguments: str) -> dict[str, Any]:
    """The numbers of one stream."""
    command = [sys.executable, "-m", "sortal", "stream", str(model), "--out", os.devnull, *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=True)
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    ended: dict[str, Any] = events[-1]
    return ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--work", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = classifier(folder, asked.size)
        rows = {
            f"camera, {fps} frames/s": (
                *("--source", f"simulated:size={WIDTH}x{HEIGHT},fps={fps},parts={PARTS}"),
                *("--seconds", f"{asked.seconds + 5:g}", "buffer=2"),  # drawing takes some seconds
            )
            for fps in (30, 60)
        }
        rows["video, every frame"] = ("--source", str(video(folder, 600)), "batch=8", "buffer=8")
        print(f"{MODEL} at {asked.size} pixels, {processor()}, {allowed_cpus()} CPUs, load {os.getloadavg()[0]:.1f}\n")
        print("| source | received | decided/s | dropped | late | age p50, p99 ms | CPU ms a frame | peak MB |")
        print("|---|---|---|---|---|---|---|---|")
        for name, arguments in rows.items():
            told = run(model, *arguments)
            cpu_ms = 1e3 * (told["cpu_s"] + told["cpu_s_children"]) / max(told["answered"] + told["abstained"], 1)
            late, dropped = told["reasons"].get("late", 0), told["reasons"].get("dropped", 0) + told["missed"]
            ages, peaks = (told["age_ms_p50"], told["age_ms_p99"]), (told["peak_mb"], told["peak_mb_largest_child"])
            cells = (name, told["received"], told["frames_per_s"], dropped, late, ages, f"{cpu_ms:.1f}", peaks)
            print("| " + " | ".join(str(cell).strip("()") for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
