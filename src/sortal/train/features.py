"""Frozen features: the embedding of every image, computed once, while the next images are being decoded.

With the digest of what computes them they are kept in the cache that runs share: then an image that was seen before is
neither decoded nor embedded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.core.errors import ImageError
from sortal.core.preprocess import Pixels, PreprocessSpec, normalize
from sortal.core.progress import Listener
from sortal.core.report import Finding
from sortal.data.cache import Cache, content_keys, open_cache
from sortal.data.table import ImageTable
from sortal.models.network import Network
from sortal.train.cached import feature_settings
from sortal.train.store import in_groups, read_image, read_image_and_key, tell_of_cache, unreadable

Extractor = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, C, height, width) normalized -> (N, D) embeddings: a live network, or the graph that production will run."""

Read = tuple[int, Pixels, bytes | None]
"""Position, prepared image, key of its content."""

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Features:
    """Embeddings of the readable, labeled images of one split."""

    values: NDArray[np.float32]
    """(N, D)"""
    labels: NDArray[np.int64]
    """(N,)"""
    rows: NDArray[np.int64]
    """(N,) rows of the table."""


def extract(
    table: ImageTable,
    rows: NDArray[np.int64],
    spec: PreprocessSpec,
    extractor: Extractor,
    *,
    threads: int,
    listener: Listener,
    stage: str,
    key: str | None = None,
) -> tuple[Features, tuple[Finding, ...]]:
    """Features of the labeled `rows`, in order, and a finding about those that cannot be read.

    `key` names the extractor (a digest of its graph or weights, and the engine that runs it); None keeps nothing.
    """
    labels = table.label_array()
    rows = rows[labels[rows] >= 0]
    errors: dict[int, ImageError] = {}
    with nullcontext() if key is None else open_cache("features", feature_settings(spec, key)) as cache:
        values = _known(cache, table, rows)
        missing = [position for position, value in enumerate(values) if value is None]
        listener.progress(stage, len(rows) - len(missing), len(rows))
        work = _Missing(table=table, rows=rows, positions=missing, spec=spec, keyed=cache is not None)
        for batch in _batches(work, errors, threads, listener, stage):
            images = normalize(spec, np.stack([image for _, image, _ in batch]))
            found = np.asarray(extractor(_filled(images)), np.float32)[: len(batch)]
            for (position, _, image_key), value in zip(batch, found, strict=True):
                values[position] = value
                if cache is not None and image_key is not None:
                    cache.put(image_key, value)
        tell_of_cache(cache, len(rows) - len(missing), len(rows), listener, stage)
        kept = [value for value in values if value is not None]
        stacked = np.stack(kept) if kept else np.zeros((0, 0), np.float32)
    readable = np.delete(rows, sorted(errors))
    return Features(values=stacked, labels=labels[readable], rows=readable), unreadable(table, rows, errors)


def _filled(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """A whole batch: kernels are chosen by its size and round differently, and features must not depend on which of
    them were known before."""
    return np.concatenate([images, np.repeat(images[-1:], max(0, _BATCH - len(images)), axis=0)])


def live_extractor(network: Network) -> Extractor:
    """The embedding of a live network, in evaluation mode, channels last."""
    network.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        images = torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)
        return np.asarray(network.embed(images).float().numpy())

    return run


@dataclass(frozen=True, kw_only=True)
class _Missing:
    """Images whose features are not known; `positions` are places in `rows`."""

    table: ImageTable
    rows: NDArray[np.int64]
    positions: list[int]
    spec: PreprocessSpec
    keyed: bool

    def read(self, number: int) -> Read | ImageError:
        position = self.positions[number]
        row = int(self.rows[position])
        try:
            if self.keyed:
                return position, *read_image_and_key(self.table, row, self.spec)
            return position, read_image(self.table, row, self.spec), None
        except ImageError as error:
            return error


def _known(cache: Cache | None, table: ImageTable, rows: NDArray[np.int64]) -> list[NDArray[np.float32] | None]:
    if cache is None:
        return [None] * len(rows)
    return [None if key is None else cache.get(key) for key in content_keys(table, rows)]


def _batches(
    work: _Missing, errors: dict[int, ImageError], threads: int, listener: Listener, stage: str
) -> Iterator[list[Read]]:
    held: list[Read] = []
    known = len(work.rows) - len(work.positions)
    for number, result in enumerate(in_groups(work.read, len(work.positions), threads=threads)):
        listener.progress(stage, known + number + 1, len(work.rows))
        if isinstance(result, ImageError):
            errors[work.positions[number]] = result
        else:
            held.append(result)
        if len(held) == _BATCH:
            yield held
            held = []
    if held:
        yield held
