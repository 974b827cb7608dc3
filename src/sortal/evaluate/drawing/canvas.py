"""What all pictures share: an off-screen matplotlib figure, axes in one dress, and PNG bytes. No window, no state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG, NEUTRAL = "#1a7f37", "#b3261e", "#24292f"


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty white figure that lays itself out."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")


def dress(axes: Axes, title: str, xlabel: str, ylabel: str | None = None) -> None:
    """Title, names of the axes, a faint grid, and no frame above and to the right."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(xlabel)
    if ylabel is not None:
        axes.set_ylabel(ylabel)
    axes.grid(color="#d0d7de", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: Figure, *, dpi: int = 150, crop: bool = False) -> bytes:
    """The figure as PNG; with `crop` without its white border, but for a narrow one."""
    return encoded(rendered(figure, dpi, crop=crop), "PNG")


def jpeg(figure: Figure, *, dpi: int = 110) -> bytes:
    """The figure as JPEG."""
    return encoded(rendered(figure, dpi, crop=False), "JPEG")


def rendered(figure: Figure, dpi: int, *, crop: bool) -> NDArray[np.uint8]:
    """Pixels (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    if not crop:
        return pixels
    inked: NDArray[np.bool_] = pixels.min(axis=2) < 255
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    pad = dpi // 10
    return pixels[max(rows[0] - pad, 0) : rows[-1] + pad, max(columns[0] - pad, 0) : columns[-1] + pad]


def encoded(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """(H, W, 3) as the bytes of a file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, kind, quality=88)
    return buffer.getvalue()
