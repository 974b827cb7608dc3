"""Small images in rows, each with colored lines above it: true class, answers, whatever there is to say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.drawing.canvas import new_figure, png
from sortal.evaluate.drawing.fonts import lettering

Line = tuple[str, str]
"""A text and its color."""

THUMBNAIL_PX = 160
_COLUMNS = 4
_LINE = 0.095


def captioned(images: Sequence[NDArray[np.uint8]], captions: Sequence[Sequence[Line]]) -> bytes:
    """A PNG of one or more images (H, W, 3), four in a row; all captions have the same number of lines."""
    columns = min(_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    lines = len(captions[0])
    figure = new_figure(3.1 * columns, 3.2 * rows)
    letters = lettering([text for caption in captions for text, _ in caption], longest=44)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(image, interpolation="antialiased")
        axes.set_axis_off()
        for line, (_, color) in enumerate(caption):
            axes.text(
                0.5,
                1.05 + _LINE * (lines - 1 - line),
                letters.texts[lines * place + line],
                transform=axes.transAxes,
                ha="center",
                va="center",
                fontsize=8,
                color=color,
                family=list(letters.families),
                parse_math=False,
            )
    return png(figure, dpi=110)
