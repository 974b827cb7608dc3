"""A program of torch.export, `model.pt2`: PyTorch opens it without the code of the network; the batch is free.

Weights are raw bytes and the graph is JSON; examples are left out, so that nothing in the file is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sortal.core.canonical import canonical
from sortal.export.engines.torch import INPUT_SHAPE, METADATA_FILE, OUTPUT_NAMES
from sortal.export.torch_graph.program import Source, exported, quiet, read_source, without_examples

DETAILS = {"format": "torch-export", "precision": "float32", "model": "model.pt2", "engine": "torch"}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.pt2`. Raises BundleError for a damaged file or an operator that PyTorch lacks."""
    write_program(read_source(onnx), out / DETAILS["model"])


def details(_graph: Path) -> dict[str, Any]:
    """For the manifest: the release of PyTorch, whose files later ones read."""
    return {"made_with": f"torch {torch.__version__.partition('+')[0]}"}


def write_program(source: Source, target: Path) -> None:
    """The program of a source, with its metadata as an extra file."""
    program = without_examples(exported(source))
    with quiet():
        torch.export.save(program, target, extra_files={METADATA_FILE: said(source)})


def said(source: Source) -> str:
    """What an artifact of PyTorch says about itself: the graph's metadata, its outputs and its input."""
    shape = ",".join("batch" if size is None else str(size) for size in source.shape)
    entries = source.metadata | {OUTPUT_NAMES: ",".join(source.module.output_names), INPUT_SHAPE: shape}
    return canonical(entries).decode()
