"""Planted faults: as many as asked, each what it says, and nothing else changed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.core.errors import DataError, InputError
from sortal.data.open import images
from sortal.data.synth.faults import FRAMES, FaultOptions, plant, read_truth
from sortal.data.table import ImageTable

OPTIONS = FaultOptions(
    corrupt=0.1, exact_duplicates=0.1, near_duplicates=0.1, wrong_labels=0.1, leaking_groups=2, seed=3
)


def _decodes(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    """Sixty smooth pictures of three classes that a JPEG keeps apart."""
    folder = tmp_path_factory.mktemp("source")
    random = np.random.default_rng(0)
    for label in ("nut", "bolt", "垫圈"):
        (folder / label).mkdir()
        for number in range(20):
            small = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            small.resize((64, 64), Image.Resampling.BICUBIC).save(folder / label / f"{number}.jpg", quality=92)
    return images(folder)


@pytest.fixture(scope="module")
def planted(source: ImageTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("planted") / "out"
    plant(source, out, OPTIONS)
    return out


def test_as_many_as_asked_and_no_image_has_two(source: ImageTable, planted: Path) -> None:
    truth = read_truth(planted)
    counts = {fault: len(truth.of(fault)) for fault in ("corrupt", "exact", "near", "wrong_label", "group")}
    assert counts == {"corrupt": 6, "exact": 6, "near": 6, "wrong_label": 6, "group": 2 * FRAMES}
    assert truth.images == len(source) + 6 + 6 + 2 * FRAMES
    touched = [one.source for one in truth.faults if one.fault != "group"] + [one.source for one in truth.of("group")]
    assert len(set(touched)) == 6 * 4 + 2


def test_each_fault_is_what_it_says(planted: Path) -> None:
    truth = read_truth(planted)
    read = {one.name: (planted / one.name).read_bytes() for one in truth.faults}
    assert not any(_decodes(read[one.name]) for one in truth.of("corrupt"))
    assert {one.how for one in truth.of("corrupt")} == {"truncated", "bit_flips", "empty"}
    for one in truth.of("exact"):
        assert read[one.name] == (planted / one.source).read_bytes()
    for one in (*truth.of("near"), *truth.of("group")):
        assert read[one.name] != (planted / one.source).read_bytes()
        assert _decodes(read[one.name])
    for one in truth.of("wrong_label"):
        assert one.name.split("/")[1] != one.true_label


def test_copies_stay_in_their_split_and_groups_are_in_all(planted: Path) -> None:
    truth = read_truth(planted)
    for one in (*truth.of("exact"), *truth.of("near")):
        assert one.name.split("/")[:2] == one.source.split("/")[:2]
    assert len(truth.groups) == 2
    for group in truth.groups:
        assert len(group) == FRAMES + 1
        assert {name.split("/")[0] for name in group} == {"train", "val", "test"}


def test_near_copies_look_like_their_source(planted: Path) -> None:
    def tiny(name: str) -> np.ndarray:
        with Image.open(planted / name) as image:
            return np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BOX), float)

    for one in read_truth(planted).of("near"):
        assert np.abs(tiny(one.name) - tiny(one.source)).mean() < 30


def test_the_same_seed_gives_the_same_bytes(source: ImageTable, planted: Path, tmp_path: Path) -> None:
    plant(source, tmp_path / "again", OPTIONS)
    files = {path.relative_to(planted): path.read_bytes() for path in planted.rglob("*") if path.is_file()}
    again = {path.relative_to(tmp_path / "again"): path.read_bytes() for path in (tmp_path / "again").rglob("*.*")}
    assert files == again


def test_the_truth_is_read_back(source: ImageTable, tmp_path: Path) -> None:
    truth = plant(source, tmp_path / "out", OPTIONS)
    assert read_truth(tmp_path / "out") == truth


def test_what_cannot_be_planted_is_refused(source: ImageTable, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="never overwritten"):
        plant(source, tmp_path / "there", OPTIONS)
    with pytest.raises(InputError, match="must be"):
        plant(source, tmp_path / "new", FaultOptions(corrupt=0.9))
    with pytest.raises(DataError, match="two classes"):
        plant(source.select(np.arange(5)), tmp_path / "new", OPTIONS)
    assert not (tmp_path / "new").exists()
