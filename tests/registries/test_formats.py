"""One contract for every dataset format: it knows its own sources and no others, and what it reads is a sound table."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.data.formats import FORMATS
from sortal.data.formats.options import ReadOptions
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable


def _pictures(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(root / name)
    return root


def _cifar(root: Path) -> Path:
    (root / "batches.meta.txt").write_text("".join(f"c{number}\n" for number in range(10)))
    for number, name in enumerate([*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]):
        (root / name).write_bytes(
            bytes([number % 2]) + bytes([number]) * 3072 + bytes([1 - number % 2]) + bytes([9]) * 3072
        )
    return root


def _mnist(root: Path) -> Path:
    pixels, labels = np.arange(32, dtype=np.uint8), bytes([0, 1])
    (root / "train-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2, 4, 4) + pixels.tobytes())
    (root / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBB1I", 0, 8, 1, 2) + labels)
    return root


def _npz(root: Path) -> Path:
    np.savez(root / "a.npz", images=np.arange(48, dtype=np.uint8).reshape(3, 4, 4), labels=[0, 1, 0])
    return root / "a.npz"


def _manifest(root: Path) -> Path:
    _pictures(root, "a.png", "b.png")
    entry = [
        {"id": n, "file_path": f"{c}.png", "annotations": [{"class_id": n, "label": c}]} for n, c in enumerate("ab")
    ]
    (root / "m.json").write_text(json.dumps({"images": entry}))
    return root / "m.json"


def _table(root: Path) -> Path:
    _pictures(root, "a.png", "b.png")
    (root / "t.csv").write_text("path,label\na.png,x\nb.png,y\n")
    return root / "t.csv"


def _list(root: Path) -> Path:
    _pictures(root, "a.png", "b.png")
    (root / "train.txt").write_text("a.png 0\nb.png 1\n")
    return root


def _imagenet(root: Path) -> Path:
    (root / "synset_words.txt").write_text("n01 one\nn02 two\n")
    return _pictures(root, "n01/a.png", "n02/b.png")


def _folders(root: Path) -> Path:
    _pictures(root, "p/a/1.png", "p/b/2.png")
    with zipfile.ZipFile(root / "p.zip", "w") as archive:
        for file in sorted((root / "p").rglob("*.png")):
            archive.write(file, file.relative_to(root))
    return root / "p.zip"


def _image(root: Path) -> Path:
    return _pictures(root, "a.png") / "a.png"


SOURCES: dict[str, Callable[[Path], Path]] = {
    "cifar": _cifar,
    "mnist": _mnist,
    "npz": _npz,
    "manifest": _manifest,
    "table": _table,
    "list": _list,
    "imagenet": _imagenet,
    "folders": _folders,
    "image": _image,
}


def test_every_format_has_a_source_here() -> None:
    assert set(SOURCES) == set(FORMATS.table)


@pytest.mark.parametrize("name", list(FORMATS.table))
def test_the_source_is_recognized_and_read(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path)
    member = FORMATS.get(name)
    assert member.sniff(source)
    table = member.read(source, ReadOptions())
    assert isinstance(table, ImageTable)
    assert len(set(table.names())) == len(table) > 0
    assert table.root is not None
    assert all(table.path(row).is_file() for row in range(len(table)))
    assert images(source).listing_digest == table.listing_digest
    seen = scan(table)
    assert len(seen) == len(table)
    assert set(seen.frame["_height"]) <= {4, 32}


@pytest.mark.parametrize("name", list(FORMATS.table))
def test_sniffing_never_raises(name: str, tmp_path: Path) -> None:
    sniff = FORMATS.get(name).sniff
    odd = [tmp_path / "absent.csv", tmp_path, Path("/dev/null")]
    for suffix in ("csv", "json", "npz", "zip", "tar", "tar.gz", "txt", "png", "bin"):
        odd.append(tmp_path / f"x.{suffix}")
        odd[-1].write_bytes(b"\xff\x00 rubbish")
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.csv").mkdir()
    for path in (*odd, tmp_path / "folder.csv"):
        assert sniff(path) in (True, False)
