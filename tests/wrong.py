"""Artifacts that are wrong in one known way each, made from a right exported file, and the stage that is to blame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.data.decode import to_pixels
from sortal.export.fused import fuse
from sortal.export.fused_resize import RESIZED
from sortal.export.graph import INPUT, save_model, set_metadata
from sortal.export.parity import Side
from sortal.export.sides import file_side
from sortal.runtime.metadata import ArtifactInfo, from_metadata, to_metadata
from sortal.runtime.network_input import ANY_SIZE, KEY
from sortal.runtime.sources import Item, Raw

Change = Callable[[onnx.ModelProto], None]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What is compared: the right one and the wrong one, and the decision they are compared by."""

    original: Side
    artifact: Side
    decision: DecisionSpec
    precision: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way of being wrong."""

    stage: str
    make: Callable[[Path, Path], Pair]
    """Of a right exported file and an empty folder."""


def info_of(model: onnx.ModelProto) -> ArtifactInfo:
    return from_metadata({item.key: item.value for item in model.metadata_props}, where="model")


def state(model: onnx.ModelProto, **fields: object) -> None:
    """Other preprocessing in the file's metadata."""
    info = info_of(model)
    set_metadata(model, to_metadata(replace(info, preprocess=info.preprocess.model_copy(update=fields))))


def written(
    right: Path, folder: Path, change: Change, *, name: str = "wrong.onnx", engine: str = "onnxruntime"
) -> Side:
    model = onnx.load_model(right)
    change(model)
    save_model(model, folder / name)
    return file_side(folder / name, engine=engine, threads=1)


def in_the_file(
    stage: str, change: Change, *, decision: DecisionSpec | None = None, precision: str = "float32"
) -> Fault:
    """The artifact is the file after a change; where a `decision` is given, the right file has that one."""

    def make(right: Path, folder: Path) -> Pair:
        said = info_of(onnx.load_model(right)).decision if decision is None else decision
        start = folder / "start.onnx"
        original = written(right, folder, lambda model: decide_by(model, said), name=start.name)
        artifact = written(start, folder, change)
        return Pair(original=original, artifact=artifact, decision=said, precision=precision)

    return Fault(stage=stage, make=make)


def around_it(stage: str, change: Callable[[Side], Side]) -> Fault:
    """The graph is right, what feeds it is not."""

    def make(right: Path, folder: Path) -> Pair:
        original = file_side(right, threads=1)
        return Pair(original=original, artifact=change(original), decision=DecisionSpec())

    return Fault(stage=stage, make=make)


def decide_by(model: onnx.ModelProto, decision: DecisionSpec) -> None:
    """Another decision in the file's metadata."""
    set_metadata(model, to_metadata(replace(info_of(model), decision=decision)))


def swapped_mean(model: onnx.ModelProto) -> None:
    spec = info_of(model).preprocess
    state(model, mean=(0.9, *spec.mean[1:-1], 0.1), std=spec.std[::-1])


def swapped_inside(model: onnx.ModelProto) -> None:
    """The metadata are right, the fused numbers are not."""
    right = info_of(model)
    swapped_mean(model)
    fuse(model)
    set_metadata(model, to_metadata(right))


def reversed_weights(model: onnx.ModelProto) -> None:
    """Trained on BGR."""
    first = next(node for node in model.graph.node if node.op_type == "Conv").input[1]
    _replace(model, first, lambda values: values[:, ::-1])


def shuffled_labels(model: onnx.ModelProto) -> None:
    info = info_of(model)
    set_metadata(model, to_metadata(replace(info, labels=LabelSet(names=info.labels.names[::-1]))))


def shuffled_outputs(model: onnx.ModelProto) -> None:
    _replace(model, "head.weight", lambda values: np.roll(values, 1, axis=0))
    _replace(model, "head.bias", lambda values: np.roll(values, 1, axis=0))


def two_softmaxes(model: onnx.ModelProto) -> None:
    """Probabilities where logits are promised; whoever applies softmax does it twice."""
    last = next(place for place, node in enumerate(model.graph.node) if "logits" in node.output)
    model.graph.node[last].output[0] = "before.softmax"
    model.graph.node.insert(last + 1, helper.make_node("Softmax", ["before.softmax"], ["logits"], axis=1))


def fused_with(**fields: object) -> Change:
    """A fused graph that decides by other numbers than its metadata state."""

    def change(model: onnx.ModelProto) -> None:
        right = info_of(model)
        decide_by(model, right.decision.model_copy(update=fields))
        fuse(model)
        set_metadata(model, to_metadata(right))

    return change


def saturated(model: onnx.ModelProto) -> None:
    """The network's input in 8 bits whose scale holds a third of its range."""
    spec = info_of(model).preprocess
    largest = max(max(mean, 1 - mean) / std for mean, std in zip(spec.mean, spec.std, strict=True))
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == INPUT:
                node.input[place] = "coarse.image"
    stored = {"coarse.scale": np.float32(largest / 3 / 127), "coarse.zero": np.int8(0)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items())
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", [INPUT, *stored], ["coarse.whole"]))
    model.graph.node.insert(1, helper.make_node("DequantizeLinear", ["coarse.whole", *stored], ["coarse.image"]))


