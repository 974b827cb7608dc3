"""Whether two pictures that are much alike at 16 pixels are one picture: laid over each other again at 64 pixels.

A copy (saved again, resized, cropped by a little, turned by a degree or two, lighter, blurred, with other noise) leaves
nothing behind in any band of detail but the noise of its file. Two parts of one kind in one pose have the same outline
and differ in what is fine: texture, reflections, the edges of holes, the ground they lie on. The fit is that of Lucas
and Kanade (1981) with a full affine motion, from coarse to fine (Bergen et al. 1992); then each band of a Laplacian
decomposition (Burt and Adelson 1983) of one picture is fitted by that of the other, sharpened or softened as it needs.

Only luma is looked at; colors are compared on the tiny pictures (`likeness`). Pictures are given, none is read here.

Shapes: P pairs, S pixels a side (SECOND_PX or a half, a quarter of it), (P, S, S) luma, (P, 6) affine motions: shift
across as a share of the side, its change across and down, then the same for the shift down.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

SECOND_PX = 64
"""Pixels a side of the pictures that are looked at again."""
STEPS = {16: 5, 32: 4, 64: 4}
"""Fits of the motion at each size, coarse to fine."""
WIDTHS = (1, 3, 7, 15)
"""Smoothings by (1, 2, 1) / 4 between which the bands lie, from fine to coarse: about 3 to 12 pixels of 64."""
BAND_LEFT: tuple[float, ...] = (0.1, 0.015, 0.01, 0.008)
"""Share of the contrast of the finest to the coarsest band that a copy may leave over."""
BAND_LEVELS: tuple[float, ...] = (1.0, 0.5, 0.4, 0.4)
"""Levels (root mean square, of 255) that noise and JPEG may leave over in each, however faint the picture."""
HOPELESS = 3.0
"""Unlikeness at half the size above which a pair is not looked at any closer."""
MOST_SHIFT, MOST_SCALE, MOST_TURN = 0.06, 0.13, 0.06
"""Share of the side; a crop of 5 % on two opposite sides is a scale of 1 / 0.9; a turn of 3.4 degrees is 0.06."""
GAIN = (0.7, 1.43)
MARGIN = 0.03
"""Share of the side, along the border of either picture, that is not compared."""
LEAST_SEEN = 0.6
"""Share of the picture that must be in both."""

_BLOCK = 256
_DAMPING = 1e-4


def unlikeness(pictures: NDArray[np.uint8], first: Ints, second: Ints) -> Floats:
    """(P,) how far pairs of luma pictures (N, 64, 64) are from being one: up to 1 for what a copy may differ by.

    It is the worst band's share of what that band may leave over; infinity where the motion or the light of the one is
    not that of a copy of the other.
    """
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(first), _BLOCK)]
    found = [_unlike(pictures[first[block]], pictures[second[block]]) for block in blocks]
    return np.concatenate([np.zeros(0, np.float32), *found])


def _unlike(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Floats:
    """Of (P, S, S) and (P, S, S): those that differ too much at half the size are not looked at any closer."""
    one, other = _pyramid(a), _pyramid(b)
    found = np.full(len(a), np.inf, np.float32)
    going, motion = np.arange(len(a)), np.zeros((len(a), 6), np.float32)
    for size in STEPS:
        left, right = one[size][going], other[size][going]
        motion, gain = _aligned(left, right, motion, STEPS[size])
        if size == min(STEPS):
            continue
        bands = slice(0 if size == SECOND_PX else 1, len(WIDTHS))
        worst = _worst(left, right, motion, bands)
        worst[~_plausible(motion, gain)] = np.inf
        found[going] = worst
        kept = worst <= HOPELESS
        going, motion = going[kept], motion[kept]
        if not len(going):
            break
    return found


def _pyramid(pictures: NDArray[np.uint8]) -> dict[int, Floats]:
    sizes = sorted(STEPS, reverse=True)
    found = {sizes[0]: pictures.astype(np.float32)}
    for larger, smaller in pairwise(sizes):
        found[smaller] = found[larger].reshape(-1, smaller, 2, smaller, 2).mean(axis=(2, 4))
    return found


def _plausible(motion: Floats, gain: Floats) -> NDArray[np.bool_]:
    """(P,) whether a motion is that of a copy: shift, scale and turn are small."""
    moved = np.abs(motion)
    most = np.asarray([MOST_SHIFT, MOST_SCALE, MOST_TURN, MOST_SHIFT, MOST_TURN, MOST_SCALE])
    return np.asarray((moved <= most).all(axis=1) & (gain >= GAIN[0]) & (gain <= GAIN[1]))


def _aligned(a: Floats, b: Floats, motion: Floats, steps: int) -> tuple[Floats, Floats]:
    """The motion that brings a (P, S, S) over b, from the one known so far, and the gain in light."""
    a, b, gain = _smooth(a), _smooth(b), np.ones(len(a), np.float32)
    for _ in range(steps):
        further, gain = _step(a, b, motion)
        motion = np.clip(motion + further, -0.2, 0.2)
    return motion, gain


def _step(a: Floats, b: Floats, motion: Floats) -> tuple[Floats, Floats]:
    """One linear fit of b by a as it was moved so far: how to move it further, and the gain."""
    count, size = a.shape[:2]
    image = _moved(a, motion)
    across, down = np.gradient(image, axis=2), np.gradient(image, axis=1)
    x, y = _grid(size)
    seen = _seen(motion, size)
    columns = [image, np.ones_like(image), across, across * x, across * y, down, down * x, down * y]
    design = np.stack([(column * seen).reshape(count, -1) for column in columns], axis=1)
    target = (b * seen).reshape(count, -1)
    solved = _solved(design @ design.transpose(0, 2, 1), (design @ target[:, :, None])[:, :, 0])
    gain = solved[:, 0]
    return np.asarray(solved[:, 2:] / np.maximum(np.abs(gain), 0.2)[:, None] / size, np.float32), gain


def _solved(normal: Floats, right: Floats) -> Floats:
    """Solutions (P, K) of normal equations (P, K, K), (P, K), slightly damped."""
    damping = _DAMPING * np.einsum("pii->pi", normal) + 1e-2
    damped = normal + damping[:, :, None] * np.eye(normal.shape[1], dtype=np.float32)
    return np.asarray(np.linalg.solve(damped, right[:, :, None])[:, :, 0], np.float32)


def _grid(size: int) -> tuple[Floats, Floats]:
    """Places across (1, 1, S) and down (1, S, 1) from the middle, as shares of the side."""
    place: Floats = np.asarray((np.arange(size) - (size - 1) / 2) / size, np.float32)
    return place[None, None, :], place[None, :, None]


def _places(motion: Floats, size: int) -> tuple[Floats, Floats]:
    """Where each pixel comes from: across and down (P, S, S), from the middle, as shares of the side."""
    x, y = _grid(size)
    shift, across, turned, drop, turned_too, along = (column[:, None, None] for column in motion.T)
    return x + shift + across * x + turned * y, y + drop + turned_too * x + along * y


def _seen(motion: Floats, size: int) -> Floats:
    """(P, S, S) 1 where a pixel is well inside both pictures, else 0."""
    edge = 0.5 - MARGIN - 0.5 / size
    inside = [np.abs(place) <= edge for place in (*_places(motion, size), *_grid(size))]
    return (inside[0] & inside[1] & inside[2] & inside[3]).astype(np.float32)


def _moved(a: Floats, motion: Floats) -> Floats:
    """Pictures (P, S, S) resampled by Catmull and Rom's cubic; the border goes on outside."""
    if not motion.any():
        return a
    count, size = a.shape[:2]
    across, down = (np.clip((place + 0.5) * size - 0.5, 0, size - 1) for place in _places(motion, size))
    left, top = across.astype(np.int32), down.astype(np.int32)
    flat = np.pad(a, ((0, 0), (1, 2), (1, 2)), mode="edge").reshape(-1)
    width = size + 3
    corner = top * width + left + (np.arange(count, dtype=np.int32) * width * width)[:, None, None]
    over, beside = _cubic(down - top), _cubic(across - left)
    found = np.zeros_like(across)
    for row in range(4):
        found += over[row] * sum(beside[column] * flat[corner + (row * width + column)] for column in range(4))
    return np.asarray(found, np.float32)


