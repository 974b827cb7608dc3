"""PreprocessSpec and its one reference: from upright pixels to the numbers a network sees, in Pillow's semantics.

Decoding (bytes to upright pixels) is `data.decode`. Everything between those pixels and the network is here, written
once; every other path (fast decoder, fused graph, another runtime) is compared with `prepare` and `normalize`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sortal.core.errors import InputError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Pixels = NDArray[np.unsignedinteger[Any]]
"""Upright pixels, uint8 or uint16, (height, width, channels), RGB order where there are three channels."""

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""

ELONGATED = 16
"""Where covering takes more than this many times the target's pixels, only the central part is resized."""

_EXACT = 2**24
"""Whole numbers below it are exact in float32."""

_MODES = {1: "L", 3: "RGB"}
"""Of a Pillow image with so many channels of 8 bits."""

INTERPOLATIONS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class PreprocessSpec(BaseModel):
    """How upright pixels become the input of the network. Stored as `preprocess.json` and inside every artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Annotated[int, Field(ge=1, le=1)] = 1
    channels: Literal[1, 3] = 3
    depth: Literal[8, 16] = 8
    """Bits of a sample; 16 keeps the full range of 16-bit files and scales 8-bit files up to it."""
    window: tuple[float, Annotated[float, Field(gt=0.0)]] | None = None
    """(center, width) of an intensity window in samples of `depth`, mapped to the full range first (medical images).

    DICOM's LINEAR_EXACT: (sample - center) / width + 1/2, clipped to 0..1 (PS3.3 C.11.2.1.3.2)."""
    region: tuple[Fraction, Fraction, Fraction, Fraction] | None = None
    """(left, top, right, bottom) in fractions of the upright image; cut out before anything is resized."""
    size: tuple[Annotated[int, Field(ge=1, le=8192)], Annotated[int, Field(ge=1, le=8192)]]
    """(height, width) of the network's input in pixels."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """crop: cover size/crop, then cut the center. pad: fit inside and fill the border. stretch: ignore the aspect."""
    crop: Annotated[float, Field(gt=0.0, le=1.0)] = 0.875
    """Share of the resized image that the center crop keeps along a side; used by `resize: crop` alone."""
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, ...]
    """Per channel, on the scale 0..1."""
    std: tuple[Annotated[float, Field(gt=0.0)], ...]
    """Per channel, on the scale 0..1."""
    layout: Literal["NCHW"] = "NCHW"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values each, got {len(self.mean)} and {len(self.std)}")
        if self.region is not None:
            left, top, right, bottom = self.region
            if left >= right or top >= bottom:
                raise ValueError("region must be left < right and top < bottom")
        return self

    @property
    def maximum(self) -> int:
        """The largest sample value: 255 or 65535."""
        return (1 << self.depth) - 1


def prepare(spec: PreprocessSpec, image: Pixels | Image.Image) -> Pixels:
    """Window, region, resize and crop: (height, width, channels) of any size to exactly `spec.size`, same dtype.

    8-bit pixels go through Pillow as 8-bit images; 16-bit ones through Pillow's 32-bit float mode, then rounded. An
    upright Pillow image of mode L or RGB stands for its pixels, and is not copied where it is resized as a whole.
    The result is writable unless it is the input itself. Raises InputError for pixels of another dtype or channels.
    """
    source = _source(spec, image)
    height, width = spec.size
    if spec.resize == "stretch":
        return _resize(source, height, width, spec.interpolation)
    if spec.resize == "pad":
        return _pad(spec, _resize(source, *fit_inside(_shape(source), spec.size), spec.interpolation))
    target = math.floor(height / spec.crop), math.floor(width / spec.crop)
    covering = cover(_shape(source), target)
    if covering[0] * covering[1] > ELONGATED * target[0] * target[1]:
        box = _central_box(_shape(source), covering, spec.size)
        return _resize(source, height, width, spec.interpolation, box=box)
    size, part = _kept_part(_shape(source), covering, spec.size)
    return center_crop(_resize(source, *size, spec.interpolation, box=part), height, width)


def normalize(spec: PreprocessSpec, batch: Pixels, *, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """(N, height, width, channels) samples to (N, channels, height, width) float32: (sample / maximum - mean) / std.

    Computed as one multiplication and one addition in float32, which is what fused graphs do. One image at a time and
    plane by plane it stays in the cache: a fifth of the time that whole batches with the channels last take. `out`, of
    the result's shape, is filled and returned where it is given: fresh memory costs as much as the arithmetic.
    """
    scale, offset = _affine(spec.mean, spec.std, spec.maximum)
    count, height, width, channels = batch.shape
    floats = np.empty((count, channels, height, width), np.float32) if out is None else out
    for pixels, planes in zip(batch, floats, strict=True):
        np.copyto(planes, pixels.transpose(2, 0, 1))
        planes *= scale
        planes += offset
    return floats


@lru_cache(maxsize=64)
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], maximum: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What samples are multiplied with and what is added then, both (channels, 1, 1)."""
    spread = np.asarray(std, dtype=np.float64)
    scale = (1.0 / (maximum * spread)).astype(np.float32)[:, None, None]
    offset = (-np.asarray(mean, dtype=np.float64) / spread).astype(np.float32)[:, None, None]
    for values in (scale, offset):
        values.flags.writeable = False
    return scale, offset


