"""Small pictures of some rows, read when a second look needs them: luma, stretched to a square of 64 pixels.

A survey keeps 16 pixels of every image; of the few that are much alike more is read, by threads, and kept in the cache
by content, so that a second run reads none of them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortal.data.cache import Cache, content_keys, open_cache
from sortal.data.look import look_settings, picture
from sortal.data.scan import in_order
from sortal.data.second_look import SECOND_PX
from sortal.data.table import ImageTable

Ints = NDArray[np.int64]


def small_pictures(table: ImageTable, rows: Ints) -> NDArray[np.uint8]:
    """(M, 64, 64) luma of rows (M,) of a scanned table. Raises ImageError where one cannot be decoded any more."""
    found = np.empty((len(rows), SECOND_PX, SECOND_PX), np.uint8)
    with open_cache("surveys", {**look_settings(), "luma_px": SECOND_PX}) as cache:
        keys = content_keys(table, rows)
        done = 0
        for part in in_order(partial(_part, table, cache, rows, keys), len(rows), None):
            for key, small in zip(keys[done : done + len(part)], part, strict=True):
                found[done] = small
                if cache is not None and key is not None:
                    cache.put(key, small)
                done += 1
    return found


def _part(
    table: ImageTable, cache: Cache | None, rows: Ints, keys: list[bytes | None], chosen: range
) -> list[NDArray[np.uint8]]:
    return [_kept(table, cache, int(rows[place]), keys[place]) for place in chosen]


def _kept(table: ImageTable, cache: Cache | None, row: int, key: bytes | None) -> NDArray[np.uint8]:
    kept = None if cache is None or key is None else cache.get(key)
    return _luma(table.read(row)) if kept is None else kept.reshape(SECOND_PX, SECOND_PX)


def _luma(content: bytes | NDArray[Any]) -> NDArray[np.uint8]:
    square = (SECOND_PX, SECOND_PX)
    small = picture(content)[0].convert("L").resize(square, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small, np.uint8)