def _replace(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
            tensor.CopyFrom(numpy_helper.from_array(values, name))


def reversed_decoder(side: Side) -> Side:
    def decode(raw: Raw) -> Pixels:
        return np.ascontiguousarray(_right(side, raw)[..., ::-1])

    return replace(side, decode=decode)


def without_turning(side: Side) -> Side:
    """A decoder that leaves EXIF orientation to others."""

    def decode(raw: Raw) -> Pixels:
        if isinstance(raw, np.ndarray):
            return _right(side, raw)
        return np.asarray(Image.open(BytesIO(bytes(raw))).convert("RGB"))

    return replace(side, decode=decode)


def prepared_with(**fields: object) -> Callable[[Side], Side]:
    """Another program's resizing, of which the metadata say nothing."""

    def change(side: Side) -> Side:
        return replace(side, prepare=lambda upright: prepare(side.preprocess.model_copy(update=fields), upright))

    return change


def other_filter(side: Side) -> Side:
    other = "bilinear" if side.preprocess.interpolation != "bilinear" else "bicubic"
    return prepared_with(interpolation=other)(side)


def narrower_cut(side: Side) -> Side:
    """Of everything but the middle; what is cut to begin with, is cut elsewhere."""
    spec = side.preprocess
    return prepared_with(resize="crop", crop=0.8 * spec.crop if spec.resize == "crop" else 0.6)(side)


def without_antialias(side: Side) -> Side:
    """As many C++ programs resize: four neighboring pixels, however far the image is reduced."""
    import torch

    spec = side.preprocess

    def sharp(image: Pixels) -> Pixels:
        target = [int(size / spec.crop) for size in spec.size] if spec.resize == "crop" else list(spec.size)
        given = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(given, target, mode="bicubic", antialias=False)[0]
        top, left = ((size - own) // 2 for size, own in zip(target, spec.size, strict=True))
        cut = small[:, top : top + spec.size[0], left : left + spec.size[1]].permute(1, 2, 0)
        return cut.round().clamp(0, 255).numpy().astype(np.uint8)

    return replace(side, prepare=sharp)


def eight_bits_for_sixteen(right: Path, folder: Path) -> Pair:
    """The run keeps 16 bits, the artifact was made to take 8."""
    original = written(right, folder, lambda model: state(model, depth=16), name="deep.onnx")
    artifact = written(folder / "deep.onnx", folder, lambda model: state(model, depth=8))
    return Pair(original=original, artifact=artifact, decision=DecisionSpec())


def resize_on(engine: str) -> Callable[[Path, Path], Pair]:
    """ONNX's own Resize with antialias, which ONNX Runtime does as Pillow does and OpenVINO without antialias."""

    def make(right: Path, folder: Path) -> Pair:
        original = written(right, folder, lambda model: state(model, resize="stretch"), name="stretch.onnx")
        artifact = written(folder / "stretch.onnx", folder, with_onnx_resize, engine=engine)
        return Pair(original=original, artifact=artifact, decision=info_of(onnx.load_model(right)).decision)

    return make


def with_onnx_resize(model: onnx.ModelProto) -> None:
    """As the artifact `onnx-resize`, but by ONNX's operator; stretched to the network's size."""
    spec: PreprocessSpec = info_of(model).preprocess
    fuse(model, layout="NCHW")
    sizes = numpy_helper.from_array(np.asarray(spec.size, np.int64), "resize.sizes")
    model.graph.initializer.append(sizes)
    options = {"antialias": 1, "axes": [2, 3], "cubic_coeff_a": -0.5, "exclude_outside": 1, "mode": "cubic"}
    nodes = [
        helper.make_node("Transpose", [INPUT], ["resize.planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["resize.planes", "", "", "resize.sizes"], ["resize.small"], **options),
        helper.make_node("Cast", ["resize.small"], [RESIZED], to=TensorProto.FLOAT),
    ]
    rest = [node for node in model.graph.node if node.input[0] != INPUT]
    for node in rest:
        for place, name in enumerate(node.input):
            if name == "fused.floats":
                node.input[place] = RESIZED
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    shape = [batch.dim_param or batch.dim_value, "rows", "columns", spec.channels]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
    set_metadata(model, {KEY: ANY_SIZE})


def _right(side: Side, raw: Raw) -> Pixels:
    return to_pixels(raw, channels=side.preprocess.channels, depth=side.preprocess.depth)


def turned(item: Item) -> Item:
    """The same image as a JPEG that says it lies on its side."""
    pixels = to_pixels(item.open(), channels=3, depth=8)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95, exif=exif.tobytes())
    return Item(name=f"{item.name} on its side", open=data.getvalue)


FAULTS: dict[str, Fault] = {
    "mean and deviation swapped, stated": in_the_file("normalize", swapped_mean),
    "mean and deviation swapped inside a fused graph": in_the_file("normalize", swapped_inside),
    "BGR out of the decoder": around_it("decode", reversed_decoder),
    "BGR in the first convolution": in_the_file("decode", reversed_weights),
    "EXIF orientation ignored": around_it("decode", without_turning),
    "8 bits instead of 16": Fault(stage="decode", make=eight_bits_for_sixteen),
    "another interpolation": around_it("resize", other_filter),
    "another interpolation, stated": in_the_file("resize", lambda model: state(model, interpolation="nearest")),
    "another crop": around_it("resize", narrower_cut),
    "resized without antialias": around_it("resize", without_antialias),
    "ONNX Resize on OpenVINO": Fault(stage="resize", make=resize_on("openvino")),
    "classes in another order, stated": in_the_file("labels", shuffled_labels),
    "outputs in another order": in_the_file("labels", shuffled_outputs),
    "softmax twice": in_the_file("graph", two_softmaxes),
    "temperature twice": in_the_file("decision", fused_with(temperature=4.0), decision=DecisionSpec(temperature=2.0)),
    "a threshold forgotten": in_the_file(
        "decision", fused_with(threshold=0.0), decision=DecisionSpec(threshold=1.0, temperature=3.0)
    ),
    "8-bit integers that saturate": in_the_file("precision", saturated, precision="float16"),
}
"""What is wrong -> the stage to be named. `EXIF orientation ignored` shows only on an image that is `turned`."""
