"""ImageTable: names, selection, digests, reading of every kind of row, from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sortal.core.errors import DataError, ImageError
from sortal.core.labels import LabelSet
from sortal.data.open import images
from sortal.data.table import ImageTable, build_table

LABELS = LabelSet(names=("a", "b"))


def _table(**columns: list[object]) -> ImageTable:
    frame = pl.DataFrame({"uri": ["a/1.jpg", "a/2.jpg", "b/3.jpg"], "label": [0, 0, 1], **columns})
    return build_table(frame, labels=LABELS, source="memory", root=None)


def test_names_tell_members_frames_and_regions_apart() -> None:
    frame = pl.DataFrame(
        {
            "uri": ["a/1.jpg", "z.zip", "n.npz", "a/1.jpg"],
            "member": [None, "a/1.jpg", "train_images", None],
            "frame": [None, None, 12, None],
            "region": [None, None, None, [0.25, 0.0, 0.5, 1.0]],
        }
    )
    table = build_table(frame, labels=LABELS, source="memory", root=None)
    assert table.names() == ["a/1.jpg", "z.zip::a/1.jpg", "n.npz::train_images#12", "a/1.jpg@0.25,0.0,0.5,1.0"]
    assert table.name(3) == table.names()[3]


def test_absent_columns_get_their_defaults() -> None:
    table = build_table(pl.DataFrame({"uri": ["a.jpg"]}), labels=LABELS, source="memory", root=None)
    assert table.label_array().tolist() == [-1]
    assert table.frame["weight"].to_list() == [1.0]
    assert table.frame["split"].to_list() == [None]


@pytest.mark.parametrize(
    "columns",
    [
        {"label": [0, 0, 2]},
        {"split": ["train", "holdout", None]},
        {"weight": [1.0, -1.0, 1.0]},
        {"uri": ["x", "x", "y"]},
    ],
)
def test_impossible_values_are_refused(columns: dict[str, list[object]]) -> None:
    with pytest.raises(DataError):
        _table(**columns)


def test_select_by_mask_and_by_number() -> None:
    table = _table()
    assert table.select(np.array([True, False, True])).names() == ["a/1.jpg", "b/3.jpg"]
    assert table.select([2, 0]).names() == ["b/3.jpg", "a/1.jpg"]
    assert len(table.select(np.array([], dtype=np.int64))) == 0
    assert len(table) == 3


def test_listing_digest_ignores_row_order_and_sees_names_labels_and_splits() -> None:
    table = _table()
    assert table.listing_digest == table.select([2, 1, 0]).listing_digest
    assert table.listing_digest != table.with_columns({"label": [0, 1, 1]}).listing_digest
    assert table.listing_digest != table.with_columns({"split": ["train", None, None]}).listing_digest
    assert table.listing_digest != table.select([0, 1]).listing_digest


def test_listing_digest_is_frozen() -> None:
    assert _table().listing_digest == "6cdd506ebc0abe48c2117f9381ca1a38705da241a5eda16e85f6e4a35b0f02ce"


def test_content_digest_needs_a_scan() -> None:
    with pytest.raises(DataError, match="content is not known"):
        _ = _table().content_digest


def test_content_digest_ignores_names() -> None:
    one = _table(digest=["1" * 64, "2" * 64, "3" * 64])
    renamed = one.with_columns({"uri": ["p", "q", "r"]})
    assert one.content_digest == renamed.content_digest
    assert one.content_digest != one.with_columns({"label": [1, 0, 1]}).content_digest


def test_rejected_rows_keep_name_code_and_reason() -> None:
    table = _table().reject(np.array([True, False, True]), ["empty"], ["zero bytes"])
    assert table.names() == ["a/1.jpg", "b/3.jpg"]
    assert table.rejected.rows() == [("a/2.jpg", "empty", "zero bytes")]


def test_a_region_is_cut_from_the_upright_image(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 4:] = 200
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees to look at it: the right half becomes the lower half
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "t.csv").write_text("path,label,x0,y0,x1,y1\na.png,x,0,0.5,1,1\na.png,y,0,0,1,0.5\n")
    table = images(tmp_path / "t.csv")
    lower, upper = table.read(0), table.read(1)
    assert isinstance(lower, np.ndarray)
    assert isinstance(upper, np.ndarray)
    assert lower.shape == upper.shape == (4, 4, 3)
    assert lower.min() == 200
    assert upper.max() == 0


def test_sixteen_bit_grey_regions_keep_their_depth(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,label,x0,y0,x1,y1\na.png,x,0,0,0.5,0.5\n")
    cut = images(tmp_path / "t.csv").read(0)
    assert isinstance(cut, np.ndarray)
    assert cut.dtype == np.uint16
    assert cut.shape == (2, 2, 1)
    assert int(cut[0, 0, 0]) == 40_000


def test_threads_read_the_same_bytes(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(40):
            archive.writestr(f"{'ab'[number % 2]}/{number:02d}.png", bytes([number]) * (1000 + number))
    table = images(tmp_path / "z.zip")
    expected = [bytes([int(name[-6:-4])]) * (1000 + int(name[-6:-4])) for name in table.names()]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(table.read, list(range(len(table))) * 5)) == expected * 5


def test_a_vanished_file_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"x")
    table = images(tmp_path)
    (tmp_path / "a" / "1.jpg").unlink()
    with pytest.raises(ImageError) as error:
        table.read(0)
    assert error.value.code == "missing"
