"""From an exported file to a program of torch.export, which all of PyTorch's artifacts are made of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from sortal.core.errors import BundleError
from sortal.export.fused import fuse
from sortal.export.torch_graph import as_module
from sortal.export.torch_graph.module import GraphModule
from sortal.export.torch_graph.values import torch_dtype
from sortal.runtime.onnx_file import read_model

_EXAMPLE_BATCH = 2
"""At least 2: torch.export takes an example of size 1 for a promise that the size is always 1."""
_NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "fwd_source_fn_stack")


@dataclass(frozen=True, kw_only=True)
class Source:
    """An exported file as a module, and what belongs to it."""

    module: GraphModule
    metadata: dict[str, str]
    shape: tuple[int | None, ...]
    """Of the input; the batch is None where it is free."""
    dtype: torch.dtype
    where: str

    def example(self, batch: int = _EXAMPLE_BATCH) -> Tensor:
        """A black batch; of the graph's own size where that is fixed."""
        return torch.zeros([self.shape[0] or batch, *(size or 1 for size in self.shape[1:])], dtype=self.dtype)


def read_source(path: Path, *, pixels_in: bool = False) -> Source:
    """The module of an exported, stamped file without gradients; with 8-bit pixels as its input if asked for.

    Raises BundleError for a damaged file, an operator that PyTorch lacks, or 16-bit preprocessing with `pixels_in`.
    """
    model = onnx.load_model_from_string(read_model(path))
    if pixels_in:
        fuse(model, layout="NHWC", where=str(path))
    module = as_module(model, where=str(path))
    module.requires_grad_(False).eval()
    metadata = {item.key: item.value for item in model.metadata_props}
    taken = model.graph.input[0].type.tensor_type
    return Source(
        module=module,
        metadata=metadata,
        shape=tuple(size.dim_value or None for size in taken.shape.dim),
        dtype=torch_dtype(taken.elem_type),
        where=str(path),
    )


def exported(source: Source, *, batch: int | None = None) -> ExportedProgram:
    """The program with the batch as free as the graph's, or of the size `batch`; without notes on where it was made.

    Raises BundleError where the graph has a shape that depends on pixels.
    """
    fixed = source.shape[0] or batch
    example = source.example(_EXAMPLE_BATCH if fixed is None else fixed)
    free = ({0: Dim("batch", min=1)},) if fixed is None else None
    try:
        with quiet():
            program = torch.export.export(source.module, (example,), dynamic_shapes=free)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise BundleError(f"torch.export cannot trace the graph: {reason}", where=source.where) from error
    for node in program.graph.nodes:
        for note in _NOTES:
            node.meta.pop(note, None)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Without the deprecations of PyTorch's own parts, nothing of which a user could act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def without_examples(program: ExportedProgram) -> Any:
    """The program without its example input, which would be the one part of its file that is pickled."""
    program.example_inputs = None
    return program
