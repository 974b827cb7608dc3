"""Prepared images and frozen features: the same from files, memory, a file of the run and the shared cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corpus.craft import exif, saved
from sortal.core.preprocess import PreprocessSpec, apply, prepare
from sortal.core.progress import Silent
from sortal.data import decode
from sortal.data.cache import cache_info
from sortal.data.decode import to_pixels
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable
from sortal.train import features as features_module
from sortal.train import store
from sortal.train.fast_pixels import fast_prepare
from sortal.train.features import extract
from sortal.train.store import Decoding, Images, prepared

SPEC = PreprocessSpec(size=(24, 24), resize="crop", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2))
BROKEN = 4


class Telling(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.last = (0, 0)

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.last = (done, total)


@pytest.fixture(autouse=True)
def _cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    """Twenty photographs and drawings of many sizes and kinds; one is no image inside."""
    random = np.random.default_rng(0)
    for number in range(20):
        shape = int(random.integers(30, 200)), int(random.integers(30, 200)), 3
        pixels = np.linspace(0, 255, int(np.prod(shape))).reshape(shape) + random.normal(0, 5, shape)
        path = tmp_path / "set" / "ab"[number % 2] / f"{number:02}.{'png' if number % 5 == 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.clip(pixels, 0, 255).astype(np.uint8)
        path.write_bytes(saved(image, "PNG" if path.suffix == ".png" else "JPEG", exif=exif(1 + number % 8)))
    path = tmp_path / "set" / "a" / f"{BROKEN:02}.jpg"
    path.write_bytes(saved(np.zeros((50, 50, 3), np.uint8), "PNG")[:-40])
    found = scan(images(tmp_path / "set"))
    return found.with_columns({"split": ["train"] * len(found)})


def read(
    table: ImageTable,
    *,
    keep: bool = False,
    decode: Decoding = "fast",
    threads: int = 2,
    folder: Path | None = None,
    spec: PreprocessSpec = SPEC,
) -> tuple[np.ndarray, Telling, int, Images]:
    """All pixels, what was said, how many rows are unreadable, and the images."""
    telling = Telling()
    rows = table.split_rows("train")
    settings = {"folder": folder, "threads": threads, "listener": telling, "stage": "train", "keep": keep}
    with prepared(table, rows, spec, decode=decode, **settings) as (found, findings):
        pixels = found.take(np.arange(len(found)))
    return pixels, telling, sum(len(finding.rows) for finding in findings), found


@pytest.fixture(params=["memory", "file", "packs", "nowhere"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """Where prepared pixels of a run lie."""
    if request.param != "memory":
        monkeypatch.setattr(store, "MEMORY_BYTES", 0)
    yield {"folder": tmp_path / "run" if request.param == "file" else None, "keep": request.param == "packs"}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("decoding", ["reference", "fast"])
@pytest.mark.parametrize("threads", [0, 3])
def test_the_same_pixels_wherever_they_lie_and_whoever_reads_them(
    table: ImageTable, place: dict, decoding: Decoding, threads: int
) -> None:
    pixels, _, unreadable, found = read(table, decode=decoding, threads=threads, **place)
    assert unreadable == 1
    assert len(found) == 19
    way = fast_prepare if decoding == "fast" else lambda spec, data: prepare(spec, to_pixels(data))
    expected = np.stack([way(SPEC, table.read(int(row))) for row in found.rows])
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, expected)
    assert np.array_equal(found.labels, table.label_array()[found.rows])
    assert np.array_equal(found.take([3, 3, 0]), expected[[3, 3, 0]])


def test_images_of_two_sizes_do_not_share_a_file(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read(table, decode="reference")[0]
    monkeypatch.setattr(store, "MEMORY_BYTES", 0)
    rows, larger = table.split_rows("train"), SPEC.model_copy(update={"size": (32, 32)})
    settings = {"folder": tmp_path / "run", "threads": 0, "listener": Silent(), "stage": "train", "keep": False}
    with prepared(table, rows, SPEC, **settings) as (small, _), prepared(table, rows, larger, **settings) as (large, _):
        assert large.take([0]).shape[1:3] == (32, 32)
        assert np.array_equal(small.take(np.arange(len(small))), expected)


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_the_second_run_reads_no_file(table: ImageTable, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MEMORY_BYTES", memory)
    first, telling, _, _ = read(table, keep=True)
    assert telling.said == []
    for row in range(len(table)):
        if f"{BROKEN:02}" not in table.name(row):
            table.path(row).unlink()
    again, telling, unreadable, _ = read(table, keep=True)
    assert np.array_equal(first, again)
    assert unreadable == 1
    assert telling.said == ["train: 19 of 20 from the cache"]
    assert telling.last == (20, 20)


def test_other_sizes_ways_and_fills_are_other_images(table: ImageTable) -> None:
    read(table, keep=True)
    for other in (
        {"decode": "reference"},
        {"spec": SPEC.model_copy(update={"size": (20, 24)})},
        {"spec": SPEC.model_copy(update={"resize": "pad"})},
        {"spec": SPEC.model_copy(update={"resize": "pad", "mean": (0.1, 0.1, 0.1)})},
    ):
        cached, telling, _, _ = read(table, keep=True, **other)
        assert telling.said == []
        assert np.array_equal(cached, read(table, **other)[0])
    other_norm = SPEC.model_copy(update={"mean": (0.1, 0.1, 0.1), "std": (1.0, 1.0, 1.0)})
    assert read(table, keep=True, spec=other_norm)[1].said == ["train: 19 of 20 from the cache"]


def test_an_image_that_changed_is_read_again_and_a_renamed_one_is_not(table: ImageTable, tmp_path: Path) -> None:
    read(table, keep=True)
    folder = tmp_path / "set" / "b"
    Image.new("RGB", (60, 60), (10, 200, 30)).save(folder / "01.jpg")
    (folder / "05.jpg").rename(folder / "renamed.jpg")
    later = scan(images(tmp_path / "set"))
    later = later.with_columns({"split": ["train"] * len(later)})
    pixels, telling, _, found = read(later, keep=True)
    assert telling.said == ["train: 18 of 20 from the cache"]
    names = [later.name(int(row)) for row in found.rows]
    assert abs(int(pixels[names.index("b/01.jpg")][12, 12, 1]) - 200) < 4


def test_a_damaged_cache_changes_nothing_but_the_time(table: ImageTable, tmp_path: Path) -> None:
    before = read(table, keep=True)[0]
    (path,) = (tmp_path / "cache").rglob("*.pack")
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    assert np.array_equal(read(table, keep=True)[0], before)
    path.write_bytes(data[: len(data) // 2])
    assert np.array_equal(read(table, keep=True)[0], before)
    shutil.rmtree(tmp_path / "cache")
    assert np.array_equal(read(table, keep=True)[0], before)


def test_a_full_or_read_only_cache_is_said_once(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read(table)[0]
    monkeypatch.setenv("SORTAL_CACHE_GB", "0.00000001")
    pixels, telling, _, _ = read(table, keep=True)
    assert np.array_equal(pixels, expected)
    assert len(telling.said) == 1
    assert "full" in telling.said[0]
    monkeypatch.delenv("SORTAL_CACHE_GB")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(store, "MEMORY_BYTES", 0)
    pixels, telling, _, _ = read(table, keep=True)
    assert np.array_equal(pixels, expected)
    assert len(telling.said) == 1


def test_an_error_names_its_row(table: ImageTable) -> None:
    row = next(row for row in range(len(table)) if f"{BROKEN:02}" in table.name(row))
    with pytest.raises(decode.ImageError) as caught:
        store.read_image(table, row, SPEC)
    assert caught.value.where == table.name(row)


def mean_color(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=(2, 3))


def test_features_are_computed_once_for_each_image_spec_and_extractor(table: ImageTable) -> None:
    rows, seen = table.split_rows("train"), []

    def extractor(batch: np.ndarray) -> np.ndarray:
        seen.append(len(np.unique(batch.reshape(len(batch), -1), axis=0)))
        return mean_color(batch)

    def run(key: str | None, spec: PreprocessSpec = SPEC) -> tuple[np.ndarray, int, Telling]:
        telling = Telling()
        seen.clear()
        found, findings = extract(table, rows, spec, extractor, threads=2, listener=telling, stage="features", key=key)
        assert sum(len(finding.rows) for finding in findings) == 1
        assert len(found.rows) == len(found.labels) == len(found.values) == 19
        return found.values, sum(seen), telling

    expected = np.stack(
        [
            mean_color(apply(SPEC, to_pixels(table.read(int(row))))[None])[0]
            for row in rows
            if f"{BROKEN:02}" not in table.name(int(row))
        ]
    )
    values, computed, _ = run("net one")
    assert (computed, values.dtype) == (19, np.float32)
    assert np.array_equal(values, expected)
    values, computed, telling = run("net one")
    assert computed == 0
    assert telling.said == ["features: 19 of 20 from the cache"]
    assert telling.last == (20, 20)
    assert np.array_equal(values, expected)
    assert run("net two")[1] == 19
    assert run("net one", SPEC.model_copy(update={"std": (1.0, 1.0, 1.0)}))[1] == 19
    items = cache_info().items
    assert items == {"images": 0, "features": 57, "surveys": 0}
    assert run(None)[1] == 19
    assert cache_info().items == items


def test_features_of_some_new_images_among_known_ones_are_in_order(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "_BATCH", 3)
    rows = table.split_rows("train")
    settings = {"threads": 2, "listener": Silent(), "stage": "features"}
    extract(table, rows[::2], SPEC, mean_color, key="net", **settings)
    mixed, _ = extract(table, rows, SPEC, mean_color, key="net", **settings)
    plain, _ = extract(table, rows, SPEC, mean_color, **settings)
    assert np.array_equal(mixed.values, plain.values)
    assert np.array_equal(mixed.rows, plain.rows)


def test_features_do_not_depend_on_which_were_known(table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are chosen by the size of a batch and round differently; here the size is all that counts."""
    monkeypatch.setattr(features_module, "_BATCH", 8)
    rows = table.split_rows("train")
    settings = {"threads": 2, "listener": Silent(), "stage": "features"}

    def sized(batch: np.ndarray) -> np.ndarray:
        return mean_color(batch) + len(batch)

    whole, _ = extract(table, rows, SPEC, sized, **settings)
    extract(table, rows[:5], SPEC, sized, key="net", **settings)  # killed after some of them
    again, _ = extract(table, rows, SPEC, sized, key="net", **settings)
    assert np.array_equal(whole.values, again.values)


def test_no_readable_image_gives_no_features(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    table = images(tmp_path / "bad")
    found, findings = extract(
        table, np.arange(2), SPEC, mean_color, threads=0, listener=Silent(), stage="features", key="net"
    )
    assert (len(found.rows), len(found.values), len(findings)) == (0, 0, 1)
