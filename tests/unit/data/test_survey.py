"""The survey: one verdict a file, the same numbers however it is made, hashes that know near duplicates."""

from __future__ import annotations

import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from corpus.build import write_corpus
from scenes import saved, scene
from sortal.data import survey as module
from sortal.data.cache import cache_info
from sortal.data.look import look
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.survey import COLUMNS, HASH_BYTES, TINY_PX, Survey, survey
from sortal.data.table import ImageTable


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path_factory.mktemp("cache")))


def equal(one: tuple[ImageTable, Survey], other: tuple[ImageTable, Survey]) -> None:
    """Tables and surveys agree in everything."""
    assert one[0].frame.equals(other[0].frame)
    assert one[0].rejected.equals(other[0].rejected)
    assert one[0].findings == other[0].findings
    assert one[1].frame.equals(other[1].frame)
    np.testing.assert_array_equal(one[1].hashes, other[1].hashes)
    np.testing.assert_array_equal(one[1].tiny, other[1].tiny)


def write_scenes(folder: Path, count: int) -> None:
    for seed in range(count):
        (folder / "ab"[seed % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[seed % 2] / f"{seed}.jpg").write_bytes(saved(scene(seed)))


def test_every_file_of_the_corpus_gets_the_verdict_of_a_full_scan(tmp_path: Path) -> None:
    verdicts = write_corpus(tmp_path)
    table = images([tmp_path / name for name in verdicts])
    surveyed, found = survey(table, workers=2)
    scanned = scan(table, full=True)
    assert surveyed.frame.equals(scanned.frame)
    assert surveyed.rejected.equals(scanned.rejected)
    assert surveyed.findings == scanned.findings
    names = [Path(name).name for name in surveyed.names()]
    sizes = [f"{height}x{width}" for height, width in found.frame.select("height", "width").rows()]
    assert dict(zip(names, sizes, strict=True)) == {n: v for n, v in verdicts.items() if v[0].isdigit()}
    refused = {Path(name).name: code for name, code, _ in surveyed.rejected.rows()}
    assert {**refused, **dict(zip(names, sizes, strict=True))} == verdicts


def test_workers_and_cache_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path, 300)
    (tmp_path / "a" / "cut.jpg").write_bytes(saved(scene(1000))[:-500])
    (tmp_path / "b" / "twice.jpg").write_bytes(saved(scene(0)))
    with monkeypatch.context() as without:
        without.setenv("SORTAL_CACHE_GB", "0")
        alone = survey(images(tmp_path), workers=1)
        equal(survey(images(tmp_path), workers=3), alone)
    equal(survey(images(tmp_path), workers=2), alone)
    assert cache_info().items["surveys"] >= 300
    looked: list[bytes] = []
    monkeypatch.setattr(module, "look", lambda image: looked.append(image) or look(image))
    equal(survey(images(tmp_path), workers=2), alone)
    assert looked == [(tmp_path / "a" / "cut.jpg").read_bytes()], "only what is damaged is decoded again"
    assert alone[0].rejected["name"].to_list() == ["a/cut.jpg"]


