"""The plan of a data set: what every picture shows and which label it gets, before any is drawn.

Numbers follow the order in which a camera would have taken the pictures, all classes mixed, so that a file's name
tells nothing of its class; the frames of a burst follow one another. `dataset` draws the plan.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from sortal.data.synth.catalog import PartClass, catalog
from sortal.data.synth.marks import SCRATCH_GRADES
from sortal.data.synth.options import MIN_PER_CLASS, SynthOptions
from sortal.data.synth.sheets import sheet_part
from sortal.data.synth.surface import GRADES

CORRUPTIONS = ("truncated", "empty", "garbage", "header", "text")
_STEPS = ("sizes", "bursts", "grades", "repeats", "corrupt", "order", "labels")
_PLAN_KEY = 1 << 63  # no picture's key reaches it


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture of the plan.

    number: its place in the sequence and its file's name. label, true_label: names of classes, given and right.
    specimen: which object of the class; frame: which picture of the class (they differ within a burst).
    grade: of its defect; "scratch" or "dent" for the task "scratch-dent". burst: its place in a burst from 1, or 0.
    repeats: number of the shot it repeats, or None; near: whether it repeats it only nearly. corruption: one of
    CORRUPTIONS, or "". new_class: whether its class is one that came on top.
    """

    number: int
    part: PartClass
    label: str
    true_label: str
    specimen: int
    frame: int
    grade: str = "none"
    burst: int = 0
    repeats: int | None = None
    near: bool = False
    corruption: str = ""
    new_class: bool = False

    @property
    def path(self) -> str:
        """Below the data set's folder, with slashes."""
        return f"{self.label}/{self.number:06d}.jpg"

    @property
    def group(self) -> str:
        """The same for all pictures of one physical object."""
        return f"{self.part.index:04d}-{self.specimen:06d}"


def make_plan(options: SynthOptions) -> tuple[Shot, ...]:
    """The shots in the order of their numbers. The options have passed `check`."""
    shots = _kind_shots(options) if options.task == "kind" else _graded_shots(options)
    shots = _in_order(_with_bursts(shots, options), options)
    shots = _with_repeats(shots, options)
    return tuple(_with_wrong_labels(shots, options))


def class_counts(images: int, classes: int, long_tail: float) -> list[int]:
    """Pictures of each class, largest first: an exponential profile, at least 3 each, `images` in all."""
    weights = long_tail ** -(np.arange(classes) / max(1, classes - 1))
    counts = np.full(classes, MIN_PER_CLASS)
    spare = images - MIN_PER_CLASS * classes
    scale = _fitting_scale(weights, images)
    wanted = np.clip(scale * weights - MIN_PER_CLASS, 0, None)
    whole = np.floor(wanted).astype(int)
    rest = spare - int(whole.sum())
    whole[np.argsort(-(wanted - whole), kind="stable")[:rest]] += 1
    return sorted((int(one) for one in counts + whole), reverse=True)


def _fitting_scale(weights: np.ndarray[tuple[int, ...], np.dtype[np.float64]], images: int) -> float:
    """The s for which sum(max(3, s * weight)) is `images`, by bisection."""
    low, high = 0.0, float(images) / float(weights.min())
    for _ in range(100):
        middle = (low + high) / 2
        fits = float(np.maximum(MIN_PER_CLASS, middle * weights).sum()) <= images
        low, high = (middle, high) if fits else (low, middle)
    return low


def _rng(options: SynthOptions, step: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[options.seed, _PLAN_KEY | _STEPS.index(step)]))


def _kind_shots(options: SynthOptions) -> list[Shot]:
    """Which class is large and which small is by lot; the classes on top have the mean number."""
    counts = class_counts(options.images, options.classes, options.long_tail)
    order = _rng(options, "sizes").permutation(options.classes)
    sizes = {int(place): count for place, count in zip(order, counts, strict=True)}
    mean = max(MIN_PER_CLASS, round(options.images / options.classes))
    parts = catalog()[: options.classes + options.new_class]
    shots: list[Shot] = []
    for part in parts:
        on_top = part.index >= options.classes
        count = mean if on_top else sizes[part.index]
        shots += [_shot(part, index, part.name, "none", new_class=on_top) for index in range(count)]
    return shots


def _graded_shots(options: SynthOptions) -> list[Shot]:
    """The parts (or sheets) take turns within each label; what has no defect is the largest class of a long tail."""
    shots = []
    seen: Counter[int] = Counter()
    for label, grade, count in _graded_counts(options):
        for index in range(count):
            number = index % options.classes
            part = sheet_part(number) if options.on_sheets else catalog()[number]
            shots.append(_shot(part, seen[part.index], label, grade, new_class=False))
            seen[part.index] += 1
    return shots


def _graded_counts(options: SynthOptions) -> list[tuple[str, str, int]]:
    """(label, grade, pictures) of each class whose label is not the part's."""
    match options.task:
        case "scratches":
            scratched = round(options.defect_share * options.images)
            counts = class_counts(scratched, len(SCRATCH_GRADES), options.long_tail)
            grades = list(zip(SCRATCH_GRADES, SCRATCH_GRADES, counts, strict=True))
            return [("ok", "none", options.images - scratched), *grades]
        case "scratch-dent":
            names: tuple[str, ...] = ("scratch", "dent")
        case _:
            names = GRADES
    return list(zip(names, names, class_counts(options.images, len(names), options.long_tail), strict=True))


