"""Class folders on disk and in archives: what counts as a class, a split, an image, and what is reported."""

from __future__ import annotations

import io
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from sortal.core.errors import DataError
from sortal.data.open import images
from sortal.data.table import ImageTable


def _make(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode())
    return root


def _codes(table: ImageTable) -> set[str]:
    return {found.code for found in table.findings}


def test_classes_come_in_natural_order(tmp_path: Path) -> None:
    table = images(_make(tmp_path, "part10/a.jpg", "part2/a.jpg", "Part1/a.JPG"))
    assert table.labels.names == ("Part1", "part2", "part10")
    assert table.names() == ["Part1/a.JPG", "part10/a.jpg", "part2/a.jpg"]
    assert table.label_array().tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "valid", "TEST"), ("train", "validation", "test")]
)
def test_split_folders_in_their_spellings(tmp_path: Path, names: tuple[str, str, str]) -> None:
    files = [f"{split}/{name}/{split}.png" for split in names for name in ("cat", "dog")]
    table = images(_make(tmp_path, *files))
    assert [table.split_rows(split).size for split in ("train", "val", "test")] == [2, 2, 2]
    assert table.labels.names == ("cat", "dog")


def test_a_class_called_test_beside_others_is_a_class(tmp_path: Path) -> None:
    table = images(_make(tmp_path, "test/a.jpg", "cat/a.jpg"))
    assert table.labels.names == ("cat", "test")
    assert table.split_rows("test").size == 0


def test_hidden_and_system_entries_are_ignored(tmp_path: Path) -> None:
    hidden = (
        ".git/x/a.jpg",
        ".ipynb_checkpoints/a.jpg",
        "__MACOSX/cat/a.jpg",
        "@eaDir/a.jpg",
        "cat/._a.jpg",
        "cat/Thumbs.db",
    )
    table = images(_make(tmp_path, "cat/a.jpg", "dog/b.jpg", "cat/.DS_Store", "cat/.ipynb_checkpoints/a.jpg", *hidden))
    assert table.names() == ["cat/a.jpg", "dog/b.jpg"]
    assert table.findings[0].code == "single_image_class"


def test_deeper_images_belong_to_the_top_class_folder(tmp_path: Path) -> None:
    table = images(_make(tmp_path, "cat/2020/05/a.jpg", "cat/b.jpg", "dog/x/c.jpg"))
    assert table.labels.names == ("cat", "dog")
    assert table.label_array().tolist() == [0, 0, 1]


def test_wrapper_folders_are_stepped_through(tmp_path: Path) -> None:
    table = images(_make(tmp_path, "X/datas/cat/a.jpg", "X/datas/dog/b.jpg", "README.md"))
    assert table.labels.names == ("cat", "dog")
    assert "wrapper_folder" in _codes(table)


def test_case_twins_stay_separate_and_are_reported(tmp_path: Path) -> None:
    table = images(_make(tmp_path, "Cat/a.jpg", "cat/b.jpg"))
    assert table.labels.names == ("Cat", "cat")
    assert "case_collision" in _codes(table)


def test_unicode_forms_of_one_name_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "Café"), unicodedata.normalize("NFD", "Café")
    table = images(_make(tmp_path, f"{composed}/a.jpg", f"{decomposed}/b.jpg", "螺丝/c.jpg"))
    assert table.labels.names == (composed, "螺丝")
    assert "merged_classes" in _codes(table)
    assert all(isinstance(table.read(row), bytes) for row in range(3))


def test_oddities_are_findings_never_silent(tmp_path: Path) -> None:
    _make(tmp_path, "cat/a.jpg", "cat/notes.txt", "dog/b.jpg", "stray.jpg")
    (tmp_path / "empty").mkdir()
    table = images(tmp_path)
    assert {"empty_class", "outside_class_folder", "ignored_files", "single_image_class"} <= _codes(table)
    assert table.labels.names == ("cat", "dog")
    assert table.rejected["name"].to_list() == ["stray.jpg"]


def test_a_class_only_in_test_is_an_error_finding(tmp_path: Path) -> None:
    table = images(_make(tmp_path, "train/cat/a.jpg", "train/dog/a.jpg", "test/cat/b.jpg", "test/owl/c.jpg"))
    found = {finding.code: finding for finding in table.findings}
    assert found["class_not_in_train"].severity == "error"
    assert "owl" in found["class_not_in_train"].message
    assert "dog" in found["class_missing_in_split"].message
    assert table.labels.names == ("cat", "dog", "owl")


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    table = images(_make(tmp_path, "a.jpg", "b.png"))
    assert table.label_array().tolist() == [-1, -1]
    assert "unlabeled" in _codes(table)


def test_a_flat_test_folder_beside_classes_stays_unlabeled(tmp_path: Path) -> None:
    table = images(_make(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "test/1.jpg"))
    assert table.label_array()[table.split_rows("test")].tolist() == [-1]


@pytest.mark.parametrize(("files", "said"), [((), "empty"), (("a.txt", "b/c.txt"), "2 files"), (("d/x.npz",), "x.npz")])
def test_nothing_to_read_says_what_is_there(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError) as error:
        images(_make(tmp_path, *files))
    assert said in str(error.value)
    assert "to do" in str(error.value)


def test_a_wrong_path_names_a_near_one(tmp_path: Path) -> None:
    _make(tmp_path, "photos/cat/a.jpg")
    with pytest.raises(DataError, match="did you mean photos"):
        images(tmp_path / "photo")


