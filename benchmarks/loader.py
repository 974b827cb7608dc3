"""The training loader against the usual one: 2-process torch DataLoader, Pillow, torchvision transforms; 2 CPUs.

    python benchmarks/loader.py [--photos IMAGES] [--trials 5]
    python benchmarks/loader.py --accuracy IMAGES --card CARD.yaml [--size 224] [--splits 10] [--most N]

Both read the same JPEG files, 500x375 and 2000x1500, patched together from sharp pieces: of photographs (any source of
images of 320 px and more), else of drawn parts. Both deliver normalized float32 batches of 32 random resized crops
(8 to 100 % of the area) of 224 px with mirror images. The usual loader decodes every image in every epoch; its workers
are started before the clock, and before this process keeps freed memory as `sortal train` does. Ours: `uncached` is a
first run with an empty cache, from the files through preparation and writing the cache to the last batch of its first
epoch; `on demand` decodes in every epoch, for sets that have room nowhere; `next run` is the first epoch of a run that
finds the cache; `cached` is any later epoch. Ways are measured in turn; medians with their range, of wall and of CPU
time (its workers included), and the ratio of the usual loader to ours. On a machine that others use too, trust the CPU
times.

`--accuracy` fits linear heads on frozen features of training pixels made by the reference and by the fast way, and
judges both on the same validation images by the reference, over random 70/30 splits.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.core.progress import Silent
from sortal.core.sections import AugmentSection
from sortal.data.cache import clear_cache
from sortal.data.decode import to_pixels
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.options import SynthOptions
from sortal.data.table import ImageTable
from sortal.train.allocator import keep_freed_memory
from sortal.train.augment import AUGMENTATIONS, ClassFacts
from sortal.train.loader import TrainLoader
from sortal.train.sampling import make_sampler
from sortal.train.store import Decoding, Images, prepared, read_image

BATCH, WORKERS, SIDE, PIECE = 32, 2, 224, 320
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPEC = PreprocessSpec(size=(SIDE, SIDE), mean=MEAN, std=STD)
SECTION = AugmentSection(crop_scale=(0.08, 1.0), flip=0.5, brightness=0.0, contrast=0.0)
KINDS = {(500, 375): 320, (2000, 1500): 96}
"""(width, height): number of files."""
LAYOUT = torch.channels_last


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds an image."""

    wall_s: float
    cpu_s: float


def pieces(photos: Path | None, folder: Path) -> list[NDArray[np.uint8]]:
    """Square pictures of PIECE pixels."""
    if photos is None:
        photos = synthesize(folder / "drawn", SynthOptions(classes=12, images=60, size_px=PIECE)).path
    table = images(photos)
    found = []
    for row in np.random.default_rng(0).permutation(len(table))[:400]:
        pixels = to_pixels(table.read(int(row)))
        if min(pixels.shape[:2]) >= PIECE:
            found.append(pixels[:PIECE, :PIECE].astype(np.uint8))
    if not found:
        raise SystemExit(f"no image of {PIECE} px or more in {photos}")
    return found


