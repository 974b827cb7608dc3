"""PyTorch on the CPU: opens `model.pt2` (a program of torch.export) and `model.pt` (TorchScript), without the code of
the network.

A .pt2 file is inspected before it is loaded (`pt2_inspection`). A TorchScript file holds no Python pickle either, but a
program in a language of its own that can reach every operator of PyTorch, reading and writing files among them: like
any program, it should come from someone who is trusted.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.canonical import parse
from sortal.core.errors import BundleError, InputError, MissingExtraError
from sortal.export.engines.pt2_inspection import inspect_program
from sortal.runtime.engines.batches import Shape, run_batch
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE, as_outputs, check_interface
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput

METADATA_FILE = "sortal.json"
"""Extra file inside either kind of archive: a JSON object of the `sortal.*` entries."""
OUTPUT_NAMES = "sortal.outputs"
"""Entry: names of the outputs in their order, joined by commas."""
INPUT_SHAPE = "sortal.input_shape"
"""Entry: the sizes of the input, joined by commas; `batch` where it is free."""

_ONE_AT_A_TIME = threading.Lock()
"""The number of threads belongs to the whole process, so it is set for the time of one run."""


class TorchEngine:
    """A loaded program over `image -> logits, embedding, feature_map`."""

    name = "torch"

    def __init__(self, run: Callable[[Any], Any], metadata: dict[str, str], *, threads: int, where: str):
        self._program: Callable[[Any], Any] | None = run
        self.metadata = metadata
        self._threads = threads
        self._where = where
        names = metadata.get(OUTPUT_NAMES, "").split(",")
        check_interface(["image"], names, where)
        wanted = (*OUTPUTS, UNKNOWN_SCORE) if UNKNOWN_SCORE in names else OUTPUTS
        self._names = names
        self._places = [names.index(name) for name in wanted]
        self._shape: Shape = read_shape(metadata, where)

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`."""
        if self._program is None:
            raise BundleError("this engine is closed", where=self._where)
        try:
            return as_outputs(run_batch(self._run, batch, self._shape, where=self._where))
        except (RuntimeError, ValueError, TypeError) as error:
            raise BundleError(f"the model failed: {_first_line(error)}", where=self._where) from error

    def close(self) -> None:
        """See `Engine.close`."""
        self._program = None

    def run_all(self, batch: NetworkInput) -> dict[str, NDArray[Any]]:
        """See `TellsAll.run_all`."""

        def run(part: NetworkInput) -> list[NDArray[Any]]:
            return [output.numpy() for output in self._called(part)]

        return dict(zip(self._names, run_batch(run, batch, self._shape, where=self._where), strict=True))

    def _run(self, batch: NetworkInput) -> list[NDArray[np.float32]]:
        outputs = self._called(batch)
        return [outputs[place].float().numpy() for place in self._places]

    def _called(self, batch: NetworkInput) -> Any:
        import torch

        if self._program is None:
            raise BundleError("this engine is closed", where=self._where)
        with _threads(self._threads), torch.inference_mode():
            return self._program(torch.from_numpy(np.ascontiguousarray(batch)))


def open(path: Path, *, threads: int) -> TorchEngine:
    """Open `model.pt2` or `model.pt`. Raises BundleError for a file that is damaged, or that could run code of its
    maker while it is loaded; MissingExtraError where PyTorch is not installed."""
    try:
        import torch  # noqa: F401 - to say at once that it is missing
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    program, said = _script(path) if path.suffix == ".pt" else _exported(path)
    return TorchEngine(program, read_metadata(said, str(path)), threads=threads, where=str(path))


def read_metadata(text: str | bytes, where: str) -> dict[str, str]:
    """The `sortal.*` entries of a JSON text. Raises BundleError where it is no object of texts."""
    try:
        found = parse(text.encode() if isinstance(text, str) else text, where=METADATA_FILE) if text else {}
    except InputError as error:
        raise BundleError("the model's metadata is damaged", where=where) from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise BundleError("the model's metadata is damaged", where=where)
    return {str(key): str(value) for key, value in found.items()}


def read_shape(metadata: Mapping[str, str], where: str) -> Shape:
    """The input's declared shape. Raises BundleError where the metadata does not say."""
    try:
        return tuple(None if size == "batch" else int(size) for size in metadata[INPUT_SHAPE].split(","))
    except (KeyError, ValueError) as error:
        raise BundleError("the model does not say which input it takes", where=where) from error


def _exported(path: Path) -> tuple[Callable[[Any], Any], str]:
    import torch

    inspect_program(path)
    extra = {METADATA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's own parts
            program = torch.export.load(path, extra_files=extra)
            return program.module(), str(extra[METADATA_FILE])
    except (RuntimeError, ValueError, KeyError, TypeError, AssertionError, OSError) as error:
        raise BundleError(f"PyTorch cannot open the program: {_first_line(error)}", where=str(path)) from error


def _script(path: Path) -> tuple[Callable[[Any], Any], str]:
    import torch

    extra: dict[str, Any] = {METADATA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated; so the artifact's description says
            module: Callable[[Any], Any] = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu", _extra_files=extra
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise BundleError(f"PyTorch cannot open the script: {_first_line(error)}", where=str(path)) from error
    said = extra[METADATA_FILE]
    return module, said.decode() if isinstance(said, bytes) else said


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    with _ONE_AT_A_TIME:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0][:300]
