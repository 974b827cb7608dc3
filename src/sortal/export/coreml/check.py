"""What a Core ML package holds, against the graph it was made from. Nobody can run it here, so everything that a wrong
package would get wrong is read back from its file and compared:

    image type and size, order of channels, normalization, classes in their order, temperature and bias, every weight
    in the order of the layers, names of outputs, metadata

What was compared is written beside the package as `check.json`. A package that fails is never attached.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError
from sortal.export.coreml.convert import (
    COMPUTE_UNITS,
    LABEL,
    PROBABILITIES,
    class_bias,
    colors_of,
    normalization,
)
from sortal.export.coreml.reading import open_package, step
from sortal.export.coreml.weights import compare_weights
from sortal.export.graph import INPUT
from sortal.export.torch_graph.reading import Graph, read_graph
from sortal.runtime.metadata import ArtifactInfo, from_metadata
from sortal.runtime.onnx_file import read_model

CHECK_FILE = "check.json"
NOT_MEASURED = "not measured"
_HALF = 2.0**-10
"""How far a number may be off, relative: one step of float16."""


def check_package(onnx: Path, package: Path, *, eight_bits: bool = False) -> dict[str, Any]:
    """Compare a package with the exported, stamped file and write `check.json` beside it; returns what it says.

    `eight_bits` allows 8-bit weights half a step of their channel. Raises BundleError with the first part that differs.
    """
    graph, said = _original(onnx)
    info = from_metadata(said, where=str(onnx))
    spec, main = open_package(package)
    where = str(package)
    found = {
        "input": _check_input(spec, info, where),
        "normalization": _check_normalization(main, info, where),
        "labels": _check_labels(main, info, where),
        "probabilities": _check_probabilities(main, info, where),
        "outputs": _check_outputs(spec, main, graph, where),
        "metadata": _check_metadata(spec, said, where),
        "weights": compare_weights(main, graph, eight_bits=eight_bits, where=where).summary(),
        "compute_units": spec.description.metadata.userDefined[COMPUTE_UNITS],
        "off_the_neural_engine": NOT_MEASURED,
        "run": "not run here: Core ML predicts on Apple's systems alone",
    }
    (package.parent / CHECK_FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def write_stand_in(onnx: Path, package: Path, target: Path) -> None:
    """Write the original's graph with the weights that the package holds. Raises BundleError where they do not fit."""
    import onnx as format
    from onnx import numpy_helper

    graph, _ = _original(onnx)
    _, main = open_package(package)
    held = compare_weights(main, graph, eight_bits=True, where=str(package)).tensors
    model = format.load_model_from_string(read_model(onnx))
    for tensor in model.graph.initializer:
        if tensor.name in held:
            kind = numpy_helper.to_array(tensor).dtype
            tensor.CopyFrom(numpy_helper.from_array(held[tensor.name].astype(kind), tensor.name))
    target.write_bytes(model.SerializeToString())


def report_beside(graph: Path) -> dict[str, Any]:
    """What was compared, and the outputs, of the package `graph`; nothing where no report lies beside it."""
    file = graph.parent / CHECK_FILE
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return {"check": found, "outputs": found["outputs"]}


def _original(onnx: Path) -> tuple[Graph, dict[str, str]]:
    import onnx as format

    model = format.load_model_from_string(read_model(onnx))
    return read_graph(model, where=str(onnx)), {item.key: item.value for item in model.metadata_props}


def _differs(what: str, where: str, *, expected: object, received: object) -> BundleError:
    return BundleError(
        f"the Core ML package is not what it should be: {what}; expected {expected}",
        where=where,
        received=str(received)[:300],
        hint="do not deploy it; export it again from its bundle",
    )


def _check_input(spec: Any, info: ArtifactInfo, where: str) -> dict[str, Any]:
    taken = [one for one in spec.description.input if one.type.WhichOneof("Type") == "imageType"]
    if [one.name for one in spec.description.input] != [INPUT] or not taken:
        raise _differs("its input is no image", where, expected=INPUT, received=list(spec.description.input))
    image = taken[0].type.imageType
    colors = type(image).ColorSpace.Name(image.colorSpace)
    if colors != colors_of(info, where):
        raise _differs("channels are in another order", where, expected=colors_of(info, where), received=colors)
    if (image.height, image.width) != tuple(info.preprocess.size):
        received = (image.height, image.width)
        raise _differs("the image has another size", where, expected=tuple(info.preprocess.size), received=received)
    return {"type": "image", "colors": colors, "height": image.height, "width": image.width}


