"""Where the evidence for a class lies in an image: maps from outputs alone, without gradients and without torch.

`occlusion_map` asks the classifier itself, by covering places, and holds for any graph. `additive_map` reads the
feature map: for a linear head on pooled features, the part of the class's score that each position brings, exactly.

Shapes: H and W pixels, F feature channels, h and w feature positions, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sortal.core.preprocess import Pixels

Floats = NDArray[np.float64]
Scores = Callable[[Pixels], Floats]
"""Prepared images (N, H, W, channels) to the score (N,) of one class."""

_WINDOWS = ((4, 8), (8, 8))
"""(a window is this part of the side, a step is this part): large windows see what small ones leave redundant."""
_BLUR = 8
_CLOSE = 1e-3


@dataclass(frozen=True, kw_only=True)
class AdditiveMap:
    """A map (h, w) whose sum over positions is the part of the score that comes from the last feature map."""

    values: Floats
    score: float
    """The class's logit above the mean of all classes; what the map and other parts of the embedding add up to."""

    @property
    def share(self) -> float:
        """How much of the score the map holds; near 0 where other parts of the embedding decide, above 1 where those
        speak against it."""
        return float(self.values.sum()) / self.score if self.score else 0.0


def occlusion_map(scores: Scores, image: Pixels) -> Floats:
    """(H, W): how far the score falls where a place of the image (H, W, channels) is covered by its blurred self.

    Positive where the class is supported, negative where covering helps it. Zeiler and Fergus (2014), "Visualizing and
    understanding convolutional networks", with two window sizes; each pixel gets the mean over its windows.
    """
    height, width = image.shape[:2]
    veil = blurred(image)
    places = [place for part, step in _WINDOWS for place in _windows(height, width, part, step)]
    covered = np.stack([image] * len(places))
    for number, (rows, columns) in enumerate(places):
        covered[number, rows, columns] = veil[rows, columns]
    drops = float(scores(image[None])[0]) - scores(covered)
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for (rows, columns), drop in zip(places, drops.tolist(), strict=True):
        total[rows, columns] += drop
        count[rows, columns] += 1
    return total / np.maximum(count, 1)


def additive_map(
    feature_map: NDArray[np.float32],
    embedding: NDArray[np.float32],
    head: tuple[NDArray[np.float32], NDArray[np.float32]],
    target: int,
) -> AdditiveMap | None:
    """What each position of `feature_map` (F, h, w) adds to the logit of class `target` above the mean of all classes.

    `head` is (C, D) and (C,). The features that the embedding (D,) holds are found by their numbers: means over
    positions m, or signed roots sign(m) sqrt(|m|), which are m / sqrt(|m|), so that every position has its exact share;
    with plain means this is the class activation map of Zhou et al. (2016), "Learning deep features for discriminative
    localization". None where the embedding holds neither, as in transformers that answer from a class token.
    """
    weight, bias = (part.astype(np.float64) for part in head)
    contrast = weight[target] - weight.mean(axis=0)
    positions = feature_map.reshape(len(feature_map), -1).astype(np.float64)
    means = positions.mean(axis=1)
    roots = np.sqrt(np.abs(means))
    for pooled, scale in ((means, np.ones_like(means)), (np.sign(means) * roots, 1 / np.maximum(roots, 1e-12))):
        start = _place(pooled, embedding.astype(np.float64))
        if start is not None:
            shares = (contrast[start : start + len(means)] * scale) @ positions / positions.shape[1]
            score = float(contrast @ embedding.astype(np.float64) + bias[target] - bias.mean())
            return AdditiveMap(values=shares.reshape(feature_map.shape[1:]), score=score)
    return None


def enlarged(values: Floats, size: tuple[int, int]) -> Floats:
    """A map (h, w) at `size`, (height, width), by linear interpolation."""
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32), mode="F")
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.float64)


def blurred(image: Pixels) -> Pixels:
    """The image (H, W, channels) without its detail: a Gaussian blur over an eighth of its side."""
    radius = max(image.shape[:2]) / _BLUR
    planes = [
        Image.fromarray(np.ascontiguousarray(image[..., channel], dtype=np.float32), mode="F")
        for channel in range(image.shape[2])
    ]
    soft = np.stack([_soft(plane, radius) for plane in planes], axis=-1)
    return np.clip(np.round(soft), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def _soft(plane: Image.Image, radius: float) -> Floats:
    """Pillow blurs bytes only, so a plane is scaled to bytes and back."""
    values = np.asarray(plane, dtype=np.float64)
    scale = max(1.0, float(values.max()) / 255.0)
    small = Image.fromarray((values / scale).astype(np.uint8))
    return np.asarray(small.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64) * scale


def _windows(height: int, width: int, part: int, step: int) -> list[tuple[slice, slice]]:
    def starts(side: int) -> list[int]:
        last = side - max(1, side // part)
        return sorted({min(start, last) for start in range(0, side, max(1, side // step))})

    tall, wide = max(1, height // part), max(1, width // part)
    return [(slice(y, y + tall), slice(x, x + wide)) for y in starts(height) for x in starts(width)]


def _place(part: Floats, whole: Floats) -> int | None:
    """Where `part` (F,) stands in `whole` (D,); None where it does not."""
    reach = _CLOSE * max(float(np.abs(part).max()), 1e-12)
    firsts = np.flatnonzero(np.abs(whole[: len(whole) - len(part) + 1] - part[0]) <= reach)
    for start in firsts.tolist():
        if np.abs(whole[start : start + len(part)] - part).max() <= reach:
            return int(start)
    return None
