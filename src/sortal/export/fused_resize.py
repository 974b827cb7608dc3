"""Resizing inside a graph, as `core.preprocess.prepare` does it: Pillow's filters with antialias as two products of
matrices, whose weights the graph computes from the size of the image that it is given.

    image (N, any height, any width, channels) uint8 -> the part that counts -> across, rounded -> down, rounded

Pillow gives every output sample the mean of the input samples under its filter, along rows and along columns, rounding
to whole grey levels after each; columns come first in images that lose far more rows than columns (Pillow 13). A matrix
of such weights is the same thing written down, and means the same to every engine, unlike ONNX's `Resize`, of which
OpenVINO ignores `antialias`. Positions are counted from the middle of the image, where float32 is finest. The covering
size, the cut and the border are those of the reference; a very long image is never enlarged whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import __version__ as PILLOW

from sortal.core.errors import BundleError
from sortal.core.preprocess import ELONGATED, PreprocessSpec
from sortal.export.nodes import Nodes
from sortal.export.resize_filters import FILTERS, SUPPORT, real

if TYPE_CHECKING:
    import onnx

RESIZED = "fused.resized"
"""The tensor behind resizing (N, channels, height, width): whole numbers 0 to 255 as float32."""

_FLOAT, _INT64 = 1, 7
_SMALLEST = 1e-6
_COLUMNS_FIRST = 13
"""The first version of Pillow that does so. The graph does as the Pillow does with which it was exported."""


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One side of an image: names of scalar tensors, but for `out`."""

    length: str
    """Of the image."""
    resized: str
    """Of the whole resized image."""
    shift: str
    """Twice the place in the resized image where the network's input begins; negative where a border comes first."""
    out: int
    """Of the network's input."""


def add_resize(
    graph: onnx.GraphProto, spec: PreprocessSpec, source: str, *, where: str, batch: int = -1
) -> list[onnx.NodeProto]:
    """The nodes from the image `source` to `RESIZED`; their constants go into the graph. `batch` is -1 where free.

    Raises BundleError for preprocessing of which this cannot be done to the grey level.
    """
    check_spec(spec, where=where)
    made: list[onnx.NodeProto] = []
    nodes = Nodes(graph, "fused.resize.", into=made)
    down, across = _axes(nodes, spec, source)
    start_y, stop_y, weights_y = _weights(nodes, down, spec.interpolation)
    start_x, stop_x, weights_x = _weights(nodes, across, spec.interpolation)
    starts, stops = (nodes.node("Concat", *pair, axis=0) for pair in ((start_y, start_x), (stop_y, stop_x)))
    part = nodes.node("Slice", source, starts, stops, nodes.axes(1, 2))
    planes = nodes.node("Cast", nodes.node("Transpose", part, perm=[0, 3, 1, 2]), to=_FLOAT)
    columns = nodes.node("Transpose", weights_x, perm=[1, 0])
    picture = _both_ways(nodes, planes, weights_y, columns, _is_tall(nodes, down, across, spec))
    picture = nodes.node(
        "Reshape", picture, nodes.axes(batch, spec.channels, *spec.size)
    )  # engines plan by known sizes
    if spec.resize == "pad":
        picture = _bordered(nodes, picture, down, across, spec)
    nodes.give(picture, RESIZED)
    return made


def check_spec(spec: PreprocessSpec, *, where: str) -> None:
    """Raises BundleError for preprocessing that `add_resize` cannot do to the grey level."""
    wrong = None
    if spec.region is not None or spec.window is not None:
        wrong = "a graph that resizes cuts no region and applies no intensity window"
    elif spec.interpolation not in SUPPORT:
        wrong = f"a graph resizes with {', '.join(SUPPORT)}, not with {spec.interpolation}"
    if wrong is not None:
        raise BundleError(wrong, where=where, hint="export onnx-uint8 or openvino-uint8, and resize before it")


def _axes(nodes: Nodes, spec: PreprocessSpec, source: str) -> tuple[_Axis, _Axis]:
    """Height and width."""
    shape = nodes.node("Shape", source)
    lengths = [nodes.node("Gather", shape, _whole(nodes, place), axis=0) for place in (1, 2)]
    if spec.resize == "stretch":
        sizes = [_whole(nodes, size) for size in spec.size]
        shifts = [_whole(nodes, 0)] * 2
    elif spec.resize == "pad":
        sizes = _inside(nodes, lengths, spec.size)
        free = [nodes.node("Sub", _whole(nodes, out), size) for out, size in zip(spec.size, sizes, strict=True)]
        halves = [nodes.node("Div", space, _whole(nodes, 2)) for space in free]
        shifts = [nodes.node("Mul", half, _whole(nodes, -2)) for half in halves]
    else:
        target = math.floor(spec.size[0] / spec.crop), math.floor(spec.size[1] / spec.crop)
        sizes = _covering(nodes, lengths, target)
        shifts = [_centered(nodes, size, out) for size, out in zip(sizes, spec.size, strict=True)]
    down, across = (
        _Axis(length=length, resized=size, shift=shift, out=out)
        for length, size, shift, out in zip(lengths, sizes, shifts, spec.size, strict=True)
    )
    return down, across


