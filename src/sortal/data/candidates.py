"""Pairs of pictures worth a closer look among a million, without comparing all with all.

Three ways, joined: equal bands of the perceptual hash (multi-index hashing, Norouzi, Punjani and Fleet 2012: of two
hashes that differ in fewer bits than there are bands, one band is equal), signs of random projections of the tiny
pictures (Charikar 2002), and the same of features where there are any. Rows are sorted by each key, so that what
agrees in the longest beginning lies side by side (the idea of an LSH forest, Bawa et al. 2005), and every row is
compared with a fixed number of neighbors in that order: the cost is keys x neighbors x rows, whatever lies in one
bucket. Small sets are compared whole.

Shapes: N rows, P pairs, B = HASH_BYTES, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.data.survey import HASH_BYTES

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Pairs = tuple[Ints, Ints]

WHOLE_UP_TO = 4096
"""Rows up to which all pairs are compared."""
NEIGHBORS = 8
"""Neighbors in the order of each key that a row is compared with."""
PERMUTATIONS = 3
"""Ways to cut the hash into bands: the first keeps the promise of the pigeonhole, the others find most of what differs
in more bits."""
PROJECTIONS = 12
"""Keys made of projections of each kind of vector."""

_HASH_BITS = 8 * HASH_BYTES
_KEY_BITS = 64
_BLOCK = 1024
_PAIRS_AT_ONCE = 1 << 18
_NUMBERS_AT_ONCE = 1 << 23
_WIDE_BANDS_FROM = 100_000


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Rows are alike where the product of their vectors is at least `least`."""

    values: Floats
    """(N, D) of unit length."""
    least: float


def candidate_pairs(hashes: NDArray[np.uint8], bits: int, vectors: Sequence[Vectors], *, seed: int = 0) -> Pairs:
    """Row numbers (P,), (P,), first < second, each pair once: hashes (N, B) that differ in `bits` or fewer, or vectors
    that are alike. Beyond WHOLE_UP_TO rows not all of them are found, and the closer two are the surer."""
    if len(hashes) <= WHOLE_UP_TO:
        signs = (np.unpackbits(hashes, axis=1).astype(np.float32) - 0.5) * (2 / np.sqrt(_HASH_BITS))
        wanted = (Vectors(values=signs, least=1 - 2 * (bits + 0.5) / _HASH_BITS), *vectors)
        return _once([pairs for one in wanted for pairs in _whole(one)], len(hashes))
    generator = np.random.Generator(np.random.Philox(key=seed))
    found = []
    for key, shared_bits in _bands(hashes, generator):
        found += [_close(hashes, pairs, bits) for pairs in _beside(key, shared_bits)]
    for one in vectors:
        for key in _projections(one.values, generator):
            found += [_alike(one, pairs) for pairs in _beside(key, 0)]
    return _once(found, len(hashes))


def differing_bits(hashes: NDArray[np.uint8], first: Ints, second: Ints) -> Ints:
    """(P,) Hamming distances, 0 to 256, between rows of (N, B)."""
    words = np.ascontiguousarray(hashes).view(np.uint64)
    parts = [
        np.bitwise_count(words[first[start:end]] ^ words[second[start:end]]).sum(axis=1, dtype=np.int64)
        for start, end in _chunks(len(first))
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def products(values: Floats, first: Ints, second: Ints) -> Floats:
    """(P,) scalar products of rows of (N, D). The longer the rows, the fewer are copied at a time."""
    at_once = min(_PAIRS_AT_ONCE, max(1, _NUMBERS_AT_ONCE // max(1, values.shape[1])))
    parts = [
        np.einsum("pd,pd->p", values[first[start:end]], values[second[start:end]])
        for start, end in _chunks(len(first), at_once)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _chunks(count: int, at_once: int = _PAIRS_AT_ONCE) -> Iterator[tuple[int, int]]:
    return ((start, min(start + at_once, count)) for start in range(0, count, at_once))


def _whole(wanted: Vectors) -> Iterator[Pairs]:
    """All pairs that are alike, block by block."""
    for start in range(0, len(wanted.values), _BLOCK):
        likeness = wanted.values[start : start + _BLOCK] @ wanted.values[start:].T
        first, second = np.nonzero(likeness >= wanted.least)
        later = second > first
        yield first[later] + start, second[later] + start


def _close(hashes: NDArray[np.uint8], pairs: Pairs, bits: int) -> Pairs:
    kept = differing_bits(hashes, *pairs) <= bits
    return pairs[0][kept], pairs[1][kept]


def _alike(wanted: Vectors, pairs: Pairs) -> Pairs:
    kept = products(wanted.values, *pairs) >= wanted.least
    return pairs[0][kept], pairs[1][kept]


def _bands(hashes: NDArray[np.uint8], generator: np.random.Generator) -> Iterator[tuple[NDArray[np.uint64], int]]:
    """Keys (N,) that begin with one band of the hash, and the number of bits in a band.

    Bands of two bytes promise to find what differs in up to 15 bits; among many rows bands of three (9 bits) keep
    buckets of chance small.
    """
    width = 3 if len(hashes) > _WIDE_BANDS_FROM else 2
    for number in range(PERMUTATIONS):
        mixed = hashes if number == 0 else _permuted(hashes, generator)
        rolled = np.concatenate([mixed, mixed[:, : _KEY_BITS // 8]], axis=1)
        for start in range(0, HASH_BYTES - width + 1, width):
            key = np.ascontiguousarray(rolled[:, start : start + _KEY_BITS // 8]).view(">u8")[:, 0]
            yield key.astype(np.uint64), 8 * width


def _permuted(hashes: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The same bits in another order."""
    order = generator.permutation(_HASH_BITS)
    parts = [np.packbits(np.unpackbits(part, axis=1)[:, order], axis=1) for part in _split(hashes)]
    return np.concatenate(parts)


def _split(rows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (rows[start:end] for start, end in _chunks(len(rows)))


def _projections(values: Floats, generator: np.random.Generator) -> Iterator[NDArray[np.uint64]]:
    """Keys (N,) of signs of random projections of the centered vectors (N, D)."""
    centered = values - values.mean(axis=0)
    for _ in range(PROJECTIONS):
        axes = generator.standard_normal((values.shape[1], _KEY_BITS), dtype=np.float32)
        signs = np.packbits(centered @ axes > 0, axis=1)
        yield np.ascontiguousarray(signs).view(">u8")[:, 0].astype(np.uint64)


def _beside(key: NDArray[np.uint64], shared_bits: int) -> Iterator[Pairs]:
    """Each row with its next neighbors in the order of `key` (N,) that agree with it in the first `shared_bits`."""
    order = np.argsort(key, kind="stable").astype(np.int64)
    start = (key >> np.uint64(_KEY_BITS - shared_bits))[order] if shared_bits else np.zeros(len(key), np.uint64)
    for step in range(1, min(NEIGHBORS, len(key) - 1) + 1):
        same = np.flatnonzero(start[step:] == start[:-step])
        if not len(same):
            return
        yield order[same], order[same + step]


def _once(found: Sequence[Pairs], rows: int) -> Pairs:
    """Each pair once, the lower row first, in order."""
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    one, other = (np.concatenate(column) for column in zip(*found, strict=True))
    codes = np.unique(np.minimum(one, other) * rows + np.maximum(one, other))
    return codes // max(rows, 1), codes % max(rows, 1)
