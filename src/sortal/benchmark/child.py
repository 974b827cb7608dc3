"""The measured side of a benchmark: one model on one engine in a process of its own, which may crash or hang alone.

`python -m sortal.benchmark.child` reads one JSON command a line and answers with one JSON object a line: the result, or
`{"error": ...}`. Whatever engines print goes to stderr. `apart` is the other side.

    open: model, engine, threads, bundle   time: batch, seconds, first   whole: images, seconds, first
    answer: pixels (.npy), out (.npz)      memory

`first` is true the first time: then a call is made before the clock runs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.bundle import open_bundle
from sortal.core.errors import SortalError
from sortal.core.preprocess import Pixels
from sortal.runtime.classifier import Classifier
from sortal.runtime.engines.opening import open_engine
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.locate import info_of
from sortal.runtime.network_input import takes_any_size, upright_input
from sortal.runtime.speed import in_turns_ms

EAGER = "torch eager"
"""The engine that stands for the live network, out of the bundle's weights."""
_BATCH = 32
_MOST_CALLS = 2_000


class Measured:
    """An opened model and what can be asked of it. Every answer is a JSON object."""

    def __init__(self) -> None:
        self._classifier: Classifier | None = None
        self._any_size = False

    def open(self, command: dict[str, Any]) -> dict[str, Any]:
        """Open the model; `load_s` has the import of the engine's package in it, as the start of a program has."""
        bundle = open_bundle(Path(command["bundle"]), verify=False)
        threads, started_s = int(command["threads"]), time.perf_counter()
        engine: Engine
        if command["engine"] == EAGER:
            from sortal.benchmark.live import open_live

            engine = open_live(bundle, threads=threads)
        else:
            engine = open_engine(Path(command["model"]), command["engine"], threads=threads)
        spent_s = time.perf_counter() - started_s
        self._any_size = takes_any_size(engine.metadata)
        self._classifier = Classifier(engine, info_of(bundle), threads=threads)
        return {"load_s": spent_s, "engine": engine.name, "ran_on": self._classifier.ran_on}

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        """Times of the network alone on a prepared batch of noise."""
        model, batch = self._opened(), int(command["batch"])
        if self._any_size and batch > 1:
            return {"times_ms": []}
        spec = model.preprocess
        numbers = np.random.default_rng(0).integers(0, spec.maximum + 1, (batch, *spec.size, spec.channels))
        pixels: Pixels = numbers.astype(np.uint8 if spec.depth == 8 else np.uint16)
        given = upright_input(pixels) if self._any_size else model.network_input(pixels)
        return _timed(partial(model.run_network, given), command)

    def whole(self, command: dict[str, Any]) -> dict[str, Any]:
        """Times of decisions from the bytes of image files, one at a time."""
        model, images = self._opened(), [Path(name).read_bytes() for name in command["images"]]
        turn = iter(range(10**9))
        return _timed(lambda: model.predict(images[next(turn) % len(images)]), command)

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Logits and unknown scores of prepared pixels, into a file; `answered` is False where it takes none such."""
        model = self._opened()
        if self._any_size:
            return {"answered": False}
        pixels = np.load(command["pixels"], mmap_mode="r", allow_pickle=False)
        parts = [
            model.run_network(model.network_input(np.asarray(pixels[start : start + _BATCH])))
            for start in range(0, len(pixels), _BATCH)
        ]
        found = {"logits": np.concatenate([part.logits for part in parts])}
        scores = [part.unknown_score for part in parts if part.unknown_score is not None]
        if scores:
            found["unknown_score"] = np.concatenate(scores)
        np.savez(command["out"], allow_pickle=False, **found)
        return {"answered": True}

    def memory(self, _: dict[str, Any]) -> dict[str, Any]:
        """The most memory that this process has had, in units of 1,000,000 bytes; None where the system does not say.

        `resource` counts in kilobytes on Linux, in bytes on macOS."""
        try:
            import resource
        except ImportError:  # not on Windows
            return {"peak_mb": None}
        unit = 1 if sys.platform == "darwin" else 1024
        return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}

    def _opened(self) -> Classifier:
        if self._classifier is None:
            raise SortalError("nothing is open")
        return self._classifier


def _timed(call: Callable[[], object], command: dict[str, Any]) -> dict[str, Any]:
    seconds, first = float(command["seconds"]), bool(command["first"])
    times = in_turns_ms([call], turns=_MOST_CALLS, limit_s=seconds, warmup=int(first))[0]
    return {"times_ms": [round(float(one), 5) for one in times]}


def main() -> int:
    """Answer commands until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # engines print to stdout when they like
    measured = Measured()
    known: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "open": measured.open,
        "time": measured.time,
        "whole": measured.whole,
        "answer": measured.answer,
        "memory": measured.memory,
    }
    for line in sys.stdin:
        command = json.loads(line)
        try:
            said = known[command["do"]](command)
        except SortalError as error:
            said = {"error": str(error).split("\n", 1)[0], "hint": error.hint}
        except MemoryError:
            said = {"error": "there is not enough memory", "hint": None}
        except Exception as error:  # an engine's own; the others go on
            said = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        answers.write(json.dumps(said) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
