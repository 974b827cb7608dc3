"""Where all chance in training comes from: counters, never a state that has to be saved.

A number is a pure function of (seed, stream, epoch, index) by the Philox generator (Salmon et al. 2011, "Parallel
random numbers: as easy as 1, 2, 3"). So a run that was broken off goes on with the same numbers, and how many
threads prepare images does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

Stream = Literal["order", "augment", "mix", "step", "init", "folds"]

_STREAMS: dict[Stream, int] = {"order": 0, "augment": 1, "mix": 2, "step": 3, "init": 4, "folds": 5}


def generator(seed: int, stream: Stream, *, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """The generator of one place. Different places never share numbers: they differ in key or in high counter words."""
    counter = np.array([0, 0, index, epoch], dtype=np.uint64)
    key = np.array([seed, _STREAMS[stream]], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def uniforms(
    seed: int, stream: Stream, *, epoch: int, samples: Sequence[int] | NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """(len(samples), count) numbers in [0, 1); row i depends on `samples[i]` alone, not on its place in the batch."""
    drawn = np.empty((len(samples), count), np.float32)
    for row, sample in enumerate(samples):
        drawn[row] = generator(seed, stream, epoch=epoch, index=int(sample)).random(count, dtype=np.float32)
    return drawn


def order(seed: int, *, epoch: int, count: int) -> NDArray[np.int64]:
    """The permutation of `count` samples in this epoch."""
    return generator(seed, "order", epoch=epoch).permutation(count)


@contextmanager
def torch_randomness(seed: int, stream: Stream, *, index: int = 0) -> Iterator[None]:
    """Inside, torch's own random functions (dropout, initialization) depend on (seed, stream, index) alone.

    They read torch's global generator, so that is set here and put back as it was on the way out.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, stream, index=index).integers(2**63)))
        yield
