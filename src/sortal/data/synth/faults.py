"""Plant known faults into a copy of a data set, to see whether they are found: the truth is written beside the images.

    out/<split>/<class>/<name>     the images, divided into train, val and test
    out/faults.csv                 one row a planted file: its name, the fault, the image it comes from, the right label

No image gets two faults. Copies stay in the split of their original, so that only the leaking groups leak. The whole
folder appears at once; the same source and options give the same bytes with the same release of Pillow.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from sortal.core.errors import DataError, InputError
from sortal.core.publish import publish_folder
from sortal.data.table import ImageTable

COLUMNS = ("name", "fault", "how", "source", "true_label")
CORRUPTIONS = ("truncated", "bit_flips", "empty")
NEAR = ("encoded", "resized", "cropped", "brightness", "blurred")
FRAMES = 3
"""Pictures of one object that are added to each leaking group; two go to the other splits."""
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class FaultOptions:
    """How much to plant: shares of the images, 0 to 0.45 each, and a number of groups; `val` and `test` are shares."""

    corrupt: float = 0.02
    exact_duplicates: float = 0.03
    near_duplicates: float = 0.03
    wrong_labels: float = 0.05
    leaking_groups: int = 10
    val: float = 0.2
    test: float = 0.2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One planted file."""

    name: str
    """Below the new folder: `train/nut/000012.jpg`."""
    fault: str
    """`corrupt`, `exact`, `near`, `wrong_label` or `group`."""
    how: str
    source: str
    """The image it was made from; for a wrong label its own name."""
    true_label: str


@dataclass(frozen=True, kw_only=True)
class Truth:
    """All that was planted."""

    faults: tuple[Fault, ...]
    images: int
    """Files in the new folder."""

    def of(self, fault: str) -> tuple[Fault, ...]:
        """The planted files of one kind."""
        return tuple(one for one in self.faults if one.fault == fault)

    @property
    def groups(self) -> tuple[frozenset[str], ...]:
        """Names of all pictures of each leaking object."""
        found: dict[str, set[str]] = {}
        for one in self.of("group"):
            found.setdefault(one.source, {one.source}).add(one.name)
        return tuple(frozenset(names) for names in found.values())


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """An image of the source and where it goes."""

    row: int
    label: str
    split: str
    number: int

    def name(self, label: str | None = None, number: int | None = None, split: str | None = None) -> str:
        """Numbers say nothing of class or fault."""
        shown = self.number if number is None else number
        return f"{split or self.split}/{label or self.label}/{shown:06d}.jpg"


