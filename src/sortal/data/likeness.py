"""Whether two pictures are one: tiny pictures laid over each other by a least-squares fit of light, shift and scale.

A copy that was saved again, resized, cropped a little or made lighter differs from its original by a gain, an offset, a
shift and a scale along each side. To first order all of these are linear in the picture and its gradient (Lucas and
Kanade 1981), so one small linear system for each pair finds them; the picture is moved by what was found and fitted
again. What is left over then tells a copy from a picture that only looks alike. Either of the two may be the larger.

Shapes: P pairs, T = TINY_PX, M = T - 2 MARGIN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.data.look_measure import TINY_PX

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

MOST_SHIFT_PX = 0.9
"""Of a tiny pixel: 5.6 % of a side."""
MOST_SCALE = 0.13
"""A crop of 5 % on two opposite sides is a scale of 1 / 0.9."""
GAIN = (0.75, 1.33)
STEPS = 4
MARGIN = 1
"""Tiny pixels at the border that are not compared: what lies outside one of the pictures shows there."""
PROMISING = 0.15
"""Share of the contrast that may be left over after the first fit of the luma of a pair that is looked at further."""

LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)

_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Fits:
    """How well pairs of pictures lie over each other."""

    left: Floats
    """(P,) share of the contrast that is left over, 0 (one picture) to 1."""
    levels: Floats
    """(P,) root mean square of what is left over, in levels of 0..255."""
    plausible: NDArray[np.bool_]
    """(P,) light, shift and scale are those of a copy."""


def contrast(tiny: NDArray[np.uint8]) -> Floats:
    """(N,) standard deviation of the luma of each tiny picture, in levels of 0..255; a blank picture has none."""
    luma = tiny.astype(np.float32) @ LUMA
    return np.asarray(luma.std(axis=(1, 2)))


def lay_over(tiny: NDArray[np.uint8], first: Ints, second: Ints) -> Fits:
    """Fit the pictures `second` (P,) and `first` (P,) of `tiny` (N, T, T, 3) to each other."""
    found = [
        _both_ways(tiny[first[start : start + _BLOCK]], tiny[second[start : start + _BLOCK]])
        for start in range(0, len(first), _BLOCK)
    ]
    nothing = np.zeros(0, np.float32)
    found = found or [(nothing, nothing, nothing.astype(bool))]
    left, levels, plausible = (np.concatenate(column) for column in zip(*found, strict=True))
    return Fits(left=left, levels=levels, plausible=plausible)


def _both_ways(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The better of fitting b by a and a by b. Nothing is left over of equal pictures, which are not fitted."""
    differ = np.flatnonzero((a != b).any(axis=(1, 2, 3)))
    left, levels = np.zeros(len(a), np.float32), np.zeros(len(a), np.float32)
    plausible = np.ones(len(a), bool)
    if len(differ):
        left[differ], levels[differ], plausible[differ] = _different(a[differ], b[differ])
    return left, levels, plausible


def _different(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The better of both ways, where the first fit of their luma is promising."""
    one, other = smooth(a), smooth(b)
    left, levels = (np.array(part) for part in _step(one @ LUMA, other @ LUMA, np.zeros((len(a), 4), np.float32))[:2])
    plausible = np.zeros(len(a), bool)
    going = np.flatnonzero(left <= PROMISING)
    if not len(going):
        return left, levels, plausible
    there, back = _fit(one[going], other[going]), _fit(other[going], one[going])
    better = back[0] < there[0]
    left[going], levels[going], plausible[going] = (np.where(better, y, x) for x, y in zip(there, back, strict=True))
    return left, levels, plausible


def _fit(a: Floats, b: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """What is left over when b (P, T, T, 3) is fitted by a: share, levels, plausible."""
    moves = np.zeros((len(a), 4), np.float32)
    left, levels, gain, step = _step(a, b, moves)
    for _ in range(STEPS - 1):
        moves = np.clip(moves + step, -2, 2)
        left, levels, gain, step = _step(a, b, moves)
    moved = np.abs(moves)
    plausible = (moved[:, [0, 2]] <= MOST_SHIFT_PX).all(axis=1) & (moved[:, [1, 3]] <= MOST_SCALE).all(axis=1)
    return left, levels, plausible & (gain >= GAIN[0]) & (gain <= GAIN[1])


def _step(a: Floats, b: Floats, moves: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """One fit of b (P, T, T, C) by a as it was moved so far: left, levels, gain, and how to move it further (P, 4)."""
    inner = slice(MARGIN, -MARGIN)
    a, b = a.reshape(*a.shape[:3], -1), b.reshape(*b.shape[:3], -1)
    image = _moved(a, moves)
    across, down = np.gradient(image, axis=2)[:, inner, inner], np.gradient(image, axis=1)[:, inner, inner]
    place = (np.arange(TINY_PX, dtype=np.float32) - (TINY_PX - 1) / 2)[inner]
    x, y = place[None, None, :, None], place[None, :, None, None]
    target = b[:, inner, inner]
    columns = [image[:, inner, inner], np.ones_like(target), across, across * x, down, down * y]
    design = np.stack([column.reshape(len(a), -1) for column in columns], axis=1)
    flat = target.reshape(len(a), -1)
    normal = design @ design.transpose(0, 2, 1)
    right = (design @ flat[:, :, None])[:, :, 0]
    damping = 1e-4 * np.einsum("pii->pi", normal) + 1e-2
    solved = np.linalg.solve(normal + damping[:, :, None] * np.eye(6, dtype=np.float32), right[:, :, None])[:, :, 0]
    rest = flat - (solved[:, None, :] @ design)[:, 0]
    spread = flat - flat.mean(axis=1, keepdims=True)
    squares, whole = (rest**2).mean(axis=1), (spread**2).mean(axis=1)
    gain = solved[:, 0]
    further = solved[:, 2:] / np.maximum(np.abs(gain), 0.2)[:, None]
    left: Floats = squares / np.maximum(whole, 1e-6)
    levels: Floats = np.sqrt(squares)
    return left, levels, gain, np.asarray(further, np.float32)


def _moved(a: Floats, moves: Floats) -> Floats:
    """Pictures shifted and scaled along each side: shift and scale across, then down."""
    if not moves.any():
        return a
    across, down = _resampling(moves[:, 0], moves[:, 1]), _resampling(moves[:, 2], moves[:, 3])
    rows = np.einsum("pij,pjkc->pikc", down, a, optimize=True)
    return np.asarray(np.einsum("pij,pkjc->pkic", across, rows, optimize=True))


def _resampling(shift: Floats, scale: Floats) -> Floats:
    """(P, T, T) weights of Catmull and Rom's cubic at the moved places; the border goes on outside."""
    place = np.arange(TINY_PX, dtype=np.float32)
    wanted = place + shift[:, None] + scale[:, None] * (place - (TINY_PX - 1) / 2)
    wanted = np.clip(wanted, 0, TINY_PX - 1)
    far = np.abs(wanted[:, :, None] - place)
    near = np.where(far < 1, 1 - 2.5 * far**2 + 1.5 * far**3, 2 - 4 * far + 2.5 * far**2 - 0.5 * far**3)
    weights = np.where(far < 2, near, 0.0)
    return np.asarray(weights / weights.sum(axis=2, keepdims=True), np.float32)


def smooth(tiny: NDArray[np.uint8] | Floats) -> Floats:
    """Without the detail that a shift by a part of a pixel changes: (1, 2, 1) / 4 along each side."""
    padded = np.pad(tiny.astype(np.float32, copy=False), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return np.asarray((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16)
