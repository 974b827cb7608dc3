"""Fonts for pictures: which installed ones can draw the class names, and what to draw where none can.

Nothing is downloaded and no global setting of matplotlib changes: every text gets its own list of font families.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

BASE = "DejaVu Sans"
"""Comes with matplotlib, so it is always there."""

PREFERRED = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans CJK TC",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)

_BLANK = ("LastResort", ".LastResort", "AdobeBlank")
"""Fonts that claim every character and draw a box, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Lettering:
    """Texts as they can be drawn, and the families to draw them with (first has the glyph, first wins)."""

    texts: tuple[str, ...]
    families: tuple[str, ...]
    undrawn: tuple[str, ...]
    """Texts that no installed font can draw; in `texts` their numbers stand in."""


def lettering(texts: Sequence[str], *, longest: int | None = None) -> Lettering:
    """How to draw `texts`. One that no font can draw becomes `#<position>`; longer ones than `longest` are shortened.

    Control characters become spaces. Shortened texts keep both ends, where fine-grained names differ.
    """
    clean = [_one_line(text) for text in texts]
    families, missing = _cover(frozenset().union(*clean) if clean else frozenset())
    bad = [bool(missing.intersection(text)) for text in clean]
    shown = [
        f"#{row}" if is_bad else _shorten(text, longest)
        for row, (text, is_bad) in enumerate(zip(clean, bad, strict=True))
    ]
    undrawn = tuple(text for text, is_bad in zip(texts, bad, strict=True) if is_bad)
    return Lettering(texts=tuple(shown), families=families, undrawn=undrawn)


def font_for(text: str) -> str | None:
    """The installed family that draws what the base font cannot of `text`; None where no set of fonts covers it."""
    families, missing = _cover(frozenset(_one_line(text)))
    return None if missing else families[-1]


def _one_line(text: str) -> str:
    return "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") else char for char in text)


def _shorten(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def _cover(needed: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that together draw `needed`, the base font first, and the characters that none draws."""
    families, missing = [BASE], needed - _glyphs(BASE)
    for family in _installed() if missing else ():
        drawn = missing & _glyphs(family)
        if drawn:
            families.append(family)
            missing = missing - drawn
        if not missing:
            break
    return tuple(families), missing


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Families in order of preference, the rest by name.

    matplotlib remembers fonts from its first use on a machine; ones installed since are made known to it.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):
        with suppress(RuntimeError, OSError, ValueError):
            fontManager.addfont(path)
    names = {name for name in fontManager.get_font_names() if not name.replace(" ", "").startswith(_BLANK)}
    return (*(name for name in PREFERRED if name in names), *sorted(names - {*PREFERRED, BASE}))


@cache
def _glyphs(family: str) -> frozenset[str]:
    """Characters that the regular face of a family draws; none where the font cannot be opened."""
    from matplotlib.font_manager import fontManager, weight_dict
    from matplotlib.ft2font import FT2Font

    def oddity(entry: FontEntry) -> tuple[bool, int]:
        weight = entry.weight if isinstance(entry.weight, int) else weight_dict.get(str(entry.weight), 400)
        return entry.style != "normal", abs(weight - 400)

    faces = sorted((entry for entry in fontManager.ttflist if entry.name == family), key=oddity)
    try:
        return frozenset(map(chr, FT2Font(faces[0].fname).get_charmap()))
    except (IndexError, RuntimeError, OSError):
        return frozenset()
