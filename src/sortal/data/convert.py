"""A table written in another format, with a report: what was read, what was left out, what the format cannot hold."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sortal.core.errors import DataError, InputError, nearest
from sortal.core.report import Finding, Metric, Report
from sortal.core.report import Table as Listing
from sortal.data.formats import FORMATS, WRITABLE, Writer
from sortal.data.formats.classes import split_counts
from sortal.data.formats.options import Images
from sortal.data.formats.placing import sources
from sortal.data.table import SPLITS, ImageTable, finding

FILES: dict[str, str] = {
    "csv": ".csv, .tsv, .jsonl or .parquet",
    "coco": ".json",
    "manifest": ".json",
    "labelstudio": ".json",
    "cvat": ".xml",
}
"""Formats that are one file, with the suffixes it may have; the others are folders."""


def convert(
    table: ImageTable, to: str, out: str | Path, *, images: Images | None = None, replace: bool = False
) -> Report:
    """Write `table` in the format `to` (a name of `WRITABLE`, or of a stranger's format) at `out`.

    `images`: `copy`, `link`, or `refer` to where they lie; None is `refer` for formats that are a file and `link` for
    folders. Raises InputError for an unknown format, DataError when the format cannot hold the table or there is
    something at `out`, MachineError when the machine refuses; then nothing is there.
    """
    member, path = _writer(to), Path(out)
    _check_place(table, to, path)
    if replace:
        _check_replaced(table, path)
    reason = member.can_hold(table)
    if reason is not None:
        hint = f"another format: {', '.join(name for name in WRITABLE if name != to)}"
        raise DataError(f"{to} cannot hold this: {reason}", where=table.source, hint=hint)
    lost = member.loses(table)
    written = member.write(table, path, images=images or ("refer" if to in FILES else "link"), replace=replace)
    found = [*table.findings, *written.findings, *_not_held(to, lost)]
    return Report(
        kind="conversion",
        subject=f"{table.source} as {to}",
        metrics=_counts(table, written.rows),
        tables={"classes": _classes(table)},
        findings=tuple(found),
        paths={"result": str(written.path)},
        body={"format": to, "not_held": list(lost)},
    )


def _writer(to: str) -> Writer:
    name = WRITABLE.get(to, to)
    known = [*WRITABLE, *(other for other in FORMATS.names() if other not in FORMATS.table)]
    if to not in known:
        raise InputError("unknown format to write", where="--to", received=to, hint=nearest(to, known))
    member: Writer = FORMATS.get(name)
    if not all(hasattr(member, part) for part in ("can_hold", "loses", "write")):
        raise InputError("this format can only be read", where="--to", received=to, hint=nearest(to, WRITABLE))
    return member


def _check_place(table: ImageTable, to: str, path: Path) -> None:
    """Refuse a wrong suffix, and to write over what is read."""
    suffixes = FILES.get(to)
    if suffixes is not None and (not path.suffix or path.suffix.lower() not in suffixes):
        raise DataError(f"{to} is written as one file", where=str(path), hint=f"an --out that ends in {suffixes}")
    read = [Path(table.source)] + ([] if table.root is None or table.root == Path() else [table.root])
    if any(path.absolute().resolve() == place.absolute().resolve() for place in read if table.remote is None):
        raise DataError("this is what the images are read from", where=str(path), hint="name another place")


def _check_replaced(table: ImageTable, path: Path) -> None:
    """Refuse to replace a folder that holds something of what is read."""
    if table.remote is not None:
        return
    uris = table.frame["uri"].unique()
    root = Path() if table.root is None else table.root
    read = {os.path.realpath(place) for place in (Path(table.source), *(root / uri for uri in uris))}
    for folder in (path, path.with_name(f"{path.stem}-images")):
        start = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118
        if folder.is_dir() and any(place.startswith(start) for place in read):
            hint = "another --out"
            raise DataError("what is read lies in the folder that would be replaced", where=str(folder), hint=hint)


def _counts(table: ImageTable, rows: int) -> dict[str, Metric]:
    boxes = len(table) - table.frame["region"].null_count()
    numbers = {
        "images read": len(sources(table).first),
        "rows read": len(table),
        "boxes": boxes,
        "classes": len(np.unique(table.label_array()[table.label_array() >= 0])),
        "left out when reading": table.rejected.height,
        "rows written": rows,
    }
    return {name: Metric(value=float(number)) for name, number in numbers.items()}


def _classes(table: ImageTable) -> Listing:
    counts = split_counts(table)
    used = [split for split in SPLITS if any(split in row for row in counts.values())]
    rows = tuple((name, row["all"], *(row.get(split, 0) for split in used)) for name, row in counts.items())
    return Listing(columns=("class", "rows", *used), rows=rows)


def _not_held(to: str, lost: tuple[str, ...]) -> list[Finding]:
    if not lost:
        return []
    return [finding("not_held", "warning", f"{to} does not hold {'; nor '.join(lost)}")]
