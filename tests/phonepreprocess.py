"""The preprocessing of the phone samples in Python, function by function as in `Preprocess.kt` and `Preprocess.swift`.

Pixels are bytes, row by row, channels together, as the samples hold them. Nothing of Pillow or Sortal is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PRECISION_BITS = 32 - 8 - 2
ELONGATED = 16


@dataclass(frozen=True)
class Pixels:
    width: int
    height: int
    channels: int
    data: bytes


@dataclass(frozen=True)
class Spec:
    height: int
    width: int
    resize: str
    crop: float
    interpolation: str
    mean: tuple[float, ...]


@dataclass(frozen=True)
class Box:
    """Single precision, as Pillow keeps boxes."""

    left: float
    top: float
    right: float
    bottom: float


def prepare(spec: Spec, image: Pixels) -> Pixels:
    if spec.resize == "stretch":
        return resize(image, spec.width, spec.height, spec.interpolation)
    if spec.resize == "pad":
        width, height = fit_inside(image.width, image.height, spec.width, spec.height)
        return pad(spec, resize(image, width, height, spec.interpolation))
    target_height, target_width = math.floor(spec.height / spec.crop), math.floor(spec.width / spec.crop)
    width, height = cover(image.width, image.height, target_width, target_height)
    if width * height > ELONGATED * target_width * target_height:
        left = round_half_even((width - spec.width) / 2.0)
        top = round_half_even((height - spec.height) / 2.0)
        down, across = image.height / height, image.width / width
        box = Box(
            single(left * across), single(top * down), single((left + spec.width) * across),
            single((top + spec.height) * down),
        )  # fmt: skip
        return resize(image, spec.width, spec.height, spec.interpolation, box)
    return center_crop(resize(image, width, height, spec.interpolation), spec.width, spec.height)


def cover(width: int, height: int, target_width: int, target_height: int) -> tuple[int, int]:
    if height * target_width <= width * target_height:
        return max(target_width, width * target_height // height), target_height
    return target_width, max(target_height, height * target_width // width)


def fit_inside(width: int, height: int, target_width: int, target_height: int) -> tuple[int, int]:
    if height * target_width >= width * target_height:
        return max(1, round_half_even(width * target_height / height)), target_height
    return target_width, max(1, round_half_even(height * target_width / width))


def center_crop(image: Pixels, width: int, height: int) -> Pixels:
    left = round_half_even((image.width - width) / 2.0)
    top = round_half_even((image.height - height) / 2.0)
    rows = bytearray()
    for y in range(top, top + height):
        start = (y * image.width + left) * image.channels
        rows += image.data[start : start + width * image.channels]
    return Pixels(width, height, image.channels, bytes(rows))


def pad(spec: Spec, image: Pixels) -> Pixels:
    fill = bytes(round_half_even(min(max(mean, 0.0), 1.0) * 255.0) for mean in spec.mean)
    canvas = bytearray(fill * (spec.width * spec.height))
    left, top = (spec.width - image.width) // 2, (spec.height - image.height) // 2
    for y in range(image.height):
        start = ((top + y) * spec.width + left) * image.channels
        row = image.data[y * image.width * image.channels : (y + 1) * image.width * image.channels]
        canvas[start : start + len(row)] = row
    return Pixels(spec.width, spec.height, image.channels, bytes(canvas))


def resize(image: Pixels, width: int, height: int, interpolation: str, box: Box | None = None) -> Pixels:
    """Pillow's resize of 8-bit images: across and down, each with integer weights of 22 bits and a result of 8.

    The order matters to the last bits. Pillow 13 goes down first where that takes away far more than going across.
    """
    part = box or Box(0.0, 0.0, float(image.width), float(image.height))
    across = width != image.width or part.left != 0.0 or part.right != float(width)
    down = height != image.height or part.top != 0.0 or part.bottom != float(height)
    rows = weights(image.height, part.top, part.bottom, height, interpolation)
    columns = weights(image.width, part.left, part.right, width, interpolation)
    down_first = height < image.height and image.height - height > 2 * (image.width - width)
    result = resize_down(image, rows) if down and down_first else image
    if across:
        result = resize_across(result, columns)
    return resize_down(result, rows) if down and not down_first else result


@dataclass(frozen=True)
class Weights:
    """For each output sample: the first input sample, and the integer weights of it and those that follow."""

    first: list[int]
    values: list[list[int]]


def weights(size: int, start: float, end: float, count: int, interpolation: str) -> Weights:
    scale = single(end - start) / count
    filter_scale = max(scale, 1.0)
    support = filter_support(interpolation) * filter_scale
    first, values = [], []
    for place in range(count):
        center = start + (place + 0.5) * scale
        low = max(int(center - support + 0.5), 0)
        high = min(int(center + support + 0.5), size)
        step = 1.0 / filter_scale
        raw = [filter_value(interpolation, (x + low - center + 0.5) * step) for x in range(high - low)]
        total = 0.0
        for one in raw:
            total += one
        first.append(low)
        values.append([to_fixed(one / total if total != 0.0 else one) for one in raw])
    return Weights(first, values)


def to_fixed(value: float) -> int:
    scaled = value * (1 << PRECISION_BITS)
    return int(scaled - 0.5) if value < 0 else int(scaled + 0.5)


def resize_across(image: Pixels, across: Weights) -> Pixels:
    width, channels = len(across.first), image.channels
    out = bytearray(width * image.height * channels)
    for y in range(image.height):
        for x in range(width):
            for channel in range(channels):
                total = 1 << (PRECISION_BITS - 1)
                for offset, weight in enumerate(across.values[x]):
                    total += image.data[(y * image.width + across.first[x] + offset) * channels + channel] * weight
                out[(y * width + x) * channels + channel] = clip(total >> PRECISION_BITS)
    return Pixels(width, image.height, channels, bytes(out))


def resize_down(image: Pixels, down: Weights) -> Pixels:
    height, channels = len(down.first), image.channels
    out = bytearray(image.width * height * channels)
    for y in range(height):
        for x in range(image.width):
            for channel in range(channels):
                total = 1 << (PRECISION_BITS - 1)
                for offset, weight in enumerate(down.values[y]):
                    total += image.data[((down.first[y] + offset) * image.width + x) * channels + channel] * weight
                out[(y * image.width + x) * channels + channel] = clip(total >> PRECISION_BITS)
    return Pixels(image.width, height, channels, bytes(out))


def clip(value: int) -> int:
    return min(max(value, 0), 255)


def filter_support(interpolation: str) -> float:
    return {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}[interpolation]


def filter_value(interpolation: str, at: float) -> float:
    x = abs(at)
    if interpolation == "box":
        return 1.0 if -0.5 < at <= 0.5 else 0.0
    if interpolation == "bilinear":
        return 1.0 - x if x < 1.0 else 0.0
    if interpolation == "hamming":
        if x == 0.0:
            return 1.0
        if x >= 1.0:
            return 0.0
        return math.sin(x * math.pi) / (x * math.pi) * (0.54 + 0.46 * math.cos(x * math.pi))
    if interpolation == "bicubic":
        if x < 1.0:
            return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0
    return sinc(at) * sinc(at / 3.0) if -3.0 <= at < 3.0 else 0.0


def sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(x * math.pi) / (x * math.pi)


def round_half_even(value: float) -> int:
    return round(value)


def single(value: float) -> float:
    """Rounded to single precision."""
    import struct

    return float(struct.unpack("f", struct.pack("f", value))[0])
