"""Arrays: `.npz` in its customs, CIFAR binary archives, MNIST idx files."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sortal.core.errors import DataError
from sortal.data.formats import cifar
from sortal.data.open import images

RNG = np.random.Generator(np.random.Philox(key=7))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_medmnist_arrays(tmp_path: Path, save: object) -> None:
    pixels = {f"{split}_images": RNG.integers(0, 256, (4, 5, 6), np.uint8) for split in ("train", "val", "test")}
    labels = {f"{split}_labels": np.array([[0], [1], [1], [10]]) for split in ("train", "val", "test")}
    save(tmp_path / "m.npz", **pixels, **labels)  # type: ignore[operator]
    table = images(tmp_path / "m.npz")
    assert table.labels.names == ("0", "1", "10")
    assert table.name(5) == "m.npz::val_images#1"
    assert [table.split_rows(split).size for split in ("train", "val", "test")] == [4, 4, 4]
    read = table.read(5)
    assert isinstance(read, np.ndarray)
    np.testing.assert_array_equal(read[:, :, 0], pixels["val_images"][1])


@pytest.mark.parametrize(
    ("x", "y"), [("images", "labels"), ("x", "y"), ("X", "Y"), ("x_train", "y_train"), ("train_images", "train_labels")]
)
def test_other_array_names(tmp_path: Path, x: str, y: str) -> None:
    np.savez(tmp_path / "a.npz", **{x: np.zeros((3, 4, 4, 3), np.uint16), y: np.array([2, 0, 2])})
    table = images(tmp_path / "a.npz")
    assert table.label_array().tolist() == [1, 0, 1]
    read = table.read(0)
    assert isinstance(read, np.ndarray)
    assert (read.shape, read.dtype) == ((4, 4, 3), np.uint16)


def test_channels_first_and_class_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 3, 8, 9), np.uint8), labels=[0, 1, 0], class_names=["good", "bad"])
    table = images(tmp_path / "a.npz")
    assert table.labels.names == ("good", "bad")
    assert np.asarray(table.read(0)).shape == (8, 9, 3)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((3, 4, 4), np.float32), "labels": np.zeros(3, int)}, "unsupported type"),
        ({"images": np.zeros((3, 28, 28, 28), np.uint8), "labels": np.zeros(3, int)}, "not an array of images"),
        ({"images": np.zeros((3, 4, 4), np.uint8), "labels": np.zeros((3, 14), int)}, "multi-label"),
        ({"images": np.zeros((3, 4, 4), np.uint8), "labels": np.zeros(2, int)}, "not one label an image"),
        ({"images": np.zeros((3, 4, 4), np.uint8), "labels": np.array([0.0, 1.0, 0.5])}, "whole numbers"),
        ({"weights": np.zeros(3)}, "only weights"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, arrays: dict[str, object], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError) as error:
        images(tmp_path / "a.npz")
    assert said in str(error.value)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.array([{"a": 1}], dtype=object), labels=np.array([0]))
    with pytest.raises(DataError):
        images(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError):
        images(tmp_path / "b.npz")


def _archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _records(count: int, *label_bytes: int) -> bytes:
    pixels = RNG.integers(0, 256, (count, 3072), np.uint8)
    labels = np.array(
        [[(number * (place + 1)) % wide for place, wide in enumerate(label_bytes)] for number in range(count)]
    )
    return np.concatenate([labels.astype(np.uint8), pixels], axis=1).tobytes()


def _ten() -> dict[str, bytes]:
    names = "\n".join(f"name{number}" for number in range(10)) + "\n\n"
    batches = {f"b/data_batch_{number}.bin": _records(20, 10) for number in range(1, 6)}
    return {"b/batches.meta.txt": names.encode(), **batches, "b/test_batch.bin": _records(30, 10)}


def test_cifar_10_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = _ten()
    path = _archive(tmp_path / "cifar-10-binary.tar.gz", members)
    with pytest.raises(DataError, match="wrong checksum"):
        images(path)
    monkeypatch.setitem(cifar.MD5, path.name, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
    table = images(path)
    assert (table.split_rows("train").size, table.split_rows("test").size) == (100, 30)
    assert table.labels.names == tuple(f"name{number}" for number in range(10))
    raw = np.frombuffer(members["b/data_batch_1.bin"], np.uint8).reshape(-1, 3073)
    np.testing.assert_array_equal(np.asarray(table.read(3)), raw[3, 1:].reshape(3, 32, 32).transpose(1, 2, 0))
    assert table.label_array()[:12].tolist() == [*range(10), 0, 1]


def test_cifar_unpacked_and_incomplete(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, data in _ten().items():
        (folder / Path(name).name).write_bytes(data)
    assert len(images(tmp_path)) == len(images(folder)) == 130
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin"):
        images(folder)


def test_cifar_100_has_a_taxonomy(tmp_path: Path) -> None:
    coarse_of = RNG.integers(0, 20, 100).astype(np.uint8)
    fine = np.arange(200, dtype=np.uint8) % 100
    pixels = RNG.integers(0, 256, (200, 3072), np.uint8)
    data = np.concatenate([coarse_of[fine][:, None], fine[:, None], pixels], axis=1).tobytes()
    texts = {
        "c/fine_label_names.txt": "".join(f"fine{number}\n" for number in range(100)).encode(),
        "c/coarse_label_names.txt": "".join(f"coarse{number}\n" for number in range(20)).encode(),
    }
    table = images(_archive(tmp_path / "cifar-100-mine.tar.gz", {**texts, "c/train.bin": data, "c/test.bin": data}))
    assert table.labels.parents == tuple(f"coarse{number}" for number in coarse_of)
    assert len(table) == 400
    assert "checksum_unknown" in {found.code for found in table.findings}


def test_the_pickled_cifar_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "cifar-10-python.tar.gz", {"x": b"x"})
    with pytest.raises(DataError, match="binary version"):
        images(path)


def test_a_cut_cifar_archive_is_a_data_error(tmp_path: Path) -> None:
    path = _archive(tmp_path / "cifar-10-mine.tar.gz", _ten())
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError):
        images(path)


def _idx(path: Path, array: np.ndarray) -> None:
    data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_idx_files(tmp_path: Path, suffix: str) -> None:
    pixels = RNG.integers(0, 256, (5, 7, 6), np.uint8)
    for part in ("train", "t10k"):
        _idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", pixels)
        _idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", np.array([3, 1, 3, 2, 1]))
    table = images(tmp_path)
    assert table.labels.names == ("1", "2", "3")
    assert (table.split_rows("train").size, table.split_rows("test").size) == (5, 5)
    np.testing.assert_array_equal(np.asarray(table.read(4))[:, :, 0], pixels[4])
    (tmp_path / f"t10k-labels-idx1-ubyte{suffix}").unlink()
    with pytest.raises(DataError, match="labels of test are missing"):
        images(tmp_path)
