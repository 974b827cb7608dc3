from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gratings import recipe
from sortal.core.errors import DataError
from sortal.core.preprocess import PreprocessSpec, apply
from sortal.core.progress import Silent
from sortal.data.open import images
from sortal.data.table import ImageTable
from sortal.train import store
from sortal.train.augment import AUGMENTATIONS, ClassFacts
from sortal.train.loader import Batch, TrainLoader, eval_batches
from sortal.train.sampling import make_sampler
from sortal.train.store import Images, in_order, prepared
from sortal.train.team import SOLO, Team

SPEC = PreprocessSpec(size=(16, 16), resize="pad", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2))


def loader_of(
    table: ImageTable,
    *settings: str,
    workers: int = 0,
    spec: PreprocessSpec = SPEC,
    remedy: str = "none",
    team: Team = SOLO,
) -> TrainLoader:
    chosen = recipe(*settings)
    rows, classes = table.split_rows("train"), len(table.labels)
    with prepared(table, rows, spec, folder=None, threads=2, listener=Silent(), stage="train") as (found, _):
        pass
    facts = ClassFacts(names=table.labels.names, counts=np.bincount(found.labels, minlength=classes))
    return TrainLoader(
        images=found,
        spec=spec,
        policy=AUGMENTATIONS.get(chosen.augment.name)(chosen.augment, spec, facts),
        section=chosen.augment,
        sampler=make_sampler(remedy, found.labels, classes, chosen.seed),
        classes=classes,
        batch=7,
        seed=chosen.seed,
        workers=workers,
        team=team,
    )


def uneven(table: ImageTable) -> ImageTable:
    """Only three training images of the first class are left."""
    rows = np.flatnonzero((table.label_array() == 0) & (table.frame["split"] == "train").to_numpy())
    kept = np.ones(len(table), np.bool_)
    kept[rows[3:]] = False
    return table.select(kept)


def finished(loader: TrainLoader, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return loader.finish(batch, torch.device("cpu"), torch.channels_last)


@pytest.mark.parametrize("settings", [(), ("augment.mixup=0.4", "augment.cutmix=1.0", "augment.erase=0.3")])
def test_batches_are_the_same_for_any_number_of_workers(
    make_table: Callable[..., ImageTable], settings: tuple[str, ...]
) -> None:
    table = make_table(train=10)
    alone, together = loader_of(table, *settings), loader_of(table, *settings, workers=3)
    pairs = list(zip(alone.epoch(2), together.epoch(2), strict=True))
    assert len(pairs) == alone.steps == 5
    for one, other in pairs:
        assert np.array_equal(one.pixels, other.pixels)
        for mine, theirs in zip(finished(alone, one), finished(together, other), strict=True):
            assert torch.equal(mine, theirs)


def test_an_epoch_shows_every_image_once_and_the_next_one_in_another_order(
    make_table: Callable[..., ImageTable],
) -> None:
    loader = loader_of(make_table(train=10))
    orders = [np.concatenate([batch.samples for batch in loader.epoch(epoch)]) for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(30))
    assert not np.array_equal(orders[0], orders[1])


def test_an_epoch_can_be_taken_up_in_the_middle(make_table: Callable[..., ImageTable]) -> None:
    loader = loader_of(make_table(train=10))
    whole, rest = list(loader.epoch(1)), list(loader.epoch(1, first_step=3))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(whole[3:], rest, strict=True))


def test_a_last_batch_of_one_image_is_left_out(make_table: Callable[..., ImageTable]) -> None:
    loader = loader_of(make_table(train=5))  # 15 images in batches of 7
    assert [len(batch.samples) for batch in loader.epoch(0)] == [7, 7]


def test_two_processes_share_every_batch_between_them(make_table: Callable[..., ImageTable]) -> None:
    table = make_table(train=11)
    whole = loader_of(table)
    parts = [loader_of(table, team=Team(rank=rank, size=2)) for rank in (0, 1)]
    batches = [list(loader.epoch(3)) for loader in (whole, *parts)]
    assert parts[0].steps == parts[1].steps == whole.steps == 5
    for joined, one, other in zip(*batches, strict=True):
        assert np.array_equal(np.concatenate([one.pixels, other.pixels]), joined.pixels)
        assert np.array_equal(np.concatenate([one.samples, other.samples]), joined.samples)
        share = [len(part.samples) / len(joined.samples) for part in (one, other)]
        assert [one.weight / 2, other.weight / 2] == pytest.approx(share)


def test_copies_of_an_image_in_one_epoch_are_varied_differently(make_table: Callable[..., ImageTable]) -> None:
    loader = loader_of(uneven(make_table(train=10)), remedy="sampler")
    seen: dict[int, list[np.ndarray]] = {}
    for batch in loader.epoch(0):
        for sample, image in zip(batch.samples.tolist(), batch.pixels, strict=True):
            seen.setdefault(sample, []).append(image)
    copies = [images for images in seen.values() if len(images) > 1]
    assert copies
    assert all(not np.array_equal(images[0], images[1]) for images in copies)