def _cubic(part: Floats) -> list[Floats]:
    """Weights of the four pixels around a place that lies `part` of a pixel behind the second of them."""
    square, cube = part * part, part * part * part
    return [
        -0.5 * part + square - 0.5 * cube,
        1 - 2.5 * square + 1.5 * cube,
        0.5 * part + 2 * square - 1.5 * cube,
        0.5 * cube - 0.5 * square,
    ]


def _worst(a: Floats, b: Floats, motion: Floats, bands: slice) -> Floats:
    """(P,) the largest share, over the bands, of what a band may leave over."""
    size = a.shape[1]
    seen = _seen(motion, size)
    ones, others = _bands(_moved(a, motion)), _bands(b)
    allowed = zip(BAND_LEFT[bands], BAND_LEVELS[bands], strict=True)
    shares = [
        np.minimum(_left(one, other, seen, share, levels), _left(other, one, seen, share, levels))
        for one, other, (share, levels) in zip(ones[bands], others[bands], allowed, strict=True)
    ]
    worst = np.max(np.stack(shares), axis=0)
    worst[seen.mean(axis=(1, 2)) < LEAST_SEEN] = np.inf
    return np.asarray(worst, np.float32)


def _bands(pictures: Floats) -> Sequence[Floats]:
    """What each further smoothing takes away, from fine to coarse."""
    found, current, done = [], pictures, 0
    for width in WIDTHS:
        softer = current
        for _ in range(width - done):
            softer = _smooth(softer)
        found.append(current - softer)
        current, done = softer, width
    return found


def _left(one: Floats, other: Floats, seen: Floats, share: float, levels: float) -> Floats:
    """(P,) what is left of a band when it is fitted by the other picture's, as a share of what may be left."""
    count = len(one)
    fine = one - _smooth(one)
    design = np.stack([(column * seen).reshape(count, -1) for column in (one, fine)], axis=1)
    target = (other * seen).reshape(count, -1)
    right = (design @ target[:, :, None])[:, :, 0]
    solved = _solved(design @ design.transpose(0, 2, 1), right)
    rest = target - (solved[:, None, :] @ design)[:, 0]
    pixels = np.maximum(seen.sum(axis=(1, 2)), 1)
    squares, whole = (rest**2).sum(axis=1) / pixels, (target**2).sum(axis=1) / pixels
    return np.asarray(squares / (share * whole + levels**2), np.float32)


def _smooth(pictures: Floats) -> Floats:
    """(1, 2, 1) / 4 along each side."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return np.asarray((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16)
