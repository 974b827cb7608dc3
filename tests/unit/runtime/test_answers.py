"""Answers in files and in folders, by the classifier of colors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sortal.core.errors import InputError, MachineError
from sortal.core.progress import Silent
from sortal.core.report import Report
from sortal.data.open import images
from sortal.runtime.answers import answer_files, check_suffix

COLORS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250), "gray": (100, 100, 100)}


def _inbox(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (20, 20), COLORS[name.partition("-")[0]]).save(folder / f"{name}.png")
    return folder


def _answer(bundle: Path, source: Path, out: Path, **settings) -> Report:
    return answer_files(bundle, images(source), out=out, listener=Silent(), **settings)


def test_a_report_of_what_was_answered(bundle: Path, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", "red-1", "red-2", "blue", "gray")
    (inbox / "bad.png").write_bytes(b"nothing")
    report = _answer(bundle, inbox, tmp_path / "a.csv")
    assert report.kind == "prediction"
    assert report.metrics["images"].value == 5
    assert report.metrics["unreadable"].value == 1
    assert report.metrics["abstained"].value == 1
    finding, left = report.findings
    assert (left.code, left.severity) == ("abstained", "info")
    assert "1 of 5 images are left to a person" in left.message
    assert "column abstained of a.csv" in left.message
    assert finding.code == "unreadable"
    assert finding.rows == ("bad.png",)
    assert "bad.png" in finding.message
    assert pl.read_csv(tmp_path / "a.csv")["label"].to_list() == [None, "blue", "red", "red", "red"]


def test_many_unreadable_images_are_named_briefly(bundle: Path, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", "red")
    for number in range(5):
        (inbox / f"bad{number}.png").write_bytes(b"nothing")
    [finding] = _answer(bundle, inbox, tmp_path / "a.csv").findings
    assert finding.message.endswith("bad0.png, bad1.png, bad2.png, …")
    assert len(finding.rows) == 5


def test_what_was_left_out_of_the_source_is_told(bundle: Path, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", "red")
    (inbox / os.fsdecode(b"\xff.png")).write_bytes((inbox / "red.png").read_bytes())
    (inbox / "gone.png").symlink_to("nowhere.png")
    report = _answer(bundle, inbox, tmp_path / "a.csv")
    assert {finding.code for finding in report.findings} == {"name_not_utf8", "dangling_link"}
    assert report.metrics["images"].value == 1


def test_withheld_answers_and_unreadable_files_have_folders_of_their_own(bundle: Path, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", "red", "gray")
    (inbox / "bad.png").write_bytes(b"nothing")
    _answer(bundle, inbox, tmp_path / "a.csv", sort_into=tmp_path / "sorted")
    found = sorted(path.relative_to(tmp_path / "sorted").as_posix() for path in (tmp_path / "sorted").rglob("*.png"))
    assert found == ["_review/gray.png", "_unreadable/bad.png", "red/red.png"]


def test_sorting_twice_adds_nothing_and_a_different_file_gets_a_number(bundle: Path, tmp_path: Path) -> None:
    for name, shade in (("one", 250), ("two", 200)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20), (shade, 0, 0)).save(tmp_path / name / "x.png")
    for source in ("one", "one", "two", "two"):
        _answer(bundle, tmp_path / source, tmp_path / "a.csv", sort_into=tmp_path / "sorted")
    assert sorted(path.name for path in (tmp_path / "sorted" / "red").iterdir()) == ["x-2.png", "x.png"]
    assert (tmp_path / "sorted" / "red" / "x.png").read_bytes() == (tmp_path / "one" / "x.png").read_bytes()
    assert (tmp_path / "sorted" / "red" / "x-2.png").read_bytes() == (tmp_path / "two" / "x.png").read_bytes()


def test_links_lead_to_the_originals_from_anywhere(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _inbox(tmp_path / "inbox", "red")
    monkeypatch.chdir(tmp_path)
    _answer(bundle, Path("inbox"), Path("a.csv"), sort_into=Path("sorted"), link=True)
    link = tmp_path / "sorted" / "red" / "red.png"
    assert link.is_symlink()
    assert link.resolve() == tmp_path / "inbox" / "red.png"


def test_frames_of_arrays_become_images(bundle: Path, tmp_path: Path) -> None:
    pixels = np.zeros((2, 20, 20, 3), np.uint8)
    pixels[0, :, :, 0], pixels[1, :, :, 2] = 250, 250
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(2))
    _answer(bundle, tmp_path / "set.npz", tmp_path / "a.csv", sort_into=tmp_path / "sorted", link=True)
    [red] = (tmp_path / "sorted" / "red").iterdir()
    np.testing.assert_array_equal(np.asarray(Image.open(red)), pixels[0])


@pytest.mark.parametrize("name", ["a.xls", "a", "csv"])
def test_an_unknown_kind_of_file_is_refused_before_anything_is_answered(name: str) -> None:
    with pytest.raises(InputError, match=r"\.parquet"):
        check_suffix(Path(name))


def test_what_is_read_is_never_written_over(bundle: Path, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", "red")
    with pytest.raises(InputError, match="read from"):
        _answer(bundle, inbox, tmp_path / "a.csv", sort_into=tmp_path / "inbox" / ".." / "inbox")
    table = tmp_path / "list.csv"
    table.write_text("path\ninbox/red.png\n")
    with pytest.raises(InputError, match="read from"):
        _answer(bundle, table, table)
    with pytest.raises(InputError, match="--sort-into"):
        _answer(bundle, inbox, tmp_path / "a.csv", link=True)


def test_a_file_in_the_way_of_a_folder(bundle: Path, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", "red")
    (tmp_path / "sorted").write_text("a file")
    with pytest.raises(MachineError, match="sorted"):
        _answer(bundle, inbox, tmp_path / "a.csv", sort_into=tmp_path / "sorted")
    with pytest.raises(MachineError, match="sorted"):
        _answer(bundle, inbox, tmp_path / "a.csv", sort_into=tmp_path / "sorted", link=True)