def write_files(folder: Path, size: tuple[int, int], count: int, parts: list[NDArray[np.uint8]]) -> ImageTable:
    """`count` JPEG files of patched pieces in two classes."""
    random = np.random.default_rng(1)
    for number in range(count):
        canvas = np.empty((-(-size[1] // PIECE) * PIECE, -(-size[0] // PIECE) * PIECE, 3), np.uint8)
        for top in range(0, canvas.shape[0], PIECE):
            for left in range(0, canvas.shape[1], PIECE):
                canvas[top : top + PIECE, left : left + PIECE] = parts[random.integers(len(parts))]
        path = folder / "ab"[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(canvas[: size[1], : size[0]]).save(path, quality=90)
    table = scan(images(folder))
    return table.with_columns({"split": ["train"] * len(table)})


class Files(Dataset[tuple[torch.Tensor, int]]):
    """What everybody writes."""

    def __init__(self, table: ImageTable):
        self.paths = [table.path(row) for row in range(len(table))]
        self.labels = table.label_array()
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIDE),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[number]) as image:
            return self.transform(image.convert("RGB")), int(self.labels[number])


def measured(work: Callable[[], int], workers: Callable[[], list[int]] = list) -> Cost:
    """Cost of an image of `work`, which returns how many it delivered; `workers` are processes that help."""
    processes = [psutil.Process(pid) for pid in (os.getpid(), *workers())]
    before, started_s = sum(map(_cpu_s, processes)), time.perf_counter()
    count = work()
    wall_s = time.perf_counter() - started_s
    return Cost(wall_s=wall_s / count, cpu_s=(sum(map(_cpu_s, processes)) - before) / count)


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


class Usual:
    """The usual loader, its workers running."""

    def __init__(self, table: ImageTable):
        self.loader = DataLoader(
            Files(table), batch_size=BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
        )
        self.epoch()

    def epoch(self) -> int:
        """One epoch; how many images came."""
        return sum(len(batch) for batch, _ in self.loader)

    def workers(self) -> list[int]:
        """Their process numbers."""
        return [worker.pid for worker in self.loader._iterator._workers]  # type: ignore[union-attr]


def loader_of(table: ImageTable, found: Images) -> TrainLoader:
    """Our loader as `sortal train` makes it."""
    facts = ClassFacts(names=table.labels.names, counts=np.bincount(found.labels, minlength=2))
    return TrainLoader(
        images=found,
        spec=SPEC,
        policy=AUGMENTATIONS.get("basic")(SECTION, SPEC, facts),
        section=SECTION,
        sampler=make_sampler("none", found.labels, 2, 0),
        classes=2,
        batch=BATCH,
        seed=0,
        workers=WORKERS,
    )


@contextmanager
def material(table: ImageTable, folder: Path) -> Iterator[Images]:
    """Images prepared as for training, through the cache."""
    spec = loader_of(table, _on_demand(table, SPEC)).policy.stored(SPEC)
    rows = table.split_rows("train")
    settings: dict[str, Any] = {"threads": WORKERS, "listener": Silent(), "stage": "train", "keep": True}
    with prepared(table, rows, spec, folder=folder, decode="fast", **settings) as (found, _):
        yield found


def _on_demand(table: ImageTable, spec: PreprocessSpec) -> Images:
    rows = table.split_rows("train")
    return Images(table=table, rows=rows, labels=table.label_array()[rows], spec=spec, decoding="fast")


def epoch(loader: TrainLoader, number: int = 0) -> int:
    """One epoch of ours, each batch normalized as the training step gets it."""
    count = 0
    for batch in loader.epoch(number):
        count += len(loader.finish(batch, torch.device("cpu"), LAYOUT)[0])
    return count


def ours(table: ImageTable, folder: Path) -> dict[str, Cost]:
    """The four ways of our loader."""

    def run() -> int:
        with material(table, folder) as found:
            return epoch(loader_of(table, found))

    clear_cache()
    costs = {"uncached": measured(run), "next run": measured(run)}
    with material(table, folder) as found:
        loader = loader_of(table, found)
        costs["cached"] = measured(lambda: sum(epoch(loader, number) for number in range(8)))
        demanded = loader_of(table, _on_demand(table, found.spec))
    costs["on demand"] = measured(lambda: epoch(demanded))
    return costs


def compare(size: tuple[int, int], folder: Path, table: ImageTable, usual: Usual, trials: int) -> None:
    """Measure in turn and print rows of the table."""
    os.environ["SORTAL_CACHE"] = str(folder / "cache")
    seen: dict[str, list[Cost]] = {}
    for _ in range(trials):
        for way, cost in {"usual": measured(usual.epoch, usual.workers), **ours(table, folder)}.items():
            seen.setdefault(way, []).append(cost)
    for way in seen:
        print(_row(size, way, seen[way], seen["usual"]), flush=True)


def _row(size: tuple[int, int], way: str, costs: list[Cost], usual: list[Cost]) -> str:
    cells = [f"{size[0]}x{size[1]}", way]
    for part in ("wall_s", "cpu_s"):
        ours_s, theirs_s = ([getattr(cost, part) for cost in side] for side in (costs, usual))
        ratios = [theirs / mine for theirs, mine in zip(theirs_s, ours_s, strict=True)]
        cells.append(_spread([1e3 * value for value in ours_s], "{:.2f}"))
        cells.append("1" if way == "usual" else _spread(ratios, "{:.1f}"))
    return "| " + " | ".join(cells) + " |"


def _spread(values: list[float], shown: str) -> str:
    return f"**{shown}** ({shown} to {shown})".format(statistics.median(values), min(values), max(values))


def accuracy(source: Path, card: str, side: int, splits: int, most: int) -> None:
    """Validation accuracy of heads that were fitted on reference and on fast training pixels."""
    from sortal.models.backbones import create
    from sortal.models.resolve import resolve
    from sortal.train.features import live_extractor
    from sortal.train.probe import choose_strength

    table = images(source)
    known = np.flatnonzero(table.label_array() >= 0)
    known = np.sort(np.random.default_rng(0).permutation(known)[:most])
    labels, classes = table.label_array()[known], len(table.labels)
    run = live_extractor(create(resolve(card, offline=True), classes=classes, size=(side, side)))
    spec = SPEC.model_copy(update={"size": (side, side)})
    ways: tuple[Decoding, ...] = ("reference", "fast")
    made = {way: _features(table, known, spec, run, way) for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(known))
        fitted, judged = order[: int(0.7 * len(order))], order[int(0.7 * len(order)) :]
        for way in ways:
            choice = choose_strength(
                made[way][fitted], labels[fitted], made["reference"][judged], labels[judged], classes
            )
            answers = choice.head.logits(made["reference"][judged]).argmax(1)
            rates[way].append(100 * float(np.mean(answers == labels[judged])))
    differences = np.subtract(rates["fast"], rates["reference"])
    pixels = [
        np.abs(read_image(table, int(row), spec, "fast").astype(int) - read_image(table, int(row), spec)).mean()
        for row in known[:: max(1, len(known) // 200)]
    ]
    error = differences.std(ddof=1) / splits**0.5
    print(
        f"{source.name} at {side} px, {splits} splits of {len(known):,} images: reference "
        f"{np.mean(rates['reference']):.2f} %, fast {np.mean(rates['fast']):.2f} %, difference "
        f"{differences.mean():+.3f} points (standard error {error:.3f}); pixels differ by "
        f"{np.mean(pixels):.2f} grey levels"
    )


def _features(
    table: ImageTable, rows: NDArray[np.int64], spec: PreprocessSpec, run: Callable[..., Any], way: Decoding
) -> NDArray[np.float32]:
    found = []
    for start in range(0, len(rows), BATCH):
        batch = np.stack([read_image(table, int(row), spec, way) for row in rows[start : start + BATCH]])
        found.append(run(normalize(spec, batch)))
    return np.concatenate(found)


def main() -> None:
    """Print the table, or the effect on accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--accuracy", type=Path, metavar="IMAGES")
    parser.add_argument("--card")
    parser.add_argument("--size", type=int, default=SIDE)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--most", type=int, default=100_000, help="images that the accuracy is judged with")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.accuracy is not None:
        accuracy(asked.accuracy, asked.card, asked.size, asked.splits, asked.most)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = pieces(asked.photos, folder)
        tables = {size: write_files(folder / f"{size[0]}", size, count, parts) for size, count in KINDS.items()}
        usual = {size: Usual(table) for size, table in tables.items()}
        keep_freed_memory()
        print("| files | loader | wall, ms an image | ratio | CPU, ms an image | ratio |\n|---|---|---|---|---|---|")
        for size, table in tables.items():
            compare(size, folder, table, usual[size], asked.trials)


if __name__ == "__main__":
    main()
