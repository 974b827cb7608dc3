"""Input size by what the device can do: larger while there is time, smaller when there is not, within allowed sizes.

Each size is a classifier of its own (a run, bundle or artifact; `sortal sweep` trains them), and its accuracy is known
before it is used. `ResolutionController` is given measured times and says which size is next; it knows no clock of its
own and no images. `AdaptiveClassifier` opens the classifiers and asks it.

    down   the 90th percentile of the newest times is above the target
    up     the next larger size would stay below `HEADROOM` of the target, as far as can be told, and a wait is over
           that doubles whenever a larger size had to be left again: that is the hysteresis
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from sortal.core.errors import InputError
from sortal.core.predictions import Predictions
from sortal.core.report import Cell, Metric, Table
from sortal.runtime.classifier import open_classifier
from sortal.runtime.sources import Images

WINDOW = 20
"""Newest times that count; as many are needed before anything changes."""
HEADROOM = 0.8
_TAIL = 0.9
_FIRST_WAIT, _LONGEST_WAIT = 50, 3200
"""Times to be seen at a size before a larger one is tried."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One allowed size: where its classifier is, and how good that was found to be."""

    path: Path
    size: tuple[int, int]
    """(height, width) of the network's input."""
    accuracy: Metric | None = None

    @property
    def pixels(self) -> int:
        """Of the input; the time of a network goes about with it."""
        return self.size[0] * self.size[1]


class ResolutionController:
    """Which of some sizes fits a target of `target_ms` milliseconds an image. Starts with the smallest."""

    def __init__(self, sizes_px: Sequence[int], *, target_ms: float):
        if not sizes_px or list(sizes_px) != sorted(set(sizes_px)):
            raise InputError("sizes have to ascend, each once", received=str(list(sizes_px)))
        if not target_ms > 0:
            raise InputError("the target has to be above 0 ms", received=f"{target_ms:g}")
        self._pixels, self._target_ms = tuple(sizes_px), target_ms
        self._newest: deque[float] = deque(maxlen=WINDOW)
        self._seen, self._wait = 0, _FIRST_WAIT
        self._rose = False
        self.current = 0
        """Index of the size in use."""

    def observe(self, ms: float) -> int:
        """Take the time of one image at the current size; returns the index of the size for the next one."""
        self._newest.append(ms)
        self._seen += 1
        if len(self._newest) < WINDOW:
            return self.current
        slow_ms = float(np.quantile(self._newest, _TAIL))
        if slow_ms > self._target_ms and self.current > 0:
            self._wait = min(2 * self._wait, _LONGEST_WAIT) if self._rose else self._wait
            self._move(-1)
        elif self._seen >= self._wait and self._would_fit(slow_ms):
            self._move(+1)
        elif self._rose and self._seen >= _LONGEST_WAIT:
            self._wait, self._rose = _FIRST_WAIT, False  # it held: what was once too large may be tried again soon
        return self.current

    def _would_fit(self, slow_ms: float) -> bool:
        if self.current + 1 == len(self._pixels):
            return False
        grown_ms = slow_ms * self._pixels[self.current + 1] / self._pixels[self.current]
        return grown_ms < HEADROOM * self._target_ms

    def _move(self, by: int) -> None:
        self.current += by
        self._rose = by > 0
        self._newest.clear()
        self._seen = 0


class AdaptiveClassifier:
    """Classifiers of several sizes behind one `predict`. Close it, or use it in a `with` block.

    All of them answer over the same classes. Raises InputError where they do not, or sizes are not different.
    """

    def __init__(
        self,
        places: Sequence[Path],
        *,
        target_ms: float,
        accuracies: Sequence[Metric | None] = (),
        engine: str = "auto",
        threads: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        opened = [open_classifier(place, engine=engine, threads=threads) for place in places]
        known = [*accuracies, *[None] * (len(places) - len(accuracies))]
        steps = [
            Step(path=place, size=model.preprocess.size, accuracy=accuracy)
            for place, model, accuracy in zip(places, opened, known, strict=True)
        ]
        order = sorted(range(len(steps)), key=lambda place: steps[place].pixels)
        self.steps = tuple(steps[place] for place in order)
        """Smallest first."""
        self._models = [opened[place] for place in order]
        self._clock = clock
        self._changes: list[tuple[int, int]] = []
        self._answered = 0
        try:
            if len({model.labels.names for model in self._models}) > 1:
                raise InputError("the classifiers of the sizes answer over different classes")
            self._controller = ResolutionController([step.pixels for step in self.steps], target_ms=target_ms)
        except InputError:
            self.close()
            raise

    @property
    def current(self) -> Step:
        """The size that answers next."""
        return self.steps[self._controller.current]

    def predict(self, images: Images) -> Predictions:
        """Answers of the current size; the time they took, an image, decides about the next size."""
        before, started_s = self._controller.current, self._clock()
        predictions = self._models[before].predict(images)
        spent_ms = 1000 * (self._clock() - started_s)
        self._answered += len(predictions)
        if len(predictions) and self._controller.observe(spent_ms / len(predictions)) != before:
            self._changes.append((self._answered, self._controller.current))
        return predictions

    def table(self) -> Table:
        """The sizes with their accuracy, and after how many images each was taken up last."""
        taken = {0: 0} | {index: answered for answered, index in self._changes}
        rows: list[tuple[Cell, ...]] = []
        for number, step in enumerate(self.steps):
            told = step.accuracy
            ends = (None, None, None) if told is None else (told.value, told.low, told.high)
            in_use = number == self._controller.current
            rows.append((f"{step.size[1]}x{step.size[0]}", str(step.path), *ends, taken.get(number), in_use))
        columns = ("size", "model", "accuracy", "accuracy_low", "accuracy_high", "taken_up_after", "in_use")
        return Table(columns=columns, rows=tuple(rows))

    def close(self) -> None:
        """Give memory and threads back."""
        for model in self._models:
            model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
