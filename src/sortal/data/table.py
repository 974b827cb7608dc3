"""ImageTable: which images there are, what they show, and how to read each one. Immutable, with Polars behind it.

A row is a file, a member of an archive, a frame of an array, or a region of one of these. Finding the rows is the work
of `formats`, digests come from `scan`, splits from `split`; pixels come from `decode`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import cut_region
from sortal.core.report import Finding
from sortal.data.arrays import frame_pixels
from sortal.data.decode import decode
from sortal.data.files import read_file
from sortal.data.header import read_header
from sortal.data.members import read_member
from sortal.data.remote import read_remote

UNKNOWN = -1
SPLITS = ("train", "val", "test")
MAX_NAMED_ROWS = 1000

COLUMNS: dict[str, pl.DataType] = {
    "uri": pl.String(),
    "member": pl.String(),
    "frame": pl.Int64(),
    "region": pl.Array(pl.Float64(), 4),
    "label": pl.Int64(),
    "split": pl.String(),
    "group": pl.String(),
    "weight": pl.Float64(),
    "digest": pl.String(),
}
_DEFAULTS: dict[str, Any] = {"label": UNKNOWN, "weight": 1.0}

REJECTED_SCHEMA = {"name": pl.String(), "code": pl.String(), "reason": pl.String()}


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTable:
    """Rows of images with labels. Build one with `build_table` or `sortal.data.open.images`.

    `frame` has the columns of `COLUMNS`, then technical ones that start with `_`, then whatever else the source had.
    `uri` is relative to `root` (POSIX) where it lies below it, or to the URL `remote`. `rejected` lists rows that were
    left out: name, code, reason. Labels are indices into `labels`, -1 where unknown; a split is `train`, `val`, `test`
    or null.
    """

    frame: pl.DataFrame
    labels: LabelSet
    source: str
    root: Path | None
    findings: tuple[Finding, ...] = ()
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECTED_SCHEMA))
    remote: str | None = None

    def __len__(self) -> int:
        return self.frame.height

    def names(self) -> list[str]:
        """A unique name for each row: `class/a.jpg`, `a.zip::class/a.jpg`, `a.npz::train_images#12`, `...@region`."""
        return self.name_series().to_list()

    def name_series(self) -> pl.Series:
        """The names of `names()` as a Polars series."""
        return self.frame.select(_NAME).to_series()

    def name(self, row: int) -> str:
        """The name of one row."""
        return str(self.frame.slice(row, 1).select(_NAME).item())

    def read(self, row: int) -> bytes | NDArray[Any]:
        """The encoded bytes of a file or member, or pixels (H, W, C) uint8 or uint16 of a frame or region.

        Safe from many threads. A region is cut after decoding and turning upright.
        Raises ImageError that names the row.
        """
        values = self.frame.row(row, named=True)
        source = self._source(values)
        return source if values["region"] is None else _cut(source, values["region"], _row_name(values))

    def read_whole(self, row: int) -> bytes | NDArray[Any]:
        """Like `read`, before the region is cut."""
        return self._source(self.frame.row(row, named=True))

    def path(self, row: int) -> Path:
        """The file that row lies in. Raises DataError where that is a remote one."""
        if self.remote is not None:
            raise DataError("a remote image is no file of this machine", where=self.remote)
        return self._file(self.frame["uri"][row])

    def label_array(self) -> NDArray[np.int64]:
        """(N,) class indices, -1 where unknown."""
        return self.frame["label"].to_numpy().astype(np.int64)

    def split_rows(self, name: str) -> NDArray[np.int64]:
        """Row numbers of the split `train`, `val` or `test`."""
        return np.flatnonzero((self.frame["split"] == name).fill_null(value=False).to_numpy()).astype(np.int64)

    def select(self, rows: NDArray[Any] | Sequence[int] | pl.Series) -> ImageTable:
        """The rows of a boolean mask (N,) or of row numbers, in their order."""
        chosen = np.asarray(rows)
        if chosen.dtype == bool:
            return replace(self, frame=self.frame.filter(pl.Series(chosen)))
        return replace(self, frame=self.frame[chosen.astype(np.int64)])

    def with_columns(self, columns: Mapping[str, Any]) -> ImageTable:
        """The same rows with columns replaced or added: series, arrays, sequences or Polars expressions."""
        exprs = [v.alias(k) if isinstance(v, pl.Expr) else _series(k, v) for k, v in columns.items()]
        return replace(self, frame=_checked(self.frame.with_columns(exprs), self.labels))

    def with_findings(self, *findings: Finding) -> ImageTable:
        """The same table with more findings."""
        return replace(self, findings=(*self.findings, *findings))

    def reject(self, keep: NDArray[np.bool_], codes: Sequence[str], reasons: Sequence[str]) -> ImageTable:
        """Move the rows where `keep` is False into `rejected`, with a code and a reason for each, in row order."""
        names = self.name_series().filter(pl.Series(~keep))
        moved = pl.DataFrame({"name": names, "code": list(codes), "reason": list(reasons)}, schema=REJECTED_SCHEMA)
        return replace(self.select(keep), rejected=pl.concat([self.rejected, moved]))

    @property
    def listing_digest(self) -> str:
        """SHA-256 over names, labels and splits, in any row order. It changes when a file is renamed or relabeled."""
        return self._digest(_NAME, self._class_name(), pl.col("split").fill_null(""))

    @property
    def content_digest(self) -> str:
        """SHA-256 over content and labels, in any row order: the dataset itself. Needs `scan`, else DataError."""
        if self.frame["digest"].null_count():
            raise DataError("the content is not known yet", where=self.source, hint="scan the table first")
        return self._digest(pl.col("digest"), _REGION.fill_null(""), self._class_name())

    def _digest(self, *parts: pl.Expr) -> str:
        lines = self.frame.select(pl.concat_str(parts, separator="\0").alias("line")).to_series().sort()
        summed = hashlib.sha256(b"sortal-table-1\n")
        for start in range(0, lines.len(), 65536):
            summed.update("".join(f"{line}\n" for line in lines.slice(start, 65536)).encode())
        return summed.hexdigest()

    def _class_name(self) -> pl.Expr:
        names = [*self.labels.names, ""]
        return pl.col("label").replace_strict(
            [*range(len(self.labels)), UNKNOWN], names, return_dtype=pl.String, default=""
        )

    def _source(self, values: Mapping[str, Any]) -> bytes | NDArray[Any]:
        if self.remote is not None:
            return read_remote(self.remote, values["uri"], size=values.get("_size"), where=_row_name(values))
        file = self._file(values["uri"])
        if values["frame"] is not None:
            return frame_pixels(file, values["member"], values["frame"])
        if values["member"] is not None:
            where = _row_name(values)
            return read_member(file, values["_offset"], values["_size"], values["_method"], where=where)
        return read_file(file)

    def _file(self, uri: str) -> Path:
        return Path(uri) if self.root is None else self.root / uri


def build_table(
    frame: pl.DataFrame,
    *,
    labels: LabelSet,
    source: str,
    root: Path | None,
    findings: Iterable[Finding] = (),
    rejected: pl.DataFrame | None = None,
    remote: str | None = None,
) -> ImageTable:
    """An ImageTable from a frame that has at least `uri`; missing columns of `COLUMNS` are filled with their defaults.

    Raises DataError for labels out of range, unknown splits, negative weights and names given twice.
    """
    missing = [
        pl.lit(_DEFAULTS.get(name), dtype=kind).alias(name)
        for name, kind in COLUMNS.items()
        if name not in frame.columns
    ]
    frame = frame.with_columns(missing).with_columns(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
    frame = frame.with_columns(pl.col(name).fill_null(value) for name, value in _DEFAULTS.items())
    technical = [name for name in frame.columns if name not in COLUMNS and name.startswith("_")]
    extra = [name for name in frame.columns if name not in COLUMNS and not name.startswith("_")]
    frame = _checked(frame.select([*COLUMNS, *technical, *extra]), labels)
    names = frame.select(_NAME.alias("name")).to_series()
    if names.n_unique() != names.len():
        twice = names.filter(names.is_duplicated()).unique().sort().head(3).to_list()
        raise DataError(f"rows given twice: {', '.join(twice)}", where=source)
    table = ImageTable(frame=frame, labels=labels, source=source, root=root, findings=tuple(findings), remote=remote)
    return table if rejected is None else replace(table, rejected=rejected)


def finding(code: str, severity: str, message: str, rows: Iterable[str] = (), hint: str | None = None) -> Finding:
    """A Finding that names at most the first 1,000 rows."""
    return Finding.model_validate(
        {"code": code, "severity": severity, "message": message, "rows": tuple(rows)[:MAX_NAMED_ROWS], "hint": hint}
    )


_REGION = (
    pl.when(pl.col("region").is_null())
    .then(pl.lit(None, dtype=pl.String))
    .otherwise(pl.col("region").arr.to_list().cast(pl.List(pl.String)).list.join(","))
)
_NAME = pl.concat_str(
    [
        pl.col("uri"),
        pl.when(pl.col("member").is_null()).then(pl.lit("")).otherwise(pl.lit("::") + pl.col("member")),
        pl.when(pl.col("frame").is_null()).then(pl.lit("")).otherwise(pl.lit("#") + pl.col("frame").cast(pl.String)),
        pl.when(_REGION.is_null()).then(pl.lit("")).otherwise(pl.lit("@") + _REGION),
    ]
).alias("name")


def _checked(frame: pl.DataFrame, labels: LabelSet) -> pl.DataFrame:
    numbers = frame["label"].to_numpy()
    lowest, highest = int(numbers.min(initial=0)), int(numbers.max(initial=UNKNOWN))
    if lowest < UNKNOWN or highest >= len(labels):
        raise DataError("a label is out of range", received=f"{lowest} to {highest}, {len(labels)} classes")
    odd = set(frame["split"].unique().drop_nulls()) - set(SPLITS)
    if odd:
        raise DataError("unknown split", received=", ".join(sorted(odd)[:5]), hint="use train, val and test")
    bad = frame.select(
        (pl.col("weight").is_nan() | ~pl.col("weight").is_finite() | (pl.col("weight") < 0)).sum()
    ).item()
    if bad:
        raise DataError("a weight must be a finite number, 0 or more", received=f"{bad} other rows")
    return frame


def _series(name: str, values: Any) -> pl.Series:
    kind = COLUMNS.get(name)
    series = pl.Series(name, values)
    return series if kind is None else series.cast(kind)


def _row_name(values: Mapping[str, Any]) -> str:
    member = "" if values["member"] is None else f"::{values['member']}"
    frame = "" if values["frame"] is None else f"#{values['frame']}"
    return str(values["uri"]) + member + frame


def _cut(source: bytes | NDArray[Any], region: Sequence[float], where: str) -> NDArray[Any]:
    return cut_region(_upright(source, where) if isinstance(source, bytes) else source, region)


def _upright(data: bytes, where: str) -> NDArray[Any]:
    mode = read_header(data).mode
    grey = mode in ("1", "L", "LA", "I;16", "LA;16")
    return decode(data, channels=1 if grey else 3, depth=16 if mode.endswith(";16") else 8, where=where)
