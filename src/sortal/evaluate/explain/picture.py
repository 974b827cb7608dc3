"""The picture of one explanation: the image, its maps, and below them the nearest training images."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortal.core.errors import ImageError
from sortal.core.preprocess import Pixels
from sortal.core.publish import publish_file
from sortal.data.decode import read_file, to_pixels
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, new_figure, png
from sortal.evaluate.drawing.fonts import lettering
from sortal.evaluate.explain.explanation import TITLES, CheckedMap, Explanation
from sortal.evaluate.explain.neighbors import Neighbor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN_PX = 320
_TILE_IN = 2.9


def draw_explanation(told: Explanation, path: Path) -> Path:
    """Write a PNG: red speaks for the class, blue against it; a map that failed a check says so in its title."""
    shown = [neighbor for neighbor in told.neighbors if neighbor.path is not None]
    columns = max(1 + len(told.maps), len(shown))
    figure = new_figure(_TILE_IN * columns, (_TILE_IN + 0.7) * (2 if shown else 1))
    rows = figure.subplots(2 if shown else 1, columns, squeeze=False)
    for axes in rows.ravel():
        axes.set_axis_off()
    image = as_bytes(told.pixels)
    _tile(rows[0, 0], image, [Path(told.name).name, f"{told.answer} {told.probability:.1%}", _second(told)], NEUTRAL)
    for axes, one in zip(rows[0, 1:], told.maps, strict=False):
        _tile(
            axes,
            overlay(image, one.values),
            [f"“{told.target}”", TITLES.get(one.kind, one.kind), _verdict(one)],
            _color(one),
        )
    for axes, neighbor in zip(rows[1] if shown else (), shown, strict=False):
        _draw_neighbor(axes, neighbor, told.answer)
    publish_file(path, png(figure, dpi=110))
    return path


def overlay(image: NDArray[np.uint8], values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W, 3): the image with a map (H, W) over it, red where it is positive, blue where negative, clear at zero."""
    strength = values / max(float(np.abs(values).max()), 1e-12)
    color = np.where(strength[..., None] >= 0, np.array([215.0, 25.0, 28.0]), np.array([33.0, 102.0, 172.0]))
    alpha = 0.75 * np.abs(strength)[..., None]
    faint = 0.35 * 255 + 0.65 * image.astype(np.float64)
    mixed: NDArray[np.uint8] = np.clip(faint * (1 - alpha) + color * alpha, 0, 255).astype(np.uint8)
    return mixed


def as_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """Prepared pixels as (H, W, 3) bytes: 16 bits lose their lower half, one channel becomes three."""
    small = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.astype(np.uint8)
    return np.repeat(small, 3, axis=2) if small.shape[2] == 1 else small[..., :3]


def _second(told: Explanation) -> str:
    return "" if told.runner_up is None else f"then {told.runner_up} {told.runner_up_probability:.1%}"


def _verdict(one: CheckedMap) -> str:
    if one.changed is False:
        return "does not depend on what was learned"
    if not one.deletion.faithful:
        return "no better than chance here"
    return "" if one.share is None else f"holds {one.share:.0%} of the score"


def _color(one: CheckedMap) -> str:
    return WRONG if one.changed is False or not one.deletion.faithful else NEUTRAL


def _draw_neighbor(axes: Axes, neighbor: Neighbor, answer: str) -> None:
    with suppress(ImageError):
        if neighbor.path is not None:
            upright = to_pixels(read_file(neighbor.path), channels=3, depth=8, where=neighbor.name)
            image = Image.fromarray(upright)
            image.thumbnail((_SHOWN_PX, _SHOWN_PX))
            lines = ["training image", neighbor.label, f"distance {neighbor.distance:.3f}"]
            _tile(axes, np.asarray(image), lines, RIGHT if neighbor.label == answer else WRONG)


def _tile(axes: Axes, image: NDArray[np.uint8], lines: list[str], color: str) -> None:
    letters = lettering(lines, longest=40)
    axes.imshow(image, interpolation="antialiased")
    axes.set_title("\n".join(letters.texts), fontsize=8, color=color, family=list(letters.families), parse_math=False)
