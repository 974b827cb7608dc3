"""A model repository for NVIDIA Triton Inference Server: the same classifier for three kinds of clients.

    models/classifier/             8-bit pixels of the network's size; normalization and decision in the graph
    models/image_classifier/       normalized float32, for clients that prepare images themselves
    models/preprocess/             8-bit pixels to normalized float32; where the graph can resize, pixels of any size
    models/classifier_pipeline/    an ensemble: preprocess, then image_classifier
    tensorrt/image_classifier/     the configuration for an engine of TensorRT instead of the ONNX file

`classifier` is the one to take: it needs no ensemble and no copy between models. The ensemble stands on the ONNX
Runtime backend alone, which every Triton image brings; decoding JPEGs would need DALI or the Python backend, which not
every image has, and a decoder other than the one that was checked. A graph with a fixed batch becomes `classifier`
only. Sortal writes the folder and checks the graphs; it does not run the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx as package

from sortal.core.errors import BundleError
from sortal.core.labels import LabelSet
from sortal.export.artifacts.onnx_uint8 import write_fused
from sortal.export.fused import NORMALIZED, fuse
from sortal.export.fused_decision import add_decision
from sortal.export.graph import INPUT, save_model
from sortal.export.triton_config import LABELS_FILE, ONNX, TENSORRT, Step, configuration, ensemble
from sortal.runtime.metadata import ArtifactInfo, from_metadata
from sortal.runtime.onnx_file import read_model

NAME, FLOATS, PREPROCESS, PIPELINE = "classifier", "image_classifier", "preprocess", "classifier_pipeline"
"""What clients call the models."""

DETAILS = {
    "format": "triton-model-repository",
    "precision": "float32",
    "model": f"models/{NAME}/1/model.onnx",
    "engine": "onnxruntime",
    "input": "uint8 NHWC",
    "for": "Triton",
    "command": "tritonserver --model-repository=models",
}

_README = """# An engine of TensorRT in place of the ONNX file

Where the server runs: build a plan (`sh build.sh` of the artifact `tensorrt`), put it in place as
`models/image_classifier/1/model.plan`, remove `model.onnx` beside it, and copy `image_classifier/config.pbtxt` from
here over the one in `models/image_classifier/`. The plan gives logits and no decision, so remove
`models/classifier_pipeline/` too. A plan works with the TensorRT of the server's own image and the GPU it was built on.
"""


def convert(onnx: Path, out: Path) -> None:
    """Write `out/models/` and `out/tensorrt/`. Raises BundleError for a damaged file, or 16-bit preprocessing."""
    target = out / DETAILS["model"]
    target.parent.mkdir(parents=True)
    write_fused(onnx, target, layout="NHWC")
    fused = package.load_model_from_string(read_model(target))
    labels = _info(fused, str(onnx)).labels
    _describe(target.parent.parent, configuration(fused, name=NAME), labels)
    plain = package.load_model_from_string(read_model(onnx))
    if not plain.graph.input[0].type.tensor_type.shape.dim[0].dim_value:
        _write_pipeline(plain, out, labels, where=str(onnx))


def _write_pipeline(plain: package.ModelProto, out: Path, labels: LabelSet, *, where: str) -> None:
    """Everything but `classifier`."""
    text = configuration(plain, name=FLOATS, runs=TENSORRT)
    (out / "tensorrt" / FLOATS).mkdir(parents=True)
    (out / "tensorrt" / FLOATS / "config.pbtxt").write_text(text, encoding="utf-8")
    (out / "tensorrt" / "README.md").write_text(_README, encoding="utf-8")
    before = _preparation(plain, where)
    network = package.ModelProto()
    network.CopyFrom(plain)
    add_decision(network.graph, _info(plain, where).decision, labels, prefix="fused.")
    models = out / "models"
    sized = all(one.dim_value for one in before.graph.input[0].type.tensor_type.shape.dim[1:])
    _place(before, models / PREPROCESS, configuration(before, name=PREPROCESS, runs=ONNX, warm=sized), None)
    _place(network, models / FLOATS, configuration(network, name=FLOATS, runs=ONNX), labels)
    given = {value.name: value.name for value in network.graph.output}
    steps = [
        Step(model=PREPROCESS, takes={INPUT: INPUT}, gives={NORMALIZED: "normalized"}),
        Step(model=FLOATS, takes={INPUT: "normalized"}, gives=given),
    ]
    (models / PIPELINE / "1").mkdir(parents=True)  # Triton wants a version, which in an ensemble is empty
    (models / PIPELINE / "1" / "empty").write_bytes(b"")
    _describe(models / PIPELINE, ensemble(before, network, steps, name=PIPELINE), labels)


def _preparation(plain: package.ModelProto, where: str) -> package.ModelProto:
    """The graph from pixels to what the network takes, with resizing where that can be done to the grey level."""
    from onnx import TensorProto, helper

    fused = package.ModelProto()
    fused.CopyFrom(plain)
    try:
        fuse(fused, layout="NHWC any size", where=where)
    except BundleError:
        fused.CopyFrom(plain)
        fuse(fused, layout="NHWC", where=where)
    graph, spec = fused.graph, _info(plain, where).preprocess
    end = next(place for place, node in enumerate(graph.node) if NORMALIZED in node.output)
    del graph.node[end + 1 :]  # fusing puts its nodes first
    used = {name for node in graph.node for name in _names_in(node)}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:], graph.value_info[:], graph.output[:]
    graph.initializer.extend(kept)
    shape = ["batch", spec.channels, *spec.size]
    graph.output.append(helper.make_tensor_value_info(NORMALIZED, TensorProto.FLOAT, shape))
    return fused


def _names_in(node: package.NodeProto) -> Iterator[str]:
    """Tensors that a node takes, branches of conditions included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _names_in(inner)


def _place(model: package.ModelProto, folder: Path, text: str, labels: LabelSet | None) -> None:
    (folder / "1").mkdir(parents=True)
    save_model(model, folder / "1" / "model.onnx")
    _describe(folder, text, labels)


def _describe(folder: Path, text: str, labels: LabelSet | None) -> None:
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")
    if labels is not None:
        (folder / LABELS_FILE).write_text("".join(f"{name}\n" for name in labels.names), encoding="utf-8")


def _info(model: package.ModelProto, where: str) -> ArtifactInfo:
    return from_metadata({item.key: item.value for item in model.metadata_props}, where=where)