def _check_normalization(main: Any, info: ArtifactInfo, where: str) -> dict[str, Any]:
    """What the program does to pixels before anything else; a graph may go on scaling behind it."""
    scale, offset = np.ones(1), np.zeros(1)
    expected = normalization(info)
    flowing, through = main.inputs[INPUT], list[str]()
    while len(flowing.child_ops) == 1 and (by := step(flowing.child_ops[0], flowing)) is not None:
        operation = flowing.child_ops[0]
        scale, offset = scale * by[0], offset * by[0] + by[1]
        through.append(operation.op_type)
        flowing = operation.outputs[0]
        if _near(scale, expected[0]) and _near(offset, expected[1]):
            break
    if not (_near(scale, expected[0]) and _near(offset, expected[1])):
        received = f"scale {_listed(scale)}, offset {_listed(offset)}"
        wanted = f"scale {_listed(expected[0])}, offset {_listed(expected[1])}"
        raise _differs("it normalizes pixels in another way", where, expected=wanted, received=received)
    return {"scale": _listed(scale), "offset": _listed(offset), "operations": through}


def _check_labels(main: Any, info: ArtifactInfo, where: str) -> list[str]:
    named = _classify(main, where).classes.val
    classes = [str(getattr(one, "val", one)) for one in getattr(named, "val", named)]
    if classes != list(info.labels.names):
        raise _differs("classes are in another order", where, expected=list(info.labels.names), received=classes)
    return classes


def _check_probabilities(main: Any, info: ArtifactInfo, where: str) -> dict[str, Any]:
    """Backwards from the class names to the logits: a softmax, and temperature and bias before it."""
    before = _classify(main, where).probabilities
    while before.op is not None and before.op.op_type == "cast":
        before = before.op.x
    if before.op is None or before.op.op_type != "softmax":
        raise _differs("class names do not come from a softmax", where, expected="softmax", received=before.name)
    before, scale, offset = before.op.x, np.ones(1), np.zeros(1)
    while before.name != "logits" and before.op is not None and "x" in before.op.inputs:
        given = before.op.x
        by = step(before.op, given)
        if by is None:
            break
        offset, scale = offset + scale * by[1], scale * by[0]
        before = given
    temperature, bias = float(info.decision.temperature), class_bias(info)
    if before.name != "logits" or not _near(scale, 1 / temperature) or not _near(offset, bias):
        received = f"1 / {_listed(1 / scale)}, {_listed(offset)} on {before.name}"
        raise _differs("temperature or bias", where, expected=f"1 / {temperature}, {_listed(bias)}", received=received)
    return {"temperature": temperature, "bias": _listed(bias)}


def _classify(main: Any, where: str) -> Any:
    found = [one for one in main.operations if one.op_type == "classify"]
    if len(found) != 1:
        raise _differs("it does not name classes once", where, expected=1, received=len(found))
    return found[0]


def _check_outputs(spec: Any, main: Any, graph: Graph, where: str) -> list[str]:
    expected = [LABEL, PROBABILITIES, *graph.outputs]
    for names in ([one.name for one in spec.description.output], [one.name for one in main.outputs]):
        if names != expected:
            raise _differs("outputs have other names", where, expected=expected, received=names)
    stated = (spec.description.predictedFeatureName, spec.description.predictedProbabilitiesName)
    if stated != (LABEL, PROBABILITIES):
        raise _differs("class names are elsewhere", where, expected=(LABEL, PROBABILITIES), received=stated)
    return expected


def _check_metadata(spec: Any, said: dict[str, str], where: str) -> list[str]:
    held = dict(spec.description.metadata.userDefined)
    wanted = {key: value for key, value in said.items() if key.startswith("sortal.")}
    for key, value in wanted.items():
        if held.get(key) != value:
            raise _differs(f"its metadata differ in {key}", where, expected=value[:200], received=held.get(key))
    if COMPUTE_UNITS not in held:
        raise _differs("its metadata lack the compute units", where, expected=COMPUTE_UNITS, received=sorted(held))
    return sorted(wanted)


def _near(value: NDArray[np.float64], expected: Any) -> bool:
    wanted = np.atleast_1d(np.asarray(expected, np.float64))
    if value.size not in (1, wanted.size):
        return False
    return bool((np.abs(value - wanted) <= _HALF * np.abs(wanted) + 1e-6).all())


def _listed(value: Any) -> list[float]:
    return [round(float(one), 6) for one in np.ravel(value)]