def apply(spec: PreprocessSpec, image: Pixels) -> NDArray[np.float32]:
    """The whole reference for one image: (height, width, channels) samples to (channels, height, width) float32."""
    return np.asarray(normalize(spec, prepare(spec, image)[None])[0])


def cover(shape: tuple[int, ...], target: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) with the aspect of `shape` that just covers `target`; the other side is rounded down."""
    height, width = shape[0], shape[1]
    if height * target[1] <= width * target[0]:
        return target[0], max(target[1], width * target[0] // height)
    return max(target[0], height * target[1] // width), target[1]


def fit_inside(shape: tuple[int, ...], target: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) with the aspect of `shape` that just fits inside `target`, at least 1 pixel a side."""
    height, width = shape[0], shape[1]
    if height * target[1] >= width * target[0]:
        return target[0], max(1, round(width * target[0] / height))
    return max(1, round(height * target[1] / width)), target[1]


def center_crop(image: Pixels, height: int, width: int) -> Pixels:
    """The central (height, width) of an image at least that large; odd margins rounded half to even."""
    top = round((image.shape[0] - height) / 2)
    left = round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


def _source(spec: PreprocessSpec, image: Pixels | Image.Image) -> Pixels | Image.Image:
    """What is resized: pixels after window and region, or a Pillow image that needs neither."""
    if isinstance(image, Image.Image):
        plain = spec.window is None and spec.region is None and spec.depth == 8
        if plain and image.mode == _MODES[spec.channels]:
            return image
        pixels: Pixels = np.array(image)
        image = pixels[:, :, None] if pixels.ndim == 2 else pixels
    _check(spec, image)
    if spec.window is not None:
        image = _window(image, *spec.window, maximum=spec.maximum)
    return image if spec.region is None else cut_region(image, spec.region)


def _shape(source: Pixels | Image.Image) -> tuple[int, int]:
    """(height, width) in pixels."""
    return (source.height, source.width) if isinstance(source, Image.Image) else (source.shape[0], source.shape[1])


def _check(spec: PreprocessSpec, image: Pixels) -> None:
    expected = np.dtype(np.uint8 if spec.depth == 8 else np.uint16)
    if image.ndim != 3 or image.shape[2] != spec.channels or image.dtype != expected or 0 in image.shape:
        raise InputError(
            f"pixels must be (height, width, {spec.channels}) {expected}", received=f"{image.dtype} {image.shape}"
        )


