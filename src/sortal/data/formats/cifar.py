"""CIFAR-10 and CIFAR-100 in their official *binary* version, as the archive or unpacked.

The archive is verified against the checksum on the authors' page (https://www.cs.toronto.edu/~kriz/cifar.html). The
Python version holds pickles, which Sortal never opens.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.report import Finding
from sortal.data.arrays import CIFAR_PIXELS, cifar_records
from sortal.data.formats.classes import label_findings
from sortal.data.formats.options import ReadOptions
from sortal.data.table import ImageTable, build_table, finding

MD5 = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
}
PYTHON_NAMES = ("cifar-10-python", "cifar-100-python", "cifar-10-batches-py")
_SUFFIXES = (".tar.gz", ".tgz", ".tar")
_TEN = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
_HUNDRED = ["train.bin", "test.bin"]


def sniff(path: Path) -> bool:
    """An archive whose name begins with `cifar-10`, or a folder with the batches (below one folder at most)."""
    if path.is_dir():
        return path.name in PYTHON_NAMES or _folder(path) is not None
    return path.name.lower().startswith("cifar-10") and path.name.lower().endswith(_SUFFIXES) and path.is_file()


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """Splits train and test; for CIFAR-100 the superclasses are the parents of the classes.

    Raises DataError for the Python version, a wrong checksum and damaged or absent batches.
    """
    if path.name.startswith(PYTHON_NAMES):
        hint = "get the binary version, for example cifar-10-binary.tar.gz, from the same page"
        raise DataError("the Python version of CIFAR holds pickles, which are never opened", where=str(path), hint=hint)
    try:
        return _read_folder(path) if path.is_dir() else _read_archive(path)
    except (OSError, EOFError, tarfile.TarError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"not a readable CIFAR archive: {error}", where=str(path)) from error


def _read_archive(path: Path) -> ImageTable:
    findings = _verify(path)
    batches: list[tuple[Path, str, str | None]] = [(path, path.name, member) for member in _members(path)]
    return _table(path, batches, _texts_in(path), findings)


def _read_folder(path: Path) -> ImageTable:
    folder = _folder(path) or path
    files = [folder / name for name in (*_TEN, *_HUNDRED) if (folder / name).is_file()]
    batches: list[tuple[Path, str, str | None]] = [(file, file.relative_to(path).as_posix(), None) for file in files]
    texts = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.txt")}
    return _table(path, batches, texts, [])


def _table(
    path: Path, batches: list[tuple[Path, str, str | None]], texts: dict[str, str], findings: list[Finding]
) -> ImageTable:
    found = {PurePosixPath(member or uri).name for _, uri, member in batches}
    expected = _HUNDRED if found & set(_HUNDRED) else _TEN
    absent = [name for name in expected if name not in found]
    if absent:
        raise DataError(f"CIFAR batches are missing: {', '.join(absent)}", where=str(path))
    frame = pl.concat([_rows(*batch) for batch in batches if PurePosixPath(batch[2] or batch[1]).name in expected])
    labels = _labels(frame, texts, hundred=expected is _HUNDRED)
    root = path if path.is_dir() else path.parent
    table = build_table(frame.drop("_coarse"), labels=labels, source=str(path), root=root, findings=findings)
    return table.with_findings(*label_findings(table))


def _rows(file: Path, uri: str, member: str | None) -> pl.DataFrame:
    records = cifar_records(file, member)
    numbers = records[:, : records.shape[1] - CIFAR_PIXELS].astype(np.int64)
    split = "test" if PurePosixPath(member or uri).name.startswith("test") else "train"
    return pl.DataFrame(
        {"frame": np.arange(len(records)), "label": numbers[:, -1], "_coarse": numbers[:, 0]}
    ).with_columns(uri=pl.lit(uri), member=pl.lit(member, dtype=pl.String), split=pl.lit(split))


def _labels(frame: pl.DataFrame, texts: dict[str, str], *, hundred: bool) -> LabelSet:
    names = _lines(texts, "fine_label_names.txt" if hundred else "batches.meta.txt")
    highest = int(frame["label"].to_numpy().max())
    if len(names) <= highest:
        raise DataError(f"{len(names)} class names but labels up to {highest}; a text file of names is missing")
    if not hundred:
        return LabelSet(names=tuple(names))
    coarse = _lines(texts, "coarse_label_names.txt")
    parents = dict(frame.select("label", "_coarse").unique().iter_rows())
    return LabelSet(names=tuple(names), parents=tuple(coarse[parents[number]] for number in range(len(names))))


def _lines(texts: dict[str, str], name: str) -> list[str]:
    return [line.strip() for line in texts.get(name, "").splitlines() if line.strip()]


def _verify(path: Path) -> list[Finding]:
    expected = MD5.get(path.name)
    if expected is None:
        return [
            finding("checksum_unknown", "info", f"{path.name} is not an official file name; no checksum to compare")
        ]
    with path.open("rb") as file:
        received = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if received != expected:
        hint = f"download it again; its MD5 must be {expected}"
        raise DataError(
            "the archive is not the official one: wrong checksum", where=str(path), received=received, hint=hint
        )
    return []


def _members(path: Path) -> list[str]:
    with tarfile.open(path, "r:*") as archive:
        return [info.name for info in archive if info.isreg() and info.name.endswith(".bin")]


def _texts_in(path: Path) -> dict[str, str]:
    with tarfile.open(path, "r:*") as archive:
        texts = [info for info in archive if info.isreg() and info.name.endswith(".txt")]
        pairs = ((info.name, archive.extractfile(info)) for info in texts)
        return {PurePosixPath(name).name: file.read().decode() for name, file in pairs if file is not None}


def _folder(path: Path) -> Path | None:
    candidates = [path, path / "cifar-10-batches-bin", path / "cifar-100-binary"]
    signs = (("data_batch_1.bin", "batches.meta.txt"), ("train.bin", "fine_label_names.txt"))
    return next((c for c in candidates for pair in signs if any((c / name).is_file() for name in pair)), None)
