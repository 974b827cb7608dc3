"""A float32 .tflite file in int8: weights by channel, activations by ranges seen on real images, an int8 input.

Ranges run from the smallest to the largest number seen, by ai-edge-quantizer; that of the input is what pixels can be,
because darker images will come: with the range that was seen, one of 204 decisions flipped, without it none.
Everything that leads to `feature_map` computes in integers, which is all that an accelerator has to take. What follows
(pooled statistics with their square roots, the linear head, the unknown score) is a thousandth of the arithmetic and
stays in float32, where int8 would cost decisions; the head's matrix is stored as int8.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, MissingExtraError
from sortal.export.tflite.convert import SIGNATURE

BODY, TAIL = "body/", "tail/"
"""How tensors are called: those on the way to the feature map, and what follows."""
_STATIC, _WEIGHTS = "static", "weights"


def in_int8(data: bytes, images: NDArray[np.float32], *, ends: tuple[float, float], where: str = "model") -> bytes:
    """The file in int8, calibrated on `images` (N, height, width, channels), normalized as the file takes them.

    `ends` are the smallest and the largest number that the input can hold, which few images show. The input becomes
    int8; logits, embedding and feature map stay float32. Raises MissingExtraError without ai-edge-quantizer,
    BundleError where a layer cannot be quantized.
    """
    try:
        from ai_edge_quantizer import calibrator, quantizer
        from ai_edge_quantizer.utils import qsv_utils
    except ImportError as error:
        raise MissingExtraError("ai-edge-quantizer", "mobile") from error
    named = with_places(data)
    with _quiet():
        try:
            made = quantizer.Quantizer(named, _recipe())
            seen = calibrator.Calibrator(named, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
            samples = [{"image": image[None]} for image in images]
            seen.calibrate({SIGNATURE: samples}, made._recipe_manager)
            ranges = seen.get_model_qsvs()
            ranges[_input(named)] = {"min": np.full((1,) * 4, ends[0]), "max": np.full((1,) * 4, ends[1])}
            found = made.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        except Exception as error:  # the quantizer has no common class of errors
            raise BundleError(f"the network cannot be quantized: {error}", where=where) from error
    if found.quantized_model is None:
        raise BundleError("the quantizer returned nothing", where=where)
    return _with_outputs_of(named, bytes(found.quantized_model))


def with_places(data: bytes) -> bytes:
    """The file with every tensor's name led by where it lies, `body/` or `tail/`, so that a recipe can tell them."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    graph = model.subgraphs[0]
    inside = _leading_to(graph.operators, _feature_map(model))
    for number, tensor in enumerate(graph.tensors):
        name = tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name or ""
        tensor.name = f"{BODY if number in inside else TAIL}{number}/{name[-60:]}"
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _with_outputs_of(named: bytes, data: bytes) -> bytes:
    """The quantized file with its outputs by name where the graph gives them out: the quantizer leaves the names at
    tensors that lie before its last conversion to float32, which nobody can read once a delegate took them."""
    from ai_edge_litert.tools import flatbuffer_utils

    before, after = (flatbuffer_utils.read_model_from_bytearray(bytearray(one)) for one in (named, data))
    place = {int(tensor): position for position, tensor in enumerate(before.subgraphs[0].outputs)}
    given = {entry.name: place[int(entry.tensorIndex)] for entry in before.signatureDefs[0].outputs}
    for entry in after.signatureDefs[0].outputs:
        entry.tensorIndex = int(after.subgraphs[0].outputs[given[entry.name]])
    return bytes(flatbuffer_utils.convert_object_to_bytearray(after))


def _input(named: bytes) -> str:
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(named, 0).Subgraphs(0)
    return str(graph.Tensors(graph.Inputs(0)).Name().decode())


def _feature_map(model: Any) -> int:
    for entry in model.signatureDefs[0].outputs:
        if entry.name in (b"feature_map", "feature_map"):
            return int(entry.tensorIndex)
    raise BundleError("the file has no output feature_map")


def _leading_to(operators: Sequence[Any], tensor: int) -> set[int]:
    """Tensors that operators on the way to `tensor` make or take."""
    made_by = {int(output): operator for operator in operators for output in operator.outputs}
    found: set[int] = set()
    waiting = [tensor]
    while waiting:
        one = int(waiting.pop())
        if one in found or one < 0:
            continue
        found.add(one)
        waiting += list(made_by[one].inputs) if one in made_by else []
    return found


def _recipe() -> list[dict[str, Any]]:
    body = f"^{BODY}"
    return [
        _rule(body, "*", _STATIC),
        _rule(body, "INPUT", _STATIC),
        *(_rule(f"^{TAIL}", kind, _WEIGHTS) for kind in ("FULLY_CONNECTED", "BATCH_MATMUL")),
    ]


def _rule(place: str, operation: str, how: str) -> dict[str, Any]:
    weights = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
    settings: dict[str, Any] = {
        "weight_tensor_config": weights,
        "compute_precision": "INTEGER" if how == _STATIC else "FLOAT",
        "explicit_dequantize": how != _STATIC,
        "skip_checks": False,
        "min_weight_elements": 0 if how == _STATIC else 4096,
    }
    if how == _STATIC:
        settings["activation_tensor_config"] = weights | {"symmetric": False, "granularity": "TENSORWISE"}
    return {
        "regex": place,
        "operation": operation,
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": settings,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