def test_partners_of_a_class_are_mixed_and_keep_its_label(make_table: Callable[..., ImageTable]) -> None:
    loader = loader_of(uneven(make_table(train=10)), "augment=none", remedy="mixup_rare")
    stored = {loader.images.take([n]).tobytes() for n in range(len(loader.images))}
    plan = loader.sampler.epoch(0)
    assert plan.partners is not None
    assert (plan.partners >= 0).any()
    mixed = [batch.pixels[i].tobytes() not in stored for batch in loader.epoch(0) for i in range(len(batch.samples))]
    partnered = (plan.partners >= 0).tolist()
    assert mixed == partnered[: len(mixed)]
    labels = loader.images.labels
    chosen = plan.partners >= 0
    assert np.array_equal(labels[plan.samples[chosen]], labels[plan.partners[chosen]])


def test_validation_batches_are_the_reference_exactly(make_table: Callable[..., ImageTable]) -> None:
    table = make_table(val=5, size=21)
    rows = table.split_rows("val")
    with prepared(table, rows, SPEC, folder=None, threads=2, listener=Silent(), stage="val") as (found, _):
        batches = np.concatenate(list(eval_batches(found, batch=4, workers=2)))
    expected = np.stack([apply(SPEC, table.read(int(row))) for row in rows])
    assert np.array_equal(batches, expected)


def test_the_preview_shows_the_first_images_as_they_are_trained_on(make_table: Callable[..., ImageTable]) -> None:
    loader = loader_of(make_table())
    pixels, labels = loader.preview(6)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (6, 16, 16, 3)
    first = next(iter(loader.epoch(0)))
    assert np.array_equal(labels, loader.images.labels[first.samples[:6]])


def write_folder(root: Path, broken: int) -> ImageTable:
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (20, 20), (number * 50, 90, 30)).save(root / label / f"{number}.png")
    for number in range(broken):
        (root / "ab"[number % 2] / f"{number // 2}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    table = images(root)
    return table.with_columns({"split": ["train"] * len(table)})


def test_unreadable_images_become_a_finding_and_never_a_row(tmp_path: Path) -> None:
    table = write_folder(tmp_path / "set", broken=3)
    rows = table.split_rows("train")
    with prepared(table, rows, SPEC, folder=None, threads=2, listener=Silent(), stage="train") as (found, findings):
        assert len(found) == len(rows) - 3
        assert found.take(np.arange(len(found))).shape == (len(rows) - 3, 16, 16, 3)
        assert all(np.ptp(image.reshape(-1, 3)[:, 1]) == 0 and image[8, 8, 1] == 90 for image in found.take([0, 1, 2]))
    (finding,) = findings
    assert (finding.code, finding.severity, len(finding.rows)) == ("unreadable", "warning", 3)


def test_a_split_without_a_readable_image_is_an_error(tmp_path: Path) -> None:
    table = write_folder(tmp_path / "set", broken=8)
    wanted = prepared(table, table.split_rows("train"), SPEC, folder=None, threads=0, listener=Silent(), stage="train")
    with pytest.raises(DataError), wanted:
        pass


def test_pixels_on_disk_in_memory_and_decoded_on_demand_are_equal(
    make_table: Callable[..., ImageTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, cache = make_table(size=40), tmp_path / "cache"
    rows = table.split_rows("train")

    def pixels(folder: Path | None) -> tuple[np.ndarray, Images, bool]:
        with prepared(table, rows, SPEC, folder=folder, threads=2, listener=Silent(), stage="t") as (found, _):
            return found.take(np.arange(len(rows))), found, cache.exists()

    kept, _, _ = pixels(None)
    monkeypatch.setattr(store, "MEMORY_BYTES", 0)
    on_disk, found, existed = pixels(cache)
    assert isinstance(found.pixels, np.memmap)
    assert existed
    assert not cache.exists()
    on_demand, found, _ = pixels(None)
    assert found.pixels is None
    assert np.array_equal(kept, on_disk)
    assert np.array_equal(kept, on_demand)


def test_unlabeled_rows_are_not_prepared(make_table: Callable[..., ImageTable]) -> None:
    table = make_table()
    labels = table.label_array()
    labels[table.split_rows("train")[0]] = -1
    table = replace(table, frame=table.with_columns({"label": labels}).frame)
    rows = table.split_rows("train")
    with prepared(table, rows, SPEC, folder=None, threads=0, listener=Silent(), stage="t") as (found, _):
        assert len(found) == len(rows) - 1


@pytest.mark.parametrize("threads", [0, 3])
def test_results_come_in_order_and_errors_come_through(threads: int) -> None:
    assert list(in_order(lambda n: n * n, range(50), threads=threads, ahead=4)) == [n * n for n in range(50)]

    def fail(n: int) -> int:
        if n == 3:
            raise ValueError(n)
        return n

    with pytest.raises(ValueError, match="3"):
        list(in_order(fail, range(50), threads=threads))
