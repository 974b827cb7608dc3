"""`sortal doctor RUN`: read a run, time its classifier where its contract limits the latency, and diagnose."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import SortalError
from sortal.core.manifest import MANIFEST
from sortal.core.report import Report
from sortal.core.run import RunFolder, open_run
from sortal.evaluate.diagnose.diagnosis import diagnose
from sortal.evaluate.diagnose.traces import read_traces
from sortal.evaluate.drawing.canvas import encoded
from sortal.evaluate.explain.neighbors import training_folder
from sortal.evaluate.latency import measure_latency
from sortal.runtime.classifier import open_classifier

_SAMPLES = 16
_SECONDS = 10.0


def diagnose_run(path: Path) -> Report:
    """The report of kind `diagnosis` of a run folder. Raises InputError where it is none or has no finished epoch."""
    run = open_run(path)
    bundle = open_bundle(run.bundle) if (run.bundle / MANIFEST).is_file() else None
    limit = None if bundle is None or bundle.contract is None else bundle.contract.max_latency_ms
    measured = None if bundle is None or limit is None else _p99_ms(run, bundle)
    return diagnose(read_traces(run, latency_ms=measured, limit_ms=limit), subject=run.name)


def _p99_ms(run: RunFolder, bundle: Bundle) -> float | None:
    """On images of the run's own where they are still there, else on a grey one of the network's size."""
    samples = _images(run) or [encoded(np.full((*bundle.preprocess.size, 3), 127, np.uint8), "JPEG")]
    try:
        with open_classifier(run.path) as classifier:
            return measure_latency(classifier, samples, seconds=_SECONDS).p99_ms
    except SortalError:
        return None


def _images(run: RunFolder) -> list[bytes | Path]:
    folder = training_folder(run)
    if folder is None or not run.split_path.is_file():
        return []
    with run.split_path.open(encoding="utf-8", newline="") as file:
        paths = [folder / row["name"] for row, _ in zip(csv.DictReader(file), range(_SAMPLES), strict=False)]
    return [path for path in paths if path.is_file()]
