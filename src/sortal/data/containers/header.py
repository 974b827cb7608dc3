"""ImageHeader: what a file says about its pixels before any of them is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from sortal.core.errors import ImageError


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """The first image of a file, as stored: `width` and `height` are those before `orientation` is applied."""

    format: str
    """JPEG, PNG, GIF, BMP, WEBP, TIFF or PPM."""
    width: int
    height: int
    mode: str
    """Stored samples in Pillow's words, with `;16` for 16-bit ones: 1, L, P, LA, RGB, RGBA, CMYK, I;16, RGB;16, ..."""
    frames: int = 1
    """Frames or pages; only the first is ever decoded."""
    orientation: int = 1
    """EXIF orientation 1..8; 1 where there is none or it is not a valid one."""

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) after the orientation is applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def truncated(what: str = "the data ends early") -> ImageError:
    """The error for data that stops before its last pixel."""
    return ImageError("truncated", what)


def corrupt(what: str) -> ImageError:
    """The error for data that contradicts its own format."""
    return ImageError("corrupt", what)
