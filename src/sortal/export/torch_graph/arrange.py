"""Operators that move values without changing them, and those that speak of sizes.

Sizes stay `Numbers`, so that a free batch stays free through Shape, Slice, Concat and Reshape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sortal.export.torch_graph.arithmetic import Attributes
from sortal.export.torch_graph.values import Numbers, Value, from_array, known, one_known, scalar, tensor

_END = 2**62
"""Ends of slices beyond this mean the end of the axis."""


def shape(attributes: Attributes, x: Value) -> Numbers:
    """Shape, or a part of it."""
    sizes = list(x.shape) if isinstance(x, Tensor) else [] if x.single else [len(x.values)]
    chosen = sizes[attributes.get("start", 0) : attributes.get("end", len(sizes))]
    return Numbers(values=tuple(chosen), device=x.device)


def size(attributes: Attributes, x: Tensor) -> Numbers:
    """Size: how many values."""
    count: Any = 1
    for one in x.shape:
        count = count * one
    return Numbers(values=(count,), single=True, device=x.device)


def reshape(attributes: Attributes, x: Value, wanted: Value) -> Value:
    """Reshape; 0 keeps a size unless `allowzero` is set."""
    sizes = known(wanted, "shape")
    if isinstance(x, Numbers):
        return x.like(x.values, single=not sizes)
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[axis] if type(one) is int and one == 0 else one for axis, one in enumerate(sizes)]
    return x.reshape(sizes)


def flatten(attributes: Attributes, x: Tensor) -> Tensor:
    """Flatten to two axes."""
    axis = attributes.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1:
        return torch.flatten(x, 1) if x.ndim > 1 else x.unsqueeze(1)
    rows: Any = 1
    for one in x.shape[:axis]:
        rows = rows * one
    return x.reshape([rows, -1])


def transpose(attributes: Attributes, x: Tensor) -> Tensor:
    """Transpose."""
    return x.permute(attributes.get("perm", list(range(x.ndim))[::-1]))


def squeeze(attributes: Attributes, x: Value, axes: Value | None = None) -> Value:
    """Squeeze."""
    if isinstance(x, Numbers):
        return x.like(x.values, single=True)
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(known(axes, "axes")))


def unsqueeze(attributes: Attributes, x: Value, axes: Value) -> Value:
    """Unsqueeze."""
    along = known(axes, "axes")
    if isinstance(x, Numbers) and x.single and len(along) == 1:
        return x.like(x.values, single=False)
    x = tensor(x)
    rank = x.ndim + len(along)
    for axis in sorted(axis % rank for axis in along):
        x = x.unsqueeze(axis)
    return x


def concat(attributes: Attributes, *parts: Value) -> Value:
    """Concat."""
    numbers = [part for part in parts if isinstance(part, Numbers)]
    if len(numbers) == len(parts):
        source = next((part for part in numbers if part.device is not None), numbers[0])
        return source.like([number for part in numbers for number in part.values])
    beside = next(part for part in parts if isinstance(part, Tensor))
    return torch.cat([tensor(part, beside) for part in parts], attributes["axis"])


def split(attributes: Attributes, x: Value, sizes: Value | None = None) -> tuple[Value, ...]:
    """Split into parts of given sizes, or into `num_outputs` equal ones of which the last may be smaller."""
    axis = attributes.get("axis", 0)
    if isinstance(x, Numbers):
        ends = np.cumsum(known(sizes, "sizes")).tolist()
        return tuple(x.like(x.values[start:end]) for start, end in zip([0, *ends], ends, strict=False))
    if sizes is not None:
        return tuple(torch.split(x, known(sizes, "sizes"), axis))
    return tuple(torch.split(x, -(-x.shape[axis] // attributes["num_outputs"]), axis))


def slice_(
    attributes: Attributes, x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None
) -> Value:
    """Slice."""
    first, last = known(starts, "starts"), known(ends, "ends")
    along = known(axes, "axes") if axes is not None else list(range(len(first)))
    stride = known(steps, "steps") if steps is not None else [1] * len(first)
    if isinstance(x, Numbers):
        return x.like(x.values[slice(first[0], last[0], stride[0])])
    for axis, start, end, step in zip(along, first, last, stride, strict=True):
        x = _sliced(x, axis % x.ndim, start, end, step)
    return x


def _sliced(x: Tensor, axis: int, start: Any, end: Any, step: int) -> Tensor:
    if step < 0:
        places = range(*slice(start, None if end < -_END else end, step).indices(int(x.shape[axis])))
        return torch.index_select(x, axis, torch.tensor(list(places), device=x.device))
    stop = None if type(end) is int and end > _END else end
    start = 0 if type(start) is int and start < -_END else start
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def gather(attributes: Attributes, x: Value, indices: Value) -> Value:
    """Gather: slices of `x` along an axis."""
    axis = attributes.get("axis", 0)
    if isinstance(x, Numbers) and isinstance(indices, Numbers):
        return x.like([x.values[place] for place in indices.values], single=indices.single)
    x = tensor(x)
    place = scalar(indices)
    if isinstance(indices, Numbers) and indices.single and place is not None:
        return x.select(axis, place)
    return x[(slice(None),) * (axis % x.ndim) + (tensor(indices, x),)]


def gather_elements(attributes: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    """GatherElements."""
    axis = attributes.get("axis", 0)
    return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices))


def expand(attributes: Attributes, x: Value, wanted: Value) -> Tensor:
    """Expand, where sizes of 1 in either are those of the other."""
    sizes, x = known(wanted, "shape"), tensor(x)
    sizes = [1] * (x.ndim - len(sizes)) + sizes
    own = [1] * (len(sizes) - x.ndim) + list(x.shape)
    return x.expand(
        [mine if type(asked) is int and asked == 1 else asked for mine, asked in zip(own, sizes, strict=True)]
    )


def tile(attributes: Attributes, x: Value, repeats: Value) -> Tensor:
    """Tile."""
    return tensor(x).repeat(known(repeats, "repeats"))


def constant_of_shape(attributes: Attributes, wanted: Value) -> Value:
    """ConstantOfShape: zeros, or the given value."""
    sizes = known(wanted, "shape")
    value = from_array(attributes.get("value", np.zeros(1, np.float32)))
    if value.dtype == torch.int64 and len(sizes) == 1 and type(sizes[0]) is int:
        return value.like(value.values * sizes[0], single=False)
    device = wanted.device
    return torch.full(sizes, value.values[0], dtype=value.dtype, device=device)


def range_(attributes: Attributes, start: Value, limit: Value, delta: Value) -> Tensor:
    """Range."""
    parts = [one for one in (start, limit, delta) if isinstance(one, Numbers)]
    device = next((one.device for one in parts if one.device is not None), None)
    first, last, step = (one_known(one, "range") for one in (start, limit, delta))
    return torch.arange(first, last, step, dtype=parts[0].dtype, device=device)


def depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    """DepthToSpace in either order of channels."""
    block = attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return torch.nn.functional.pixel_shuffle(x, block)
    channels, height, width = x.shape[1] // block**2, x.shape[2], x.shape[3]
    parts = x.reshape([-1, block, block, channels, height, width]).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape([-1, channels, height * block, width * block])


def space_to_depth(attributes: Attributes, x: Tensor) -> Tensor:
    """SpaceToDepth."""
    block, channels = attributes["blocksize"], x.shape[1]
    height, width = x.shape[2] // block, x.shape[3] // block
    parts = x.reshape([-1, channels, height, block, width, block]).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape([-1, block * block * channels, height, width])


def trilu(attributes: Attributes, x: Tensor, diagonal: Value | None = None) -> Tensor:
    """Trilu: the upper or lower triangle."""
    offset = 0 if diagonal is None else one_known(diagonal, "diagonal")
    return torch.triu(x, offset) if attributes.get("upper", 1) else torch.tril(x, offset)


def cast_like(attributes: Attributes, x: Value, other: Value) -> Value:
    """CastLike."""
    if isinstance(x, Numbers) and x.dtype == other.dtype:
        return x
    return tensor(x).to(other.dtype)
