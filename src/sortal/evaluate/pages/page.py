"""Render a Report as one HTML file that opens anywhere: own styles and pictures inside, nothing fetched, no framework.

Every text of the report is escaped, and the page forbids itself by policy to load anything from outside.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import MachineError
from sortal.core.report import Report
from sortal.evaluate.pages.view import PAIRS, page_view

if TYPE_CHECKING:
    import jinja2
    from PIL import Image

Picture = Path | bytes | NDArray[np.uint8]
"""An image file, its bytes, or pixels (H, W, 3) or (H, W)."""

THUMBNAIL_PX = 96
_PICTURE_PX = 6000
_THUMBNAILS_EACH = 6


def render_page(
    report: Report,
    pictures: Mapping[str, Picture] | None = None,
    thumbnails: Mapping[tuple[str, str], Sequence[Picture]] | None = None,
) -> str:
    """The page of a report of any kind. `pictures` become figures titled by their keys, in their order.

    `thumbnails` stand beside the confused pair (true, answered) they show. All pictures are encoded anew, so that no
    metadata (place, time, camera) travels with the page. Raises MachineError when a picture cannot be read.
    """
    pairs = {(str(row[0]), str(row[1])) for row in report.tables[PAIRS].rows} if PAIRS in report.tables else set()
    small = {
        pair: [_data_uri(picture, THUMBNAIL_PX) for picture in shown[:_THUMBNAILS_EACH]]
        for pair, shown in (thumbnails or {}).items()
        if pair in pairs
    }
    return fill("page.html.jinja", view=page_view(report, small), figures=figure_uris(pictures or {}), anchors={})


def figure_uris(pictures: Mapping[str, Picture]) -> dict[str, str]:
    """Pictures by title as addresses that hold them, encoded anew."""
    return {name: _data_uri(picture, _PICTURE_PX) for name, picture in pictures.items()}


def inside_script(data: dict[str, Any]) -> str:
    """JSON that cannot end the script it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def fill(template: str, **values: object) -> str:
    """One of the templates here with its values; `style` and `script` are those of every page."""
    return _environment().get_template(template).render(style=own("page.css"), script=own("page.js"), **values)


def own(name: str) -> str:
    """The text of a file beside this one."""
    return files("sortal.evaluate.pages").joinpath(name).read_text(encoding="utf-8")


def data_uri(kind: str, data: bytes) -> str:
    """An encoded picture as the address that holds it; `kind` is `png` or `jpeg`."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(own),
    )


def _data_uri(picture: Picture, longest_px: int) -> str:
    return data_uri(*_encode(*_open(picture), longest_px))


def _open(picture: Picture) -> tuple[Image.Image, str]:
    """The upright image and what to encode it as: PNG stays PNG (plots), everything else becomes JPEG."""
    from PIL import Image, ImageOps

    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture), "jpeg"
    try:
        with Image.open(picture if isinstance(picture, Path) else io.BytesIO(picture)) as image:
            return ImageOps.exif_transpose(image), "png" if image.format == "PNG" else "jpeg"
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        where = str(picture) if isinstance(picture, Path) else None
        raise MachineError(f"a picture of the page cannot be read: {error}", where=where) from error


def _encode(image: Image.Image, kind: str, longest_px: int) -> tuple[str, bytes]:
    if max(image.size) > longest_px:
        image = image.convert("RGBA" if kind == "png" else "RGB")
        image.thumbnail((longest_px, longest_px))
    buffer = io.BytesIO()
    if kind == "png":
        image.save(buffer, "PNG")
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=85)
    return kind, buffer.getvalue()