def test_shapes_and_columns(tmp_path: Path) -> None:
    write_scenes(tmp_path, 4)
    seen: list[tuple[int, int]] = []
    table, found = survey(images(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert len(table) == len(found) == 4
    assert dict(found.frame.schema) == COLUMNS
    assert found.hashes.shape == (4, HASH_BYTES)
    assert found.tiny.shape == (4, TINY_PX, TINY_PX, 3)
    assert seen == [(4, 4)]
    first = found.frame.row(0, named=True)
    assert (first["suffix"], first["format"], first["width"], first["height"]) == ("JPEG", "JPEG", 200, 150)
    assert first["bytes"] == (tmp_path / "a" / "0.jpg").stat().st_size


def test_a_table_without_usable_rows_gives_an_empty_survey(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    table, found = survey(images([tmp_path / "a.jpg"]))
    assert not len(table)
    assert not len(found)
    assert dict(found.frame.schema) == COLUMNS
    assert found.tiny.shape == (0, TINY_PX, TINY_PX, 3)


def test_a_row_is_measured_as_the_region_it_is(tmp_path: Path) -> None:
    halves = Image.new("RGB", (100, 60), "black")
    halves.paste("white", (50, 0, 100, 60))
    halves.save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,label,x0,y0,x1,y1\na.png,x,0,0,0.5,1\na.png,y,0.5,0,1,0.5\n")
    first, again = survey(images(tmp_path / "t.csv")), survey(images(tmp_path / "t.csv"))
    assert first[1].frame.select("width", "height", "brightness").rows() == [(50, 60, 0.0), (50, 30, 1.0)]
    assert first[0].frame["_width"].to_list() == [100, 100]
    equal(first, again)


def test_frames_of_arrays_are_rows_too(tmp_path: Path) -> None:
    pixels = np.zeros((3, 20, 30), np.uint16)
    pixels[1] = 65535
    np.savez(tmp_path / "a.npz", images=pixels, labels=[0, 1, 0])
    table, found = survey(images(tmp_path / "a.npz"))
    assert table.frame.equals(scan(images(tmp_path / "a.npz"), full=True).frame)
    wanted = found.frame.select("suffix", "format", "width", "height", "mode", "brightness").rows()
    assert wanted == [(None, "array", 30, 20, "I;16", level) for level in (0.0, 1.0, 0.0)]


def test_names_in_archives_say_a_format_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a/照片.JPG", saved(scene(1)))
        archive.writestr("b/2.png", saved(scene(2)))
    _, found = survey(images(tmp_path / "p.zip"))
    assert found.frame.select("suffix", "format").rows() == [("JPEG", "JPEG"), ("PNG", "JPEG")]


def test_exif_comes_with_the_rows(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Maker One"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    write_scenes(tmp_path, 3)
    (tmp_path / "a" / "0.jpg").write_bytes(saved(scene(0), exif=exif))
    _, found = survey(images(tmp_path))
    columns = ["camera", "taken", "gps", "personal"]
    assert found.frame.select(columns).row(0) == ("Maker One", datetime(2024, 5, 6, 7, 8, 9), False, False)
    assert found.frame.select(columns).row(1) == (None, None, False, False)


def mutations(data: bytes, count: int, seed: int) -> list[bytes]:
    rng = np.random.Generator(np.random.Philox(key=seed))
    found = []
    for number in range(count):
        changed = bytearray(data)
        at = int(rng.integers(len(changed)))
        if number % 3 == 0:
            del changed[at:]
        elif number % 3 == 1:
            for place in rng.integers(2, len(changed), 5):
                changed[place] ^= 1 << int(rng.integers(8))
        else:
            changed[at : at + 16] = bytes(16)
        found.append(bytes(changed))
    return found


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1, "subsampling": 0}])
def test_damage_is_noticed_at_reduced_scale_as_at_full(tmp_path: Path, options: dict) -> None:
    """Every mutated file of a large JPEG gets the verdict of the full decoder."""
    data = saved(scene(11, 600, 450), quality=80, **options)
    for number, changed in enumerate(mutations(data, 60, 12)):
        (tmp_path / f"{number:03}.jpg").write_bytes(changed)
    table = images(sorted(tmp_path.glob("*.jpg")))
    surveyed, scanned = survey(table)[0], scan(table, full=True)
    assert surveyed.rejected.equals(scanned.rejected)
    assert surveyed.frame.equals(scanned.frame)
    assert 10 < surveyed.rejected.height < 60
    assert set(surveyed.rejected["code"]) <= {"truncated", "corrupt", "not_an_image", "unsupported_mode", "empty"}


def test_findings_name_duplicates_and_contradictions(tmp_path: Path) -> None:
    write_scenes(tmp_path, 6)
    (tmp_path / "a" / "copy.jpg").write_bytes((tmp_path / "a" / "0.jpg").read_bytes())
    (tmp_path / "b" / "lie.jpg").write_bytes((tmp_path / "a" / "2.jpg").read_bytes())
    table, _ = survey(images(tmp_path))
    found = {one.code: one.rows for one in table.findings}
    assert found["exact_duplicates"] == ("a/0.jpg", "a/copy.jpg")
    assert found["conflicting_labels"] == ("a/2.jpg", "b/lie.jpg")
    assert isinstance(table.frame["digest"], pl.Series)
