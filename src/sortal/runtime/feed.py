"""From items to prepared batches: decoded and resized by a few threads, a bounded number ahead, in order.

What cannot be read becomes an error beside the batch, never an exception and never a black image. Memory holds a few
batches whatever the number of images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sortal.core.errors import ImageError, InputError
from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.data.decode import to_pixels, to_source
from sortal.runtime.sources import Item

_SAMPLES = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16)}
"""By the bits of a sample."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Up to `batch` neighboring items: those that could be read as pixels, the others as errors."""

    end: int
    """How many items are finished once this batch is."""
    rows: tuple[int, ...]
    """Which item each image of `pixels` is."""
    pixels: Pixels
    """(len(rows), height, width, channels), the network's size, not yet normalized; of one image's own size where
    upright pixels were asked for."""
    errors: dict[int, tuple[str, str]]
    """Row -> (code, message)."""


def prepared_batches(
    items: Sequence[Item], spec: PreprocessSpec, *, batch: int, workers: int, upright: bool = False
) -> Iterator[Batch]:
    """All items in order, `batch` at a time; two batches are prepared while one is used. Where there is nothing to
    prepare, a single image, or a single batch and a single thread, nobody is waited for: handing over takes longer
    than the work.

    Where `upright` is True images are decoded only, and come one at a time: for graphs that resize themselves.
    """
    batch = 1 if upright else batch
    work = _upright if upright else _prepare
    alone = len(items) == 1 or (workers == 1 and len(items) <= batch)
    if alone or all(_has_the_size(item, spec) for item in items):
        for start in range(0, len(items), batch):
            rows = range(start, min(start + batch, len(items)))
            yield _collect(start, [work(items[row], spec) for row in rows], spec)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sortal-decode")
    try:
        waiting: deque[Future[Pixels | ImageError]] = deque()
        submitted = 0
        for start in range(0, len(items), batch):
            while submitted < min(start + 3 * batch, len(items)):
                waiting.append(pool.submit(work, items[submitted], spec))
                submitted += 1
            results = [waiting.popleft().result() for _ in range(min(batch, len(items) - start))]
            yield _collect(start, results, spec)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def single(item: Item, spec: PreprocessSpec, *, upright: bool = False) -> Batch:
    """The one batch of a single item; `upright` as in `prepared_batches`."""
    return _collect(0, [(_upright if upright else _prepare)(item, spec)], spec)


def _has_the_size(item: Item, spec: PreprocessSpec) -> bool:
    """Whether the item is an array in memory that needs no resizing."""
    if item.array is None or spec.window is not None or spec.region is not None:
        return False
    return item.array.shape[:2] == spec.size and (spec.resize != "crop" or spec.crop == 1.0)


def _is_prepared(array: Pixels, item: Item, spec: PreprocessSpec) -> bool:
    """Whether decoding and `prepare` would only check the item's array and give it back."""
    return (
        array.ndim == 3
        and array.shape[2] == spec.channels
        and array.dtype == _SAMPLES[spec.depth]
        and _has_the_size(item, spec)
    )


def _prepare(item: Item, spec: PreprocessSpec) -> Pixels | ImageError:
    array = item.array
    if array is not None and _is_prepared(array, item, spec):
        return array
    try:
        source = to_source(item.open(), channels=spec.channels, depth=spec.depth, where=item.name)
        return prepare(spec, source)
    except ImageError as error:
        return error
    except (InputError, OSError, MemoryError) as error:
        return _corrupt(item, error)


def _upright(item: Item, spec: PreprocessSpec) -> Pixels | ImageError:
    try:
        return to_pixels(item.open(), channels=spec.channels, depth=spec.depth, where=item.name)
    except ImageError as error:
        return error
    except (InputError, OSError, MemoryError) as error:
        return _corrupt(item, error)


def _corrupt(item: Item, error: Exception) -> ImageError:
    return ImageError("corrupt", str(error) or type(error).__name__, where=item.name)


def _collect(start: int, results: list[Pixels | ImageError], spec: PreprocessSpec) -> Batch:
    rows, images = list[int](), list[Pixels]()
    errors = dict[int, tuple[str, str]]()
    for row, result in enumerate(results, start):
        if isinstance(result, ImageError):
            errors[row] = result.code, result.what
        else:
            rows.append(row)
            images.append(result)
    if len(images) == 1:
        pixels = images[0][None]
    else:
        pixels = np.stack(images) if images else np.zeros((0, *spec.size, spec.channels), np.uint8)
    return Batch(end=start + len(results), rows=tuple(rows), pixels=pixels, errors=errors)