def plant(table: ImageTable, out: Path, options: FaultOptions) -> Truth:
    """Write the labeled JPEG files of `table` into the new folder `out`, with faults, and say which.

    Raises InputError where `out` exists, DataError where there are too few images or classes.
    """
    if out.exists():
        raise InputError("already exists and is never overwritten", where=str(out))
    _check(options)
    rng = np.random.Generator(np.random.Philox(key=options.seed))
    placed = _placed(table, options, rng)
    planned = _Plan(table=table, placed=placed, rng=rng, options=options)
    faults: list[Fault] = []

    def write(folder: Path) -> None:
        for name, data, fault in planned.files():
            path = folder / PurePosixPath(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            if fault is not None:
                faults.append(fault)
        (folder / "faults.csv").write_text(faults_table(faults), encoding="utf-8")

    publish_folder(out, write)
    extra = sum(one.fault in ("exact", "near", "group") for one in faults)
    return Truth(faults=tuple(faults), images=len(placed) + extra)


def faults_table(faults: list[Fault]) -> str:
    """CSV with COLUMNS, one row a planted file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((one.name, one.fault, one.how, one.source, one.true_label) for one in faults)
    return text.getvalue()


def read_truth(folder: Path) -> Truth:
    """What `plant` has written into `folder`."""
    with (folder / "faults.csv").open(encoding="utf-8", newline="") as file:
        rows = tuple(Fault(**{name: row[name] for name in COLUMNS}) for row in csv.DictReader(file))
    return Truth(faults=rows, images=sum(1 for _ in folder.rglob("*.jpg")))


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which image gets which fault: the placed images are in random order, so faults take turns."""

    table: ImageTable
    placed: list[_Placed]
    rng: np.random.Generator
    options: FaultOptions

    def files(self) -> Iterator[tuple[str, bytes, Fault | None]]:
        """Every file of the new folder: name, bytes, and the fault where it is one."""
        options, total = self.options, len(self.placed)
        counts = {
            "corrupt": round(options.corrupt * total),
            "exact": round(options.exact_duplicates * total),
            "near": round(options.near_duplicates * total),
            "wrong_label": round(options.wrong_labels * total),
            "group": options.leaking_groups,
        }
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        if len(kinds) > total:
            raise DataError("too few images for so many faults", received=f"{total} images, {len(kinds)} faults")
        numbers = iter(_spare_numbers(self.placed, self.rng))
        labels = sorted({one.label for one in self.placed})
        for place, one in enumerate(self.placed):
            data = _bytes(self.table, one.row)
            kind = kinds[place] if place < len(kinds) else ""
            if kind in ("", "exact", "near", "group"):
                yield one.name(), data, None
            yield from self._planted(kind, place, one, data, labels, numbers)

    def _planted(
        self, kind: str, place: int, one: _Placed, data: bytes, labels: list[str], numbers: Iterator[int]
    ) -> Iterator[tuple[str, bytes, Fault | None]]:
        def fault(name: str, how: str) -> Fault:
            return Fault(name=name, fault=kind, how=how, source=one.name(), true_label=one.label)

        if kind == "corrupt":
            how = CORRUPTIONS[place % len(CORRUPTIONS)]
            yield one.name(), _corrupted(data, how, self.rng), fault(one.name(), how)
        elif kind == "exact":
            name = one.name(number=next(numbers))
            yield name, data, fault(name, "copied")
        elif kind == "near":
            name, how = one.name(number=next(numbers)), NEAR[place % len(NEAR)]
            yield name, _near(data, how, self.rng), fault(name, how)
        elif kind == "wrong_label":
            others = [label for label in labels if label != one.label]
            name = one.name(label=others[int(self.rng.integers(len(others)))])
            yield name, data, Fault(name=name, fault=kind, how="moved", source=name, true_label=one.label)
        elif kind == "group":
            for frame in range(FRAMES):
                split = _SPLITS[(_SPLITS.index(one.split) + frame) % 3]
                name = one.name(number=next(numbers), split=split)
                yield name, _another_picture(data, self.rng), fault(name, "same object")


def _check(options: FaultOptions) -> None:
    for name in ("corrupt", "exact_duplicates", "near_duplicates", "wrong_labels", "val", "test"):
        if not 0 <= getattr(options, name) <= 0.45:
            raise InputError("must be from 0 to 0.45", where=name, received=repr(getattr(options, name)))
    if options.leaking_groups < 0:
        raise InputError("must be 0 or more", where="leaking_groups", received=str(options.leaking_groups))


def _placed(table: ImageTable, options: FaultOptions, rng: np.random.Generator) -> list[_Placed]:
    labels = table.label_array()
    rows = np.flatnonzero(labels >= 0)
    if len(np.unique(labels[rows])) < 2:
        raise DataError("faults need images of two classes or more", where=table.source)
    rows = rng.permutation(rows)
    ends = np.cumsum([1 - options.val - options.test, options.val]) * len(rows)
    splits = np.searchsorted(ends, np.arange(len(rows)), side="right")[rng.permutation(len(rows))]
    numbers = rng.permutation(2 * len(rows) + 1000)[: len(rows)]
    return [
        _Placed(row=int(row), label=table.labels.names[labels[row]], split=_SPLITS[split], number=int(number))
        for row, split, number in zip(rows, splits, numbers, strict=True)
    ]


def _spare_numbers(placed: list[_Placed], rng: np.random.Generator) -> list[int]:
    taken = np.array([one.number for one in placed])
    return [int(number) for number in rng.permutation(np.setdiff1d(np.arange(2 * len(placed) + 1000), taken))]


def _bytes(table: ImageTable, row: int) -> bytes:
    data = table.read(row)
    if not isinstance(data, bytes):
        raise DataError("faults are planted into image files only", where=table.source)
    return data


def _corrupted(data: bytes, how: str, rng: np.random.Generator) -> bytes:
    if how == "empty":
        return b""
    if how == "truncated":
        return data[: int(len(data) * rng.uniform(0.3, 0.7))]
    while True:
        damaged = bytearray(data)
        for place in rng.integers(2, min(len(data), 700), 4):
            damaged[place] ^= 1 << int(rng.integers(8))
        if not _decodes(bytes(damaged)):
            return bytes(damaged)


def _decodes(data: bytes) -> bool:
    with suppress(Exception):  # a decoder raises nearly every kind there is
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        return True
    return False


def _near(data: bytes, how: str, rng: np.random.Generator) -> bytes:
    """Nearly the same picture: encoded anew, and resized, cropped by up to 5 %, brightened or slightly blurred."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    changes: dict[str, Callable[[], Image.Image]] = {
        "encoded": lambda: image,
        "resized": lambda: _resized(image, float(rng.uniform(0.6, 0.9))),
        "cropped": lambda: _cropped(image, float(rng.uniform(0.02, 0.05)), rng),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(float(rng.choice((0.85, 1.15)))),
        "blurred": lambda: image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.0)))),
    }
    return _jpeg(changes[how](), quality=int(rng.integers(60, 86)))


def _another_picture(data: bytes, rng: np.random.Generator) -> bytes:
    """The same object once more: the camera has moved and turned a little, the light has changed, the noise is new."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    shift = (rng.uniform(-0.02, 0.02, 2) * image.size).tolist()
    turned = image.rotate(
        float(rng.uniform(-1.5, 1.5)), Image.Resampling.BICUBIC, translate=(round(shift[0]), round(shift[1]))
    )
    edge = (round(0.04 * image.width), round(0.04 * image.height))  # wider than what moving and turning leave black
    box = (*edge, image.width - edge[0], image.height - edge[1])
    inner = turned.resize(image.size, Image.Resampling.BICUBIC, box=box)
    pixels = np.asarray(inner, np.float32) * float(rng.uniform(0.93, 1.07)) + rng.normal(0, 2.0, (*inner.size[::-1], 1))
    return _jpeg(Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8)), quality=88)


def _resized(image: Image.Image, factor: float) -> Image.Image:
    size = max(8, round(image.width * factor)), max(8, round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """`share` of the width and of the height cut off, at random sides."""
    width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _jpeg(image: Image.Image, *, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
