"""Putting the images of a table beside what a writer writes: linked, copied, or left where they are and referred to.

Names stay as they are, in any script; a name that is taken gets a number. What is no file of its own (a member of an
archive, a frame of an array, a remote image, a crop) always becomes one; pixels become PNG, which loses nothing.
"""

from __future__ import annotations

import io
import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortal.core.errors import DataError, ImageError
from sortal.core.publish import publish_folder
from sortal.core.report import Finding
from sortal.data.containers import png as png_file
from sortal.data.formats.options import Images
from sortal.data.table import MAX_NAMED_ROWS, ImageTable, finding

_KEYS = ("uri", "member", "frame")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """The distinct images of a table: `first` row of each, and for each row of the table the `number` of its image."""

    first: NDArray[np.int64]
    number: NDArray[np.int64]


@dataclass(kw_only=True)
class Failures:
    """Images that could not be read on the way, by name, with their code."""

    codes: dict[str, str] = field(default_factory=dict)

    def findings(self) -> tuple[Finding, ...]:
        """One finding that names them all."""
        if not self.codes:
            return ()
        kinds = ", ".join(sorted(set(self.codes.values())))
        message = f"{len(self.codes)} images cannot be read and are left out ({kinds})"
        return (finding("unreadable", "warning", message, list(self.codes)[:MAX_NAMED_ROWS]),)


def sources(table: ImageTable) -> Sources:
    """Which rows share an image, in order of first appearance."""
    keys = table.frame.select(_KEYS).with_row_index("row")
    firsts = keys.unique(_KEYS, keep="first", maintain_order=True).with_row_index("source")
    joined = keys.join(firsts.drop("row"), on=_KEYS, how="left", nulls_equal=True, maintain_order="left")
    return Sources(first=firsts["row"].to_numpy().astype(np.int64), number=joined["source"].to_numpy().astype(np.int64))


def file_names(
    table: ImageTable, rows: Iterable[int], folders: Iterable[str], *, by_stem: bool = False, crops: bool = False
) -> list[str]:
    """A name for each of `rows`, unique in its folder without regard to case (with `by_stem` also without suffix).

    With `crops` a row is its region, which is written as PNG, else its whole image.
    """
    taken: dict[str, int] = {}
    names = []
    for wanted, folder in zip(_wanted(table, list(rows), crops=crops), folders, strict=True):
        stem, suffix = os.path.splitext(wanted)  # noqa: PTH122  a million times
        number = taken.get(_folded(folder, wanted, by_stem=by_stem), 0)
        name = wanted
        while number:
            number += 1
            name = f"{stem}-{number}{suffix}"
            if _folded(folder, name, by_stem=by_stem) not in taken:
                taken[_folded(folder, wanted, by_stem=by_stem)] = number
                break
        taken.setdefault(_folded(folder, name, by_stem=by_stem), 1)
        names.append(name)
    return names


def place(table: ImageTable, row: int, target: Path, images: Images, failures: Failures, *, whole: bool = True) -> bool:
    """Put the image of a row at `target`: the file, or with `whole=False` its region. False where it cannot be read."""
    frame = table.frame
    single = table.remote is None and frame["member"][row] is None and frame["frame"][row] is None
    try:
        if single and (whole or frame["region"][row] is None):
            _put_file(table.path(row), target, images)
        else:
            content = table.read_whole(row) if whole else table.read(row)
            target.write_bytes(content if isinstance(content, bytes) else png(content))
    except ImageError as error:
        failures.codes[table.name(row)] = error.code
        return False
    return True


def refer(table: ImageTable, rows: Iterable[int], base: Path) -> list[str]:
    """For each of `rows` the path of its file from the folder `base`, POSIX; absolute where drives differ."""
    start = os.path.abspath(base)  # noqa: PTH100  links stay as they are
    return [_relative(table.path(row), start) for row in rows]


