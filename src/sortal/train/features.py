"""Frozen features: the embedding of every image, computed once, while the next images are being decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.core.errors import ImageError
from sortal.core.preprocess import Pixels, PreprocessSpec, normalize
from sortal.core.progress import Listener
from sortal.core.report import Finding
from sortal.data.table import ImageTable
from sortal.models.network import Network
from sortal.train.store import in_order, read_image, unreadable

Extractor = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, C, height, width) normalized -> (N, D) embeddings: a live network, or the graph that production will run."""

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
) -> tuple[Features, tuple[Finding, ...]]:
    """Features of the labeled `rows`, in order, and a finding about those that cannot be read."""
    labels = table.label_array()
    rows = rows[labels[rows] >= 0]
    errors: dict[int, ImageError] = {}
    batches = _batches(table, rows, spec, errors, threads, listener, stage)
    values = [extractor(normalize(spec, batch)) for batch in batches]
    kept = np.delete(rows, sorted(errors))
    found = np.concatenate(values) if values else np.zeros((0, 0), np.float32)
    return Features(values=found, labels=labels[kept], rows=kept), unreadable(table, rows, errors)


def live_extractor(network: Network) -> Extractor:
    """The embedding of a live network, in evaluation mode, channels last."""
    network.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        images = torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)
        return np.asarray(network.embed(images).float().numpy())

    return run


def _batches(
    table: ImageTable,
    rows: NDArray[np.int64],
    spec: PreprocessSpec,
    errors: dict[int, ImageError],
    threads: int,
    listener: Listener,
    stage: str,
) -> Iterator[Pixels]:
    def read(position: int) -> Pixels | ImageError:
        try:
            return read_image(table, int(rows[position]), spec)
        except ImageError as error:
            return error

    held: list[Pixels] = []
    for position, image in enumerate(in_order(read, range(len(rows)), threads=threads)):
        listener.progress(stage, position + 1, len(rows))
        if isinstance(image, ImageError):
            errors[position] = image
        else:
            held.append(image)
        if len(held) == _BATCH:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)
