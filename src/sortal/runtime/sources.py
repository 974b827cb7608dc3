"""What people hand to `predict`, turned into named items that can be opened one by one.

A table, a path, a list of paths, bytes, arrays or Pillow images: each becomes an `Item`. Nothing is read here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortal.core.errors import InputError
from sortal.data.decode import read_file

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from sortal.data.table import ImageTable

Raw: TypeAlias = "bytes | NDArray[Any] | Image.Image"
OneImage: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image"
Images: TypeAlias = "ImageTable | OneImage | Iterable[OneImage]"
"""A single str or path may also be a folder, table or archive of images."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image to be answered. `open` gives encoded bytes, pixels or a Pillow image, or raises ImageError."""

    name: str
    open: Callable[[], Raw]
    array: NDArray[Any] | None = None
    """The pixels, where they are in memory already."""


def items_of(images: Images) -> Sequence[Item]:
    """Every image of `images` in order. Raises InputError for what is no image, DataError for a source without any."""
    if isinstance(images, _LISTS):
        return [_item(image, position) for position, image in enumerate(images)]
    if _is_table(images):
        return _TableItems(images)
    if isinstance(images, str | os.PathLike) and not _is_one_image(Path(images)):
        from sortal.data.open import images as open_images

        return _TableItems(open_images(images if isinstance(images, str) else Path(images)))
    if isinstance(images, str | os.PathLike | bytes | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim < 4
    ):
        return [_item(images, 0)]
    return [_item(image, position) for position, image in enumerate(images)]


_LISTS = (list, tuple)


def _is_table(images: Any) -> TypeIs[ImageTable]:
    """Whether it is an ImageTable. Who has one has loaded its module; who answers files never loads it, nor Polars."""
    module = sys.modules.get("sortal.data.table")
    return module is not None and isinstance(images, module.ImageTable)


def _is_one_image(path: Path) -> bool:
    """A file that is no table, array file or archive, by its name: a damaged image is still an image."""
    return path.is_file() and path.suffix.lower() not in _COLLECTIONS


_COLLECTIONS = frozenset(
    {".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xml", ".txt", ".list", ".lst", ".npz", ".npy", ".bin"}
    | {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz"}
)


class _TableItems(Sequence[Item]):
    """The rows of a table as items, made when asked for: a table may have millions of rows."""

    def __init__(self, table: ImageTable):
        self._table = table
        self._names = table.names()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[position] for position in range(*row.indices(len(self)))]
        return Item(name=self._names[row], open=partial(self._table.read, row))


def _item(image: Any, position: int) -> Item:
    name = f"input[{position}]"
    if isinstance(image, np.ndarray):
        return Item(name=name, open=lambda: image, array=image)
    if isinstance(image, str | os.PathLike):
        return Item(name=os.fspath(image), open=partial(read_file, Path(image)))
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
        return Item(name=name, open=lambda: data)
    if isinstance(image, Image.Image):
        return Item(name=name, open=lambda: image)
    raise InputError(
        "not an image",
        where=name,
        received=type(image).__name__,
        hint="give paths, bytes, numpy arrays (height, width, channels) in RGB order, or Pillow images",
    )