def whole_names(table: ImageTable, folders: Iterable[str] | None = None) -> dict[int, str]:
    """For each row the name of its image in a folder of images, unique also without suffix.

    `folders` gives the folder of each distinct image, "" or such as "train/".
    """
    found = sources(table)
    folders = [""] * len(found.first) if folders is None else list(folders)
    names = file_names(table, found.first.tolist(), folders, by_stem=True)
    each = [f"{folder}{name}" for folder, name in zip(folders, names, strict=True)]
    return {row: each[number] for row, number in enumerate(found.number.tolist())}


def beside(
    table: ImageTable, path: Path, images: Images, failures: Failures, *, crops: bool, replace: bool
) -> dict[int, str]:
    """The name that the file `path` has for the image of each row, for rows whose image can be read.

    Files are referred to where they lie unless asked otherwise; all else goes into the folder `<stem>-images`.
    """
    frame = table.frame
    alone = frame["member"].is_null() & frame["frame"].is_null()
    cut = frame["region"].is_not_null() if crops else ~alone
    stays = images == "refer" and table.remote is None
    outside = (alone & ~cut).to_numpy() if stays else np.zeros(len(table), dtype=bool)
    found = sources(table)
    numbers = np.arange(len(table)) if crops else found.first[found.number]
    referred = sorted(set(numbers[outside].tolist()))
    names = dict(zip(referred, refer(table, referred, path.parent), strict=True))
    placed = sorted(set(numbers[~outside].tolist()))
    if placed:
        folder = path.with_name(f"{path.stem}-images")
        how: Images = "copy" if images == "refer" else images
        files = dict(zip(placed, file_names(table, placed, [""] * len(placed), crops=crops), strict=True))

        def fill(temporary: Path) -> None:
            for row, name in files.items():
                if place(table, row, temporary / name, how, failures, whole=not crops):
                    names[row] = f"{folder.name}/{name}"

        publish_folder(folder, fill, replace=replace)
    return {row: names[number] for row, number in enumerate(numbers.tolist()) if number in names}


def png(pixels: NDArray[Any]) -> bytes:
    """Pixels (H, W, 1, 3 or 4) uint8 or uint16 as PNG."""
    if pixels.dtype == np.uint8:
        buffer = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
        return buffer.getvalue()
    return png_file.write(pixels)


def check_free(path: Path, *, replace: bool) -> None:
    """Raise DataError when there is something at `path` and it may not be replaced."""
    if not replace and os.path.lexists(path):
        raise DataError("already exists and is not overwritten", where=str(path), hint="another --out, or --replace")


def _put_file(source: Path, target: Path, images: Images) -> None:
    if not source.is_file():
        raise ImageError("missing", "there is no such file", where=str(source))
    if images == "copy":
        try:
            shutil.copyfile(source, target)
        except PermissionError as error:
            raise ImageError("permission", "the file may not be read", where=str(source)) from error
        return
    try:
        target.symlink_to(source.resolve())
    except (OSError, NotImplementedError):  # Windows without the right to make links, or a file system without links
        shutil.copyfile(source, target)


def _wanted(table: ImageTable, rows: list[int], *, crops: bool) -> Iterator[str]:
    """The last part of the path, cleaned of what no file name or list can hold; `a-000012.png` for frames."""
    chosen = table.frame.select("uri", "member", "frame", "region")[rows]
    for uri, member, frame, region in chosen.iter_rows():
        name = _clean(PurePosixPath(uri if member is None or frame is not None else member).name)
        if frame is not None:
            name = f"{PurePosixPath(name).stem}-{frame:06d}.png"
        elif crops and region is not None:
            name = f"{PurePosixPath(name).stem}.png"
        yield name


def _clean(name: str) -> str:
    kept = "".join("_" if ord(char) < 32 or ord(char) == 127 else char for char in name).strip().lstrip(".").strip()
    return kept or "image"


def _folded(folder: str, name: str, *, by_stem: bool) -> str:
    key = os.path.splitext(name)[0] if by_stem else name  # noqa: PTH122
    return f"{folder}/{unicodedata.normalize('NFC', key).casefold()}"


def _relative(path: Path, start: str) -> str:
    try:
        return Path(os.path.relpath(os.path.abspath(path), start)).as_posix()  # noqa: PTH100
    except ValueError:  # another drive
        return path.absolute().as_posix()
