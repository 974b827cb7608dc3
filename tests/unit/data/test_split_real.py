"""The real sets of a development machine: official counts, duplicates, and splits; read straight from the tars."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.split import check_leaks, split
from sortal.data.statistics import statistics
from sortal.data.table import SPLITS

SHARED = Path(os.environ.get("SORTAL_SHARED", Path(__file__).parents[4] / "shared")) / "data"

pytestmark = pytest.mark.real


def _pack(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not here; set SORTAL_SHARED to the folder that holds data/{name}")
    return path


def test_grocery_has_its_official_splits_and_taxonomy() -> None:
    table = images(_pack("grocery.tar"))
    assert [table.split_rows(name).size for name in SPLITS] == [2640, 296, 2485]
    coarse = table.labels.coarse()
    assert coarse is not None
    assert (len(table.labels), len(coarse)) == (81, 43)
    missing = next(found for found in table.findings if found.code == "class_missing_in_split")
    assert missing.message.startswith("21 of 81 classes have no image in val")
    assert len(images(_pack("grocery.tar"), level="coarse").labels) == 43


def test_xsdd_has_its_nine_duplicate_pairs_and_keeps_them_together() -> None:
    table = scan(images(_pack("xsdd.tar")))
    assert (len(table), len(table.labels)) == (1360, 7)
    duplicates = next(found for found in table.findings if found.code == "exact_duplicates")
    assert len(duplicates.rows) == 18
    done = split(table, val=0.0, test=0.3, seed=0)
    assert check_leaks(done) == ()
    assert done.split_rows("test").size == 408
    assert statistics(done).metrics["imbalance_ratio"].value == pytest.approx(397 / 63)


def test_cifar_part_from_the_tar_gets_a_validation_split() -> None:
    done = split(images(_pack("cifar10_12k.tar")), val=0.15, test=0.15, seed=0)
    assert [done.split_rows(name).size for name in SPLITS] == [8500, 1500, 2000]


def test_pneumoniamnist_arrays(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(_pack("pneumoniamnist.tar")) as archive:
        member = next(info for info in archive if info.name.endswith(".npz"))
        file = archive.extractfile(member)
        assert file is not None
        (tmp_path / "pneumoniamnist.npz").write_bytes(file.read())
    table = scan(images(tmp_path / "pneumoniamnist.npz"))
    assert (len(table), len(table.labels)) == (5030, 2)
    assert [table.split_rows(name).size for name in SPLITS] == [3882, 524, 624]