def _shot(part: PartClass, index: int, label: str, grade: str, *, new_class: bool) -> Shot:
    return Shot(
        number=0,
        part=part,
        label=label,
        true_label=label,
        specimen=index,
        frame=index,
        grade=grade,
        new_class=new_class,
    )


def _with_bursts(shots: list[Shot], options: SynthOptions) -> list[Shot]:
    """Make runs of neighbors in a class frames of one object; its first frame says which, and how damaged it is."""
    rng = _rng(options, "bursts")
    left, start = round(options.bursts * len(shots)), 0
    starts = _burst_starts(shots, rng) if left else []
    shots = list(shots)
    for start, length in starts:
        length = min(length, left)
        if length < 2:
            break
        first = shots[start]
        for step in range(length):
            shots[start + step] = replace(shots[start + step], specimen=first.specimen, burst=step + 1)
        left -= length
    return _with_grades(shots, options)


def _burst_starts(shots: list[Shot], rng: np.random.Generator) -> list[tuple[int, int]]:
    """The whole list cut into pieces of three to five of one label and part, in random order."""
    pieces, start = [], 0
    while start < len(shots):
        length = int(rng.integers(3, 6))
        same = (shots[start].part.index, shots[start].label)
        end = start + 1
        while end < min(len(shots), start + length) and (shots[end].part.index, shots[end].label) == same:
            end += 1
        pieces.append((start, end - start))
        start = end
    return [pieces[int(one)] for one in rng.permutation(len(pieces))]


def _with_grades(shots: list[Shot], options: SynthOptions) -> list[Shot]:
    """For the task "kind": defects by object, so that the frames of a burst agree."""
    if options.task != "kind" or not options.defect_share:
        return shots
    rng = _rng(options, "grades")
    objects = list(dict.fromkeys(shot.group for shot in shots))
    hit = rng.permutation(len(objects))[: round(options.defect_share * len(objects))]
    grades = {objects[int(one)]: GRADES[1 + place % 3] for place, one in enumerate(hit)}
    return [replace(shot, grade=grades.get(shot.group, "none")) for shot in shots]


def _in_order(shots: list[Shot], options: SynthOptions) -> list[Shot]:
    """Mix the objects, keep each one's frames together and number them."""
    groups: dict[str, list[Shot]] = {}
    for shot in shots:
        groups.setdefault(shot.group, []).append(shot)
    names = list(groups)
    mixed = [shot for one in _rng(options, "order").permutation(len(names)) for shot in groups[names[int(one)]]]
    return [replace(shot, number=number) for number, shot in enumerate(mixed)]


def _with_repeats(shots: list[Shot], options: SynthOptions) -> list[Shot]:
    """Turn some single pictures into repetitions of another one of their label, and some into corrupt files."""
    rng = _rng(options, "repeats")
    total = len(shots)
    exact, near = round(options.exact_duplicates * total), round(options.near_duplicates * total)
    shots, sources = list(shots), _sources(shots)
    free = Counter({label: len(numbers) - 1 for label, numbers in sources.items()})
    order = iter([int(one) for one in rng.permutation(total) if shots[int(one)].burst == 0])
    taken: set[int] = set()
    for number in order:
        if len(taken) == exact + near:
            break
        label = shots[number].true_label
        if free[label] > 0:
            free[label] -= 1
            taken.add(number)
    for place, number in enumerate(int(one) for one in rng.permutation(sorted(taken))):
        kept = [one for one in sources[shots[number].true_label] if one not in taken]
        source = shots[kept[int(rng.integers(len(kept)))]]
        copy = replace(source, number=number, label=source.label, repeats=source.number, near=place >= exact, burst=0)
        shots[number] = copy
    return _with_corruption(shots, options)


def _sources(shots: list[Shot]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for shot in shots:
        found.setdefault(shot.true_label, []).append(shot.number)
    return found


def _with_corruption(shots: list[Shot], options: SynthOptions) -> list[Shot]:
    """Damage files that neither repeat another nor are repeated."""
    rng = _rng(options, "corrupt")
    repeated = {shot.repeats for shot in shots}
    single = [shot.number for shot in shots if shot.repeats is None and shot.number not in repeated]
    chosen = rng.permutation(len(single))[: round(options.corrupt * len(shots))]
    shots = list(shots)
    for place, one in enumerate(chosen):
        number = single[int(one)]
        shots[number] = replace(shots[number], corruption=CORRUPTIONS[place % len(CORRUPTIONS)])
    return shots


def _with_wrong_labels(shots: list[Shot], options: SynthOptions) -> list[Shot]:
    """Give some pictures the label of another class, any with equal chance."""
    rng = _rng(options, "labels")
    labels = sorted({shot.true_label for shot in shots if not shot.new_class})
    known = [shot.number for shot in shots if not shot.new_class]
    shots = list(shots)
    for one in rng.permutation(len(known))[: round(options.label_noise * len(known))]:
        shot = shots[known[int(one)]]
        others = [label for label in labels if label != shot.true_label]
        shots[shot.number] = replace(shot, label=others[int(rng.integers(len(others)))])
    return shots