def _covering(nodes: Nodes, lengths: list[str], target: tuple[int, int]) -> list[str]:
    """As `core.preprocess.cover`."""
    height, width = lengths
    tall, wide = (_whole(nodes, size) for size in target)
    by_height, by_width = nodes.node("Mul", height, wide), nodes.node("Mul", width, tall)
    wide_enough = nodes.node("LessOrEqual", by_height, by_width)
    across = nodes.node("Max", wide, nodes.node("Div", by_width, height))
    down = nodes.node("Max", tall, nodes.node("Div", by_height, width))
    return [nodes.node("Where", wide_enough, tall, down), nodes.node("Where", wide_enough, across, wide)]


def _inside(nodes: Nodes, lengths: list[str], target: tuple[int, int]) -> list[str]:
    """As `core.preprocess.fit_inside`."""
    height, width = lengths
    tall, wide = (_whole(nodes, size) for size in target)
    by_height, by_width = nodes.node("Mul", height, wide), nodes.node("Mul", width, tall)
    is_tall = nodes.node("GreaterOrEqual", by_height, by_width)
    one = _whole(nodes, 1)
    across = nodes.node("Max", one, _quotient(nodes, by_width, height))
    down = nodes.node("Max", one, _quotient(nodes, by_height, width))
    return [nodes.node("Where", is_tall, tall, down), nodes.node("Where", is_tall, across, wide)]


def _quotient(nodes: Nodes, over: str, under: str) -> str:
    """Rounded to the next whole number, halves to even ones."""
    two = nodes.node("Mul", under, _whole(nodes, 2))
    moved = nodes.node("Add", nodes.node("Mul", over, _whole(nodes, 2)), under)
    found, rest = nodes.node("Div", moved, two), nodes.node("Mod", moved, two)
    is_half = nodes.node("Cast", nodes.node("Equal", rest, _whole(nodes, 0)), to=_INT64)
    return nodes.node("Sub", found, nodes.node("Mul", is_half, nodes.node("Mod", found, _whole(nodes, 2))))


def _centered(nodes: Nodes, size: str, out: int) -> str:
    """Twice the margin before a center crop, as `core.preprocess.center_crop`: halves are rounded to even numbers."""
    free = nodes.node("Sub", size, _whole(nodes, out))
    odd, quarter = nodes.node("Mod", free, _whole(nodes, 2)), nodes.node("Mod", free, _whole(nodes, 4))
    rounding = nodes.node("Mul", odd, nodes.node("Sub", quarter, _whole(nodes, 2)))
    return nodes.node("Add", free, rounding)


def _weights(nodes: Nodes, axis: _Axis, method: str) -> tuple[str, str, str]:
    """(start, stop, weights): which samples (1,) of the image count, and how much each, (out, stop - start)."""
    length = nodes.node("Cast", axis.length, to=_FLOAT)
    ratio = nodes.node("Div", length, nodes.node("Cast", axis.resized, to=_FLOAT))
    scale = nodes.node("Max", ratio, real(nodes, 1.0))
    from_middle = nodes.node(
        "Add", nodes.store(2 * np.arange(axis.out) + 1), nodes.node("Sub", axis.shift, axis.resized)
    )
    half = real(nodes, 0.5)
    centers = nodes.node("Mul", nodes.node("Mul", nodes.node("Cast", from_middle, to=_FLOAT), half), ratio)
    start, stop = _part(nodes, axis, centers, nodes.node("Mul", scale, real(nodes, SUPPORT[method])))
    places = nodes.node("Range", start, stop, _whole(nodes, 1))
    twice = nodes.node("Add", nodes.node("Mul", places, _whole(nodes, 2)), _whole(nodes, 1))
    samples = nodes.node("Mul", nodes.node("Cast", nodes.node("Sub", twice, axis.length), to=_FLOAT), half)
    column = nodes.node("Unsqueeze", centers, nodes.axes(1))
    distance = nodes.node("Div", nodes.node("Abs", nodes.node("Sub", samples, column)), scale)
    weights = FILTERS[method](nodes, distance)
    total = nodes.node("Max", nodes.node("ReduceSum", weights, nodes.axes(1), keepdims=1), real(nodes, _SMALLEST))
    ends = (nodes.node("Unsqueeze", end, nodes.axes(0)) for end in (start, stop))
    return (*ends, nodes.node("Div", weights, total))  # type: ignore[return-value]


