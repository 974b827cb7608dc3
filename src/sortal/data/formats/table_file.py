"""CSV, TSV, JSON lines and Parquet files as a Polars frame of text (Parquet and JSON lines keep their types)."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError, MachineError

TEXT_SUFFIXES = (".csv", ".tsv")
JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (*TEXT_SUFFIXES, *JSON_SUFFIXES, *PARQUET_SUFFIXES)


def read_frame(path: Path) -> pl.DataFrame:
    """All rows. Text is UTF-8 (a byte order mark is fine) or UTF-16 with a mark. Raises DataError, MachineError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read this file: {error.strerror}", where=str(path)) from error
    return parse_frame(path, data)


def parse_frame(path: Path, data: bytes) -> pl.DataFrame:
    """All rows of a table whose bytes are at hand; the suffix of `path` says its kind. Raises DataError."""
    if not data.strip():
        raise DataError("an empty file", where=str(path), hint="expected a table with a path and a label column")
    try:
        frame = _parse(path, data)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"not a readable table: {reason}", where=str(path)) from error
    return frame.rename({name: name.strip().lstrip("\ufeff") for name in frame.columns})


def frame_bytes(frame: pl.DataFrame, suffix: str) -> bytes:
    """A frame as the bytes of a file of that suffix, UTF-8. Lists go into JSON lines and Parquet only."""
    buffer = io.BytesIO()
    if suffix in PARQUET_SUFFIXES:
        frame.write_parquet(buffer)
    elif suffix in JSON_SUFFIXES:
        frame.write_ndjson(buffer)
    else:
        frame.write_csv(buffer, separator="\t" if suffix == ".tsv" else ",")
    return buffer.getvalue()


def _parse(path: Path, data: bytes) -> pl.DataFrame:
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        return pl.read_parquet(io.BytesIO(data))
    text = _text(path, data)
    if suffix in JSON_SUFFIXES:
        return pl.read_ndjson(io.StringIO(text), infer_schema_length=None)
    separator = "\t" if suffix == ".tsv" else _separator(text)
    return pl.read_csv(io.StringIO(text), separator=separator, infer_schema=False)


def _text(path: Path, data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        hint = "save the file as UTF-8 (Excel: CSV UTF-8)"
        raise DataError("the text is not UTF-8", where=f"{path}, byte {error.start}", hint=hint) from error


def _separator(text: str) -> str:
    header = text.split("\n", 1)[0]
    return max(",;\t", key=lambda mark: (header.count(mark), mark == ","))
