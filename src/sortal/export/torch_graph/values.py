"""What flows between the nodes: tensors, and numbers that are known before any image is seen.

Sizes of tensors, axes and scalars have to stay Python numbers (or symbols of a tracer) while a module is traced: as
tensors they would become data that shapes depend on, which no exporter takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.errors import BundleError

_KINDS = {"i": torch.int64, "u": torch.int64, "b": torch.bool}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A scalar (`single`) or a list of numbers; each is an int, a float, a bool or a tracer's symbol for a size."""

    values: tuple[Any, ...]
    single: bool = False
    dtype: torch.dtype = torch.int64
    device: torch.device | None = None
    """Of the tensor whose sizes they are; None for constants."""

    def like(self, values: Sequence[Any], *, single: bool | None = None, dtype: torch.dtype | None = None) -> Numbers:
        """Other numbers on the same device."""
        return Numbers(
            values=tuple(values),
            single=self.single if single is None else single,
            dtype=dtype or self.dtype,
            device=self.device,
        )


Value: TypeAlias = Tensor | Numbers


def from_array(array: NDArray[Any]) -> Numbers:
    """A stored scalar or list."""
    kind = _KINDS.get(array.dtype.kind) or torch.from_numpy(np.zeros(1, array.dtype)).dtype
    return Numbers(values=tuple(array.reshape(-1).tolist()), single=array.ndim == 0, dtype=kind)


def known(value: Value | None, role: str) -> list[Any]:
    """The numbers of a value that has to be known without an image. Raises BundleError where one is needed."""
    if isinstance(value, Numbers):
        return list(value.values)
    raise BundleError(f"its {role} depends on the pixels", hint="export to onnx or openvino")


def one_known(value: Value | None, role: str) -> Any:
    """As `known`, of a single number."""
    return known(value, role)[0]


def tensor(value: Value, beside: Tensor | None = None) -> Tensor:
    """The value as a tensor, on the device of the tensor `beside`."""
    if isinstance(value, Tensor):
        return value
    device = value.device if beside is None else beside.device
    if all(type(number) in (int, float, bool) for number in value.values):
        return torch.tensor(value.values[0] if value.single else list(value.values), dtype=value.dtype, device=device)
    parts = [_size_tensor(number, value.dtype, device) for number in value.values]
    return parts[0] if value.single else torch.stack(parts)


def _size_tensor(number: Any, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    if isinstance(number, Tensor):
        return number.to(device=device, dtype=dtype)
    return torch.scalar_tensor(number, dtype=dtype, device=device)


def scalar(value: Value | None) -> Any:
    """A Python number where the value is one known number, else None."""
    if isinstance(value, Numbers) and len(value.values) == 1:
        return value.values[0]
    return None


def torch_dtype(kind: int) -> torch.dtype:
    """ONNX's number of a type. Raises BundleError for types without a counterpart."""
    from onnx import helper

    array = helper.tensor_dtype_to_np_dtype(kind)
    try:
        return torch.from_numpy(np.zeros(1, array)).dtype
    except TypeError as error:
        raise BundleError("this type of number has no counterpart in PyTorch", received=str(array)) from error