def test_links_loops_fifos_and_broken_links(tmp_path: Path) -> None:
    _make(tmp_path / "d", "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "d" / "cat" / "loop").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "d" / "dog" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "d" / "dog" / "link.jpg").symlink_to(tmp_path / "d" / "cat" / "a.jpg")
    os.mkfifo(tmp_path / "d" / "dog" / "pipe.jpg")
    table = images(tmp_path / "d")
    assert table.names() == ["cat/a.jpg", "dog/b.jpg", "dog/link.jpg"]
    assert {"folder_seen_twice", "dangling_link", "not_a_file"} <= _codes(table)


def test_names_that_are_no_text_are_reported(tmp_path: Path) -> None:
    _make(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "cat" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    table = images(tmp_path)
    assert len(table) == 2
    assert "name_not_utf8" in _codes(table)


def test_a_class_list_fixes_the_order(tmp_path: Path) -> None:
    _make(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    assert images(tmp_path).labels.names == ("dog", "cat")
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(DataError, match="cat"):
        images(tmp_path)


def test_a_thousand_classes(tmp_path: Path) -> None:
    table = images(_make(tmp_path, *(f"class{number}/{i}.jpg" for number in range(1000) for i in range(2))))
    assert len(table.labels) == 1000
    assert table.labels.names[999] == "class999"


def _zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def _tar(path: Path, *names: str, link: str | None = None, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name.encode())
            archive.addfile(info, io.BytesIO(name.encode()))
        if link is not None:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_are_read_in_place(tmp_path: Path, kind: str) -> None:
    make = _zip if kind == "zip" else _tar
    table = images(
        make(tmp_path / f"p.{kind}", "p/train/cat/a.jpg", "p/train/dog/b.jpg", "p/test/cat/c.jpg", "p/.x/d.jpg")
    )
    assert table.names() == [f"p.{kind}::p/{name}" for name in ("test/cat/c.jpg", "train/cat/a.jpg", "train/dog/b.jpg")]
    assert [table.read(row) for row in range(3)] == [b"p/test/cat/c.jpg", b"p/train/cat/a.jpg", b"p/train/dog/b.jpg"]
    assert table.split_rows("train").size == 2
    assert [entry.name for entry in tmp_path.iterdir()] == [f"p.{kind}"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_hostile_members_are_left_alone(tmp_path: Path, kind: str) -> None:
    make = _zip if kind == "zip" else _tar
    names = ("cat/a.jpg", "dog/b.jpg", "../evil.jpg", "/abs.jpg", "cat/../../evil.jpg", "C:/x/evil.jpg")
    table = images(make(tmp_path / f"p.{kind}", *names))
    assert table.frame["member"].to_list() == ["cat/a.jpg", "dog/b.jpg"]
    found = next(finding for finding in table.findings if finding.code == "archive_unsafe")
    assert len(found.rows) == 4


def test_links_and_repeated_names_in_a_tar(tmp_path: Path) -> None:
    table = images(_tar(tmp_path / "p.tar", "cat/a.jpg", "cat/a.jpg", "dog/b.jpg", link="cat/link.jpg"))
    assert table.frame["member"].to_list() == ["cat/a.jpg", "dog/b.jpg"]
    assert {"archive_link", "archive_replaced"} <= _codes(table)


def test_compressed_tars_are_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="repack it as plain"):
        images(_tar(tmp_path / "p.tar.gz", "cat/a.jpg", mode="w:gz"))


@pytest.mark.parametrize("name", ["p.zip", "p.tar"])
def test_damaged_archives_are_data_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is no archive" * 100)
    with pytest.raises(DataError, match="damaged archive"):
        images(tmp_path / name)


def test_a_truncated_member_is_an_image_error(tmp_path: Path) -> None:
    from sortal.core.errors import ImageError

    path = _tar(tmp_path / "p.tar", "cat/a.jpg", "dog/b.jpg")
    table = images(path)
    path.write_bytes(path.read_bytes()[:515])
    with pytest.raises(ImageError) as error:
        table.read(0)
    assert error.value.code == "truncated"


def test_synsets_have_stable_indices_and_display_names(tmp_path: Path) -> None:
    _make(tmp_path, *(f"train/n{number:08d}/x.JPEG" for number in range(1000)), "val/loose.JPEG")
    lines = [f"n{number:08d} word {number}, other" for number in range(1000)]
    (tmp_path / "LOC_synset_mapping.txt").write_text("\n".join(reversed(lines)))
    table = images(tmp_path)
    assert len(table.labels) == 1000
    assert table.labels.names[0] == "n00000999"
    assert table.labels.display["n00000007"] == "word 7, other"


def test_a_missing_synset_is_named(tmp_path: Path) -> None:
    _make(tmp_path, "n01/x.jpg", "n02/x.jpg")
    (tmp_path / "synset_words.txt").write_text("n01 tench\nn02 goldfish\nn03 shark\n")
    with pytest.raises(DataError, match="n03"):
        images(tmp_path)
    (tmp_path / "synset_words.txt").write_text("n01 tench\n")
    with pytest.raises(DataError, match="n02"):
        images(tmp_path)
    path = _zip(tmp_path / "p.zip", "n01/x.jpg", "n02/x.jpg")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("synset_words.txt", "n01 tench\nn02 goldfish\n")
    assert images(path).labels.names == ("n01", "n02")
