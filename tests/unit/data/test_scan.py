"""Scanning: digests, headers, unreadable rows, duplicates; the same content has the same digest wherever it lies."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable


def _picture(path: Path, seed: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.Generator(np.random.Philox(key=seed)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def _found(table: ImageTable, code: str) -> tuple[str, ...]:
    return tuple(row for finding in table.findings if finding.code == code for row in finding.rows)


def test_headers_and_digests(tmp_path: Path) -> None:
    _picture(tmp_path / "a" / "1.png", 1)
    _picture(tmp_path / "b" / "2.jpg", 2, size=(9, 8), mode="L")
    table = scan(images(tmp_path), workers=2)
    assert table.frame.select("_width", "_height", "_mode", "_format").rows() == [
        (6, 4, "RGB", "PNG"),
        (9, 8, "L", "JPEG"),
    ]
    assert table.frame["digest"].str.len_chars().to_list() == [64, 64]
    assert not table.rejected.height


def test_unreadable_rows_are_named_and_set_aside(tmp_path: Path) -> None:
    for number in range(3):
        _picture(tmp_path / "a" / f"{number}.png", number)
        _picture(tmp_path / "b" / f"{number}.png", number + 10)
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "b" / "text.jpg").write_bytes(b"this is a text" * 10)
    table = scan(images(tmp_path))
    assert len(table) == 6
    assert set(_found(table, "unreadable")) == {"a/empty.png", "b/text.jpg"}
    assert set(table.rejected.select("name", "code").rows()) == {
        ("a/empty.png", "empty"),
        ("b/text.jpg", "not_an_image"),
    }


def test_truncated_pixels_are_found_in_a_full_scan(tmp_path: Path) -> None:
    _picture(tmp_path / "a" / "1.png", 1, size=(64, 64))
    _picture(tmp_path / "b" / "2.png", 2, size=(64, 64))
    path = tmp_path / "b" / "2.png"
    path.write_bytes(path.read_bytes()[:3000])
    assert len(scan(images(tmp_path))) == 2
    table = scan(images(tmp_path), full=True)
    assert table.names() == ["a/1.png"]
    assert table.rejected["code"].to_list() == ["truncated"]
    assert "one_class" in {finding.code for finding in table.findings}


def test_duplicates_and_conflicting_labels(tmp_path: Path) -> None:
    _picture(tmp_path / "a" / "1.png", 1)
    _picture(tmp_path / "a" / "2.png", 1)
    _picture(tmp_path / "a" / "3.png", 2)
    _picture(tmp_path / "b" / "4.png", 2)
    _picture(tmp_path / "b" / "5.png", 3)
    table = scan(images(tmp_path))
    assert _found(table, "exact_duplicates") == ("a/1.png", "a/2.png")
    assert _found(table, "conflicting_labels") == ("a/3.png", "b/4.png")


def test_regions_of_one_image_are_no_duplicates(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png", 1)
    (tmp_path / "t.csv").write_text("path,label,x0,y0,x1,y1\na.png,x,0,0,0.5,1\na.png,y,0.5,0,1,1\n")
    table = scan(images(tmp_path / "t.csv"))
    assert table.frame["digest"].n_unique() == 1
    assert not _found(table, "exact_duplicates")
    assert not _found(table, "conflicting_labels")


def test_content_is_the_same_in_folder_and_archive(tmp_path: Path) -> None:
    for number in range(4):
        _picture(tmp_path / "p" / "ab"[number % 2] / f"{number}.png", number)
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((tmp_path / "p").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path))
    folder, packed = scan(images(tmp_path / "p")), scan(images(tmp_path / "p.zip"))
    assert folder.content_digest == packed.content_digest
    assert folder.listing_digest != packed.listing_digest


def test_arrays_are_digested_by_pixels(tmp_path: Path) -> None:
    pixels = np.arange(3 * 4 * 4, dtype=np.uint16).reshape(3, 4, 4)
    pixels[2] = pixels[0]
    np.savez(tmp_path / "a.npz", images=pixels, labels=[0, 1, 0])
    np.savez_compressed(tmp_path / "b.npz", images=pixels.astype(">u2"), labels=[0, 1, 0])
    one, two = scan(images(tmp_path / "a.npz")), scan(images(tmp_path / "b.npz"))
    assert one.content_digest == two.content_digest
    assert one.frame["_mode"].to_list() == ["I;16"] * 3
    assert _found(one, "exact_duplicates") == ("a.npz::images#0", "a.npz::images#2")


@pytest.mark.parametrize("workers", [1, 4])
def test_progress_counts_every_row_and_order_is_kept(tmp_path: Path, workers: int) -> None:
    np.savez(tmp_path / "a.npz", images=np.arange(600 * 4, dtype=np.uint16).reshape(600, 2, 2), labels=[0, 1] * 300)
    seen: list[tuple[int, int]] = []
    table = scan(images(tmp_path / "a.npz"), workers=workers, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 600), (512, 600), (600, 600)]
    assert table.frame["frame"].to_list() == list(range(600))