def cut_region(image: Pixels, region: Sequence[float]) -> Pixels:
    """Every pixel that (left, top, right, bottom), in fractions, touches.

    1e-9 pixels are forgiven, so that 0.1 of 30 pixels is 3 and not 4.
    """
    height, width = image.shape[:2]
    left, right = math.floor(region[0] * width + 1e-9), math.ceil(region[2] * width - 1e-9)
    top, bottom = math.floor(region[1] * height + 1e-9), math.ceil(region[3] * height - 1e-9)
    left, top = min(left, width - 1), min(top, height - 1)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]


def _resize(
    source: Pixels | Image.Image, height: int, width: int, interpolation: str, *, box: Box | None = None
) -> Pixels:
    """Pillow's resize to (height, width), of the part `box` (left, top, right, bottom) where there is one."""
    if isinstance(source, Image.Image):
        return _resize_image(source, height, width, interpolation, box)
    if box is None and source.shape[:2] == (height, width):
        return source
    if source.dtype == np.uint8:
        squeezed = source[:, :, 0] if source.shape[2] == 1 else source
        return _resize_image(Image.fromarray(np.ascontiguousarray(squeezed)), height, width, interpolation, box)
    method = INTERPOLATIONS[interpolation]
    planes = [
        np.asarray(Image.fromarray(source[:, :, channel].astype(np.float32)).resize((width, height), method, box))
        for channel in range(source.shape[2])
    ]
    rounded: Pixels = np.clip(np.rint(np.stack(planes, axis=2)), 0, 65535).astype(np.uint16)
    return rounded


def _resize_image(image: Image.Image, height: int, width: int, interpolation: str, box: Box | None) -> Pixels:
    resized: Pixels = np.array(image.resize((width, height), INTERPOLATIONS[interpolation], box))
    return resized.reshape(height, width, -1)


def _central_box(shape: tuple[int, int], covering: tuple[int, int], size: tuple[int, int]) -> Box:
    """Where the center crop lies in the image, so that a very long image is not enlarged whole to cut a piece of it.

    The result equals resizing and cropping up to the float32 coordinates of Pillow's boxes.
    """
    height, width = shape
    top, left = round((covering[0] - size[0]) / 2), round((covering[1] - size[1]) / 2)
    down, across = height / covering[0], width / covering[1]
    return left * across, top * down, (left + size[1]) * across, (top + size[0]) * down


def _kept_part(
    shape: tuple[int, int], covering: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[int, int], Box | None]:
    """What to resize to, and which part of the image, where the crop drops rows or columns: those are not computed.

    An axis is shortened only where the result is the same bit for bit: its scale is a fraction of a power of two, so
    that Pillow's float32 coordinates are exact (a short side resized to 256 of which 224 are kept: 15 % of the time).
    """
    if covering == shape:
        return covering, None
    box, kept = [0.0, 0.0, float(shape[1]), float(shape[0])], list(covering)
    for axis in (0, 1):
        whole, wanted = covering[axis], size[axis]
        first = round((whole - wanted) / 2)
        if whole > wanted and whole & (whole - 1) == 0 and (first + wanted) * shape[axis] < _EXACT:
            box[1 - axis], box[3 - axis] = first * shape[axis] / whole, (first + wanted) * shape[axis] / whole
            kept[axis] = wanted
    return (kept[0], kept[1]), None if tuple(kept) == covering else (box[0], box[1], box[2], box[3])


def _pad(spec: PreprocessSpec, image: Pixels) -> Pixels:
    """Centre the image on a canvas of the mean colour, so that the border normalizes to about zero."""
    height, width = spec.size
    fill = np.rint(np.clip(np.asarray(spec.mean), 0.0, 1.0) * spec.maximum).astype(
        np.uint8 if image.dtype == np.uint8 else np.uint16
    )
    canvas: Pixels = np.broadcast_to(fill, (height, width, spec.channels)).copy()
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _window(image: Pixels, center: float, width: float, *, maximum: int) -> Pixels:
    samples = np.arange(maximum + 1, dtype=np.float64)
    mapped = np.rint(((samples - center) / width + 0.5) * maximum)
    table: Pixels = np.clip(mapped, 0, maximum).astype(image.dtype)
    return np.asarray(table[image])
