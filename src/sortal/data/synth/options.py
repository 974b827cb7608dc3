"""What can be asked of the image generator, and the refusal of what cannot."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sortal.core.errors import InputError
from sortal.data.synth.catalog import catalog
from sortal.data.synth.marks import SCRATCH_GRADES
from sortal.data.synth.sheets import SHEET_COUNT
from sortal.data.synth.surface import GRADES

MIN_PER_CLASS = 3
"""No class has fewer pictures, so that each can have one in train, validation and test."""

Task = Literal["kind", "defect", "scratches", "scratch-dent"]
TASKS: tuple[Task, ...] = ("kind", "defect", "scratches", "scratch-dent")
_SCRATCHED = 0.75
"""Share of sheets with a scratch where nothing else is asked: as many of each grade as without."""


@dataclass(frozen=True, kw_only=True)
class SynthOptions:
    """A data set to draw. All shares are of `images`.

    classes: kinds of parts, 1 to 1122 (at least 2 for the task "kind"); kinds of sheet metal, 1 to 12.
    images: pictures of these classes together; every class gets at least 3.
    size_px: (width, height), or one number for both; 32 to 2048.
    long_tail: pictures of the largest class for one of the smallest, 1 to 1000; the rest lie on an exponential between.
    seed: 0 to 2**63 - 1.
    task: "kind" labels the part; "defect" labels the grade of its defect (none, light, medium, severe). On sheet metal,
    "scratches" labels the worst scratch (ok, light, medium, severe), and "scratch-dent" which of two marks that are
    easily confused is on it.
    defects: share of parts with a surface defect, for the task "kind"; of sheets with a scratch, for "scratches", where
    1 leaves the class "ok" out; 0 to 1. None: 0 for parts, 0.75 for sheets.
    label_noise: share of pictures in the folder of a wrong label; 0 to 0.9.
    exact_duplicates, near_duplicates: share of pictures that repeat another one; 0 to 0.5 each.
    bursts: share of pictures taken in sequences of three to five of one object; 0 to 1.
    corrupt: share of files that do not decode; 0 to 0.5.
    drift: how far the camera has drifted (darker, blurrier, noisier, warmer); 0 to 1.
    new_class: classes that come on top, the next of the catalog, with images / classes pictures each.
    workers: processes; 1 draws in this one, 0 takes every CPU allowed. The pictures are the same for any number.
    """

    classes: int = 12
    images: int = 1200
    size_px: int | tuple[int, int] = 128
    long_tail: float = 1.0
    seed: int = 0
    task: Task = "kind"
    defects: float | None = None
    label_noise: float = 0.0
    exact_duplicates: float = 0.0
    near_duplicates: float = 0.0
    bursts: float = 0.0
    corrupt: float = 0.0
    drift: float = 0.0
    new_class: int = 0
    workers: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return (self.size_px, self.size_px) if isinstance(self.size_px, int) else self.size_px

    @property
    def processes(self) -> int:
        """`workers`, with 0 resolved to the CPUs this process may use."""
        if self.workers:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def defect_share(self) -> float:
        """`defects`, with None resolved."""
        if self.defects is not None:
            return self.defects
        return _SCRATCHED if self.task == "scratches" else 0.0

    @property
    def on_sheets(self) -> bool:
        """Whether the pictures show sheet metal and its marks."""
        return self.task in ("scratches", "scratch-dent")

    def content(self) -> dict[str, Any]:
        """What decides the pictures: all options but `workers`."""
        decided = {"size_px": list(self.size), "defects": self.defect_share}
        return {key: value for key, value in asdict(self).items() if key != "workers"} | decided


def check(options: SynthOptions) -> None:
    """Raises InputError that names the option, what was received and its valid range."""
    _whole("workers", options.workers, 0, 256)
    _whole("seed", options.seed, 0, 2**63 - 1)
    _between("long_tail", options.long_tail, 1, 1000)
    _between("label_noise", options.label_noise, 0, 0.9)
    for name in ("exact_duplicates", "near_duplicates", "corrupt"):
        _between(name, getattr(options, name), 0, 0.5)
    for name in ("bursts", "drift"):
        _between(name, getattr(options, name), 0, 1)
    if options.defects is not None:
        _between("defects", options.defects, 0, 1)
    _check_size(options)
    _check_task(options)
    _check_counts(options)


def _check_size(options: SynthOptions) -> None:
    size = options.size_px
    sides = (size,) if isinstance(size, int) else size
    if len(sides) not in (1, 2):
        raise InputError("must be one number or (width, height)", where="size_px", received=str(size))
    for side in sides:
        _whole("size_px", side, 32, 2048)


def _check_task(options: SynthOptions) -> None:
    if options.task not in TASKS:
        raise InputError(f"must be one of {', '.join(TASKS)}", where="task", received=str(options.task))
    if options.task in ("defect", "scratch-dent") and options.defects:
        raise InputError("belongs to the tasks kind and scratches", where="defects", received=str(options.defects))
    if options.task != "kind" and options.new_class:
        raise InputError(f"belongs to the task kind; the task {options.task} has fixed labels", where="new_class")


def _check_counts(options: SynthOptions) -> None:
    known = SHEET_COUNT if options.on_sheets else len(catalog())
    _whole("classes", options.classes, 2 if options.task == "kind" else 1, known)
    _whole("new_class", options.new_class, 0, known - options.classes if options.task == "kind" else 0)
    _whole("images", options.images, MIN_PER_CLASS * _labels(options), 10_000_000)
    if options.task == "scratches":
        _check_shares(options)
    repeated = options.exact_duplicates + options.near_duplicates + options.corrupt
    if repeated > 0.75:
        raise InputError(
            "duplicates and corrupt files together may be at most 0.75 of the images",
            where="exact_duplicates + near_duplicates + corrupt",
            received=f"{repeated:g}",
        )


def _labels(options: SynthOptions) -> int:
    if options.task == "kind":
        return options.classes
    return 2 if options.task == "scratch-dent" else len(GRADES)


def _check_shares(options: SynthOptions) -> None:
    """Every grade and, where there is one, the class "ok" must get its pictures."""
    scratched = round(options.defect_share * options.images)
    spotless = options.images - scratched
    if scratched < MIN_PER_CLASS * len(SCRATCH_GRADES) or 0 < spotless < MIN_PER_CLASS:
        raise InputError(
            f"leaves a class with fewer than {MIN_PER_CLASS} of {options.images} images",
            where="defects",
            received=f"{options.defect_share:g}",
            hint="1 leaves out the class ok",
        )


def _whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"must be a whole number from {low} to {high}", where=name, received=repr(value))


def _between(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(str(value))) or not low <= float(str(value)) <= high:
        raise InputError(f"must be a number from {low:g} to {high:g}", where=name, received=repr(value))