def _part(nodes: Nodes, axis: _Axis, centers: str, reach: str) -> tuple[str, str]:
    """The first sample that any filter may touch, and the one behind the last; two more on both sides for rounding."""
    middle = nodes.node("Mul", nodes.node("Cast", axis.length, to=_FLOAT), real(nodes, 0.5))
    first = nodes.node("Add", nodes.node("Gather", centers, _whole(nodes, 0), axis=0), middle)
    last = nodes.node("Add", nodes.node("Gather", centers, _whole(nodes, axis.out - 1), axis=0), middle)
    low = nodes.node("Sub", nodes.node("Sub", first, reach), real(nodes, 3.0))
    high = nodes.node("Add", nodes.node("Add", last, reach), real(nodes, 3.0))
    one = _whole(nodes, 1)
    start = nodes.node("Max", nodes.node("Cast", nodes.node("Floor", low), to=_INT64), _whole(nodes, 0))
    start = nodes.node("Min", start, nodes.node("Sub", axis.length, one))
    stop = nodes.node("Min", nodes.node("Cast", nodes.node("Ceil", high), to=_INT64), axis.length)
    return start, nodes.node("Max", stop, nodes.node("Add", start, one))


def _is_tall(nodes: Nodes, down: _Axis, across: _Axis, spec: PreprocessSpec) -> str:
    """Whether Pillow begins with the columns: since version 13 where the rows become fewer, by more than twice what the
    columns do.

    What the reference cuts out of a very long image is resized to the network's size at once.
    """
    if int(PILLOW.partition(".")[0]) < _COLUMNS_FIRST:
        return nodes.store(np.asarray(False))
    sizes = [down.resized, across.resized]
    if spec.resize == "crop":
        target = math.floor(spec.size[0] / spec.crop) * math.floor(spec.size[1] / spec.crop)
        area = nodes.node("Mul", *(nodes.node("Cast", size, to=_FLOAT) for size in sizes))
        is_long = nodes.node("Greater", area, real(nodes, ELONGATED * target))
        sizes = [
            nodes.node("Where", is_long, _whole(nodes, out), size) for out, size in zip(spec.size, sizes, strict=True)
        ]
    lost = [nodes.node("Sub", axis.length, size) for axis, size in zip((down, across), sizes, strict=True)]
    much = nodes.node("Greater", lost[0], nodes.node("Mul", lost[1], _whole(nodes, 2)))
    return nodes.node("And", nodes.node("Greater", lost[0], _whole(nodes, 0)), much)


def _both_ways(nodes: Nodes, planes: str, rows: str, columns: str, is_tall: str) -> str:
    """One of the two orders, each pass rounded."""
    across_first, down_first = nodes.branch(), nodes.branch()
    across = _rounded(across_first, across_first.node("MatMul", planes, columns))
    one = across_first.ends_in(_rounded(across_first, across_first.node("MatMul", rows, across)))
    down = _rounded(down_first, down_first.node("MatMul", rows, planes))
    other = down_first.ends_in(_rounded(down_first, down_first.node("MatMul", down, columns)))
    return nodes.node("If", is_tall, then_branch=other, else_branch=one)


def _rounded(nodes: Nodes, value: str) -> str:
    """To whole grey levels, halves up, as Pillow's fixed-point numbers do."""
    whole = nodes.node("Floor", nodes.node("Add", value, real(nodes, 0.5)))
    return nodes.node("Clip", whole, real(nodes, 0.0), real(nodes, 255.0))


def _bordered(nodes: Nodes, picture: str, down: _Axis, across: _Axis, spec: PreprocessSpec) -> str:
    """The image on a canvas of the mean color, as `core.preprocess.prepare` fills it."""
    rows, columns = (_covered(nodes, axis) for axis in (down, across))
    inside = nodes.node("And", nodes.node("Unsqueeze", rows, nodes.axes(1)), columns)
    fill = np.rint(np.clip(np.asarray(spec.mean), 0.0, 1.0) * spec.maximum).astype(np.float32)
    return nodes.node("Where", inside, picture, nodes.store(fill.reshape(1, -1, 1, 1)))


def _covered(nodes: Nodes, axis: _Axis) -> str:
    """(out,) where the network's input shows the image."""
    twice = nodes.node("Add", nodes.store(2 * np.arange(axis.out)), axis.shift)
    low = nodes.node("GreaterOrEqual", twice, _whole(nodes, 0))
    return nodes.node("And", low, nodes.node("Less", twice, nodes.node("Mul", axis.resized, _whole(nodes, 2))))


def _whole(nodes: Nodes, value: int) -> str:
    return nodes.store(np.asarray(value, np.int64))
