"""A picture of what a policy does: one image in every row of a block, once as validated and then as drawn six times.

The rows are the three families alone and all that the recipe asks for, so that too much of one is seen before a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortal.core.errors import InputError
from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.core.publish import publish_file
from sortal.core.sections import AugmentSection
from sortal.evaluate.drawing.canvas import NEUTRAL, png
from sortal.evaluate.drawing.fonts import Lettering, lettering
from sortal.evaluate.drawing.plots import Drawn
from sortal.train.augment import AUGMENTATIONS, ClassFacts, Draw, Policy
from sortal.train.randomness import uniforms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6
"""Draws of an image in a row."""
LIMIT = 8
"""Images that a picture shows."""
_TILE_PX, _GAP_PX, _LEFT_PX, _HEAD_PX, _TOP_PX = 128, 6, 92, 30, 30
_DPI = 100
_FAMILIES = ("geometric", "color", "advanced")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a block: its name and its tiles, uint8 (height, width, 3) each."""

    name: str
    tiles: list[NDArray[np.uint8]]


def draw_preview(
    images: Sequence[Pixels],
    labels: Sequence[int],
    names: Sequence[str],
    section: AugmentSection,
    spec: PreprocessSpec,
    classes: ClassFacts,
    *,
    out: Path,
) -> Drawn:
    """Draw up to 8 upright images (height, width, C) of any size, with their class indices, as PNG.

    `names` are the classes'. MixUp, CutMix and `augment.erase` act on batches and are not shown. Raises RecipeError for
    a chiral class that there is not, InputError for an unknown policy or no image, MachineError when the file cannot be
    written.
    """
    if not images:
        raise InputError("there is no image to show variations of")
    blocks = [
        rows_of(image, label, number, section, spec, classes)
        for number, (image, label) in enumerate(zip(images[:LIMIT], labels[:LIMIT], strict=True))
    ]
    heads = lettering([_head(int(label), names, section, classes) for label in labels[:LIMIT]], longest=90)
    figure = _laid_out(blocks, heads, _title(section))
    publish_file(out, png(figure, dpi=_DPI))
    return Drawn(path=out, undrawn=heads.undrawn)


def rows_of(
    image: Pixels, label: int, sample: int, section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts
) -> list[Row]:
    """The rows of one image; each begins with the validation image and goes on with one tile an epoch."""
    plain = _tile(prepare(spec, image))
    rows = []
    for family in _FAMILIES:
        name = family if family in section.families else f"{family}\n(off)"
        alone = section.model_copy(update={"families": tuple({family} & set(section.families))})
        rows.append(Row(name=name, tiles=[plain, *_drawn(image, label, sample, alone, spec, classes)]))
    return [*rows, Row(name="all", tiles=[plain, *_drawn(image, label, sample, section, spec, classes)])]


def _drawn(
    image: Pixels, label: int, sample: int, section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts
) -> list[NDArray[np.uint8]]:
    policy: Policy = AUGMENTATIONS.get(section.name)(section, spec, classes)
    stored = prepare(policy.stored(spec), image)[None]
    found = []
    for epoch in range(COLUMNS):
        numbers = uniforms(0, "augment", epoch=epoch, samples=[sample], count=policy.draws)
        draw = Draw(uniforms=numbers, labels=np.array([label]), samples=np.array([sample]), epoch=epoch)
        found.append(_tile(policy.apply(stored, draw)[0]))
    return found


def _tile(image: Pixels) -> NDArray[np.uint8]:
    """(height, width, 3) bytes, the longer side of the tile's size; small images keep their pixels visible."""
    pixels = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8)
    rgb = Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    factor = _TILE_PX / max(rgb.size)
    method = Image.Resampling.NEAREST if factor > 1.5 else Image.Resampling.BICUBIC
    return np.asarray(rgb.resize((max(1, round(rgb.width * factor)), max(1, round(rgb.height * factor))), method))


def _head(label: int, names: Sequence[str], section: AugmentSection, classes: ClassFacts) -> str:
    count = int(classes.counts[label])
    chiral = " · never mirrored or quarter-turned" if {"*", names[label]} & set(section.chiral) else ""
    return f"{names[label]} · {count} training image{'' if count == 1 else 's'}{chiral}"


def _title(section: AugmentSection) -> str:
    asked = section.model_dump(exclude_defaults=True, exclude={"name", "chiral"})
    keys = " ".join(f"{key}={_shown(value)}" for key, value in asked.items())
    title = f"Left: as validated; then six epochs · augment.name={section.name} {keys}".strip()
    return lettering([title], longest=140).texts[0]


def _shown(value: object) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, tuple) else f"{value}"


def _laid_out(blocks: list[list[Row]], heads: Lettering, title: str) -> Figure:
    """One white canvas that holds all tiles, and the texts over it."""
    from matplotlib.figure import Figure

    tall, wide = blocks[0][0].tiles[0].shape[:2]
    block_px = _HEAD_PX + len(blocks[0]) * (tall + _GAP_PX)
    canvas = np.full((_TOP_PX + len(blocks) * block_px, _LEFT_PX + (1 + COLUMNS) * (wide + _GAP_PX), 3), 255, np.uint8)
    figure = Figure(figsize=(canvas.shape[1] / _DPI, canvas.shape[0] / _DPI), dpi=_DPI, facecolor="white")
    write = _writer(figure, canvas.shape[0], canvas.shape[1])
    write(_LEFT_PX, _TOP_PX // 2, title, size_pt=9, families=heads.families)
    for number, rows in enumerate(blocks):
        top = _TOP_PX + number * block_px
        write(_LEFT_PX, top + _HEAD_PX // 2, heads.texts[number], size_pt=11, families=heads.families)
        for place, row in enumerate(rows):
            y = top + _HEAD_PX + place * (tall + _GAP_PX)
            write(_GAP_PX, y + tall // 2, row.name, size_pt=10, families=heads.families)
            for column, tile in enumerate(row.tiles):
                x = _LEFT_PX + column * (wide + _GAP_PX)
                canvas[y : y + tall, x : x + wide] = tile
    figure.figimage(canvas, zorder=-1)
    return figure


def _writer(figure: Figure, height: int, width: int) -> Callable[..., None]:
    """Writes a text whose left edge is at x and whose middle is at y, in pixels from the upper left."""

    def write(x: int, y: int, text: str, *, size_pt: float, families: Sequence[str]) -> None:
        figure.text(
            x / width,
            1 - y / height,
            text,
            ha="left",
            va="center",
            fontsize=size_pt,
            color=NEUTRAL,
            family=list(families),
            parse_math=False,
        )

    return write
