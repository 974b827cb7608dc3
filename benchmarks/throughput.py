"""From arrays to answers through Sortal, against calling the engine directly; and networks against what the CPU can do.

    python benchmarks/throughput.py [--models mobilenetv3_small_100,resnet50] [--seconds 8]
                                    [--parts classifier,limits,int8] [--work FOLDER]

One thread, CPU time, everything of a table in turns; networks have random weights. Three tables, as Markdown:

classifier  `Classifier.predict([array ...])` over the engine called directly, with the best settings: one thread,
            shared input and output, the logits alone asked for. `ready` is the engine alone on a normalized batch in
            memory, which is less than any caller can do; `by hand` is the same work as Sortal's, from the same arrays
            to logits, written in the quickest of three ways (the last column): as examples on the web normalize, in
            one multiplication and one addition, or through the fused uint8 graph. 1.00 is no overhead. Each is
            called some times on end, as in a loop over images, so that each finds its own data in the caches.
limits      GFLOP/s and GOP/s of the largest square matrix products that the packages here reach, and ResNet-50 as a
            share of them (2 x multiply-accumulates a second).
int8        Engines in float32 and int8 (NNCF, ranges of random images: for the time only) over eager PyTorch, batch 1.

Exported graphs are kept in `--work`, so that a second run starts at once. Medians of turns, with the interval of the
median; 8 minutes on two idle cores with the defaults, the export of the five networks (2 minutes) included.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from sortal.core.bundle import Bundle, BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.evaluate.latency import percentile_bounds
from sortal.export.graph import export_onnx
from sortal.export.publish import stamp, write_artifact
from sortal.models.backbones import create, load_network, record
from sortal.models.resolve import ModelSource
from sortal.models.weights import weights_bytes
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines.openvino import import_openvino
from sortal.runtime.macs import count_graph_macs
from sortal.runtime.speed import in_turns_ms
from sortal.runtime.threads import processor

MODELS = ("mobilenetv3_small_100", "mobilenetv3_large_100", "resnet50", "efficientnet_b0", "convnext_tiny")
COMPARED = ("resnet50", "mobilenetv3_large_100", "efficientnet_b0", "convnext_tiny")
ENGINES = ("onnxruntime", "openvino")
BATCHES = (1, 32)
SPEC = PreprocessSpec(size=(224, 224), resize="stretch", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Stretch: an array of the network's size stays as it is."""
CLASSES = 100
BLOCK_MS = 40.0
"""Calls on end are about so long together."""
WAYS = ("web", "multiply, add", "fused uint8")
OPENVINO = {
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
}

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Median over turns of time over time, with its 95 % interval; an end is open where there are too few turns."""

    value: float
    low: float
    high: float | None

    def __str__(self) -> str:
        low, high = self.low or None, self.high
        ends = " to ".join("?" if end is None else f"{end:.3f}" for end in (low, high))
        return f"{self.value:.3f} ({ends})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--parts", default="classifier,limits,int8")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each network, engine and batch")
    parser.add_argument("--work", type=Path, default=Path(".throughput"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    models, parts = asked.models.split(","), asked.parts.split(",")
    print(f"{processor()}, 1 thread, CPU time; onnxruntime {onnxruntime.__version__}, torch {torch.__version__}\n")
    bundles = {name: bundle_of(name, asked.work) for name in models}
    if "classifier" in parts:
        classifier_table(bundles, asked.seconds)
    limits = matrix_limits(asked.seconds) if {"limits", "int8"} & set(parts) else (0.0, 0.0)
    if "limits" in parts and "resnet50" in bundles:
        limits_table(bundles["resnet50"], limits, asked.seconds, asked.work)
    if "int8" in parts:
        int8_table({name: bundles[name] for name in COMPARED if name in bundles}, asked.seconds, asked.work)


def bundle_of(name: str, work: Path, spec: PreprocessSpec = SPEC) -> Bundle:
    """The network with random weights as a bundle with its ONNX and uint8 graphs, exported once."""
    path = work / name
    if not (path / "artifacts" / "onnx-uint8").is_dir():
        work.mkdir(parents=True, exist_ok=True)
        network = create(ModelSource(name=name, architecture=name), classes=CLASSES, size=spec.size).eval()
        contents = BundleContents(
            labels=LabelSet(names=tuple(f"class {number}" for number in range(CLASSES))),
            preprocess=spec,
            decision=DecisionSpec(),
            model=record(network),
            weights_licence="none needed",
            weights=weights_bytes(network),
        )
        write_bundle(path, contents, replace=True)
        graph = export_onnx(network, spec, work / f"{name}.onnx")
        stamp(graph, open_bundle(path))
        for artifact in ("onnx", "onnx-uint8"):
            write_artifact(path, artifact, graph, None)
    return open_bundle(path)


def classifier_table(bundles: dict[str, Bundle], seconds: float) -> None:
    """Print Sortal's throughput over that of direct calls; above 0.97 is the aim."""
    print("| network | engine | batch | ms an image, Sortal | over ready | over by hand | by hand | turns |")
    print("|---|---|---|---|---|---|---|---|")
    for name, bundle in bundles.items():
        for engine in ENGINES:
            for batch in BATCHES:
                print(classifier_row(name, bundle, engine, batch, seconds), flush=True)


def classifier_row(name: str, bundle: Bundle, engine: str, batch: int, seconds: float) -> str:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*SPEC.size, 3), dtype=np.uint8) for _ in range(batch)]
    ready = normalize(SPEC, np.stack(images))
    graph, fused = (bundle.path / "artifacts" / kind / "model.onnx" for kind in ("onnx", "onnx-uint8"))
    floats, pixels = direct(graph, engine), direct(fused, engine)
    with open_classifier(bundle.path, engine=engine, threads=1) as model:
        calls: list[Call] = [
            lambda: model.predict(images, batch=batch),
            lambda: floats(ready),
            lambda: floats(as_on_the_web(images)),
            lambda: floats(multiplied_and_added(images)),
            lambda: pixels(np.stack(images)),
        ]
        count = max(1, round(BLOCK_MS / float(turns(calls[1:2], seconds / 10).min())))
        times = turns([partial(repeated, call, count) for call in calls], seconds)
    sortal, ready_ms, *by_hand = times
    way = int(np.argmin([np.median(own) for own in by_hand]))
    each = float(np.median(sortal)) / (batch * count)
    first, second = ratio(ready_ms, sortal), ratio(by_hand[way], sortal)
    return f"| {name} | {engine} | {batch} | {each:.2f} | {first} | {second} | {WAYS[way]} | {times.shape[1]} |"


def repeated(call: Call, count: int) -> None:
    for _ in range(count):
        call()


def as_on_the_web(images: Sequence[np.ndarray]) -> np.ndarray:
    """The batch as ONNX Runtime's own examples normalize it."""
    floats = np.stack(images).astype(np.float32) / np.float32(255)
    floats = (floats - np.array(SPEC.mean, np.float32)) / np.array(SPEC.std, np.float32)
    return np.ascontiguousarray(floats.transpose(0, 3, 1, 2))


def multiplied_and_added(images: Sequence[np.ndarray]) -> np.ndarray:
    """The batch normalized with the division folded into scale and offset."""
    std = np.array(SPEC.std, np.float32)[:, None, None]
    scale, offset = 1 / (255 * std), -np.array(SPEC.mean, np.float32)[:, None, None] / std
    floats = np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2), np.float32)
    floats *= scale
    floats += offset
    return floats


def direct(graph: Path, engine: str) -> Callable[[np.ndarray], object]:
    """The engine without Sortal: one thread, no copies it can avoid, logits alone."""
    if engine == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(["logits"], {"image": batch})
    openvino = import_openvino()
    model = openvino.Core().read_model(graph)
    request = openvino.Core().compile_model(model, "CPU", OPENVINO).create_infer_request()
    return lambda batch: request.infer({"image": batch}, share_inputs=True, share_outputs=True)["logits"]


def matrix_limits(seconds: float) -> tuple[float, float]:
    """(GFLOP/s of float32, GOP/s of int8) of matrix products on one thread: the best of sizes and packages."""
    floats = max(float_rate(size, seconds / 6) for size in (1024, 2048, 3072))
    integers = max(integer_rate(size, engine, seconds / 6) for size in (1024, 2048) for engine in ENGINES)
    return floats, integers


def float_rate(size: int, seconds: float) -> float:
    """The best of torch (oneDNN or MKL) and ONNX Runtime for one square product."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    session = _session(_product(size, "float32"))
    given = {"left": left.numpy()}
    times = turns([lambda: left @ right, lambda: session.run(None, given)], seconds)
    return 2 * size**3 / (float(times.min()) * 1e6)


def integer_rate(size: int, engine: str, seconds: float) -> float:
    """One square product with both sides quantized, as the engine computes it in a network."""
    model = _product(size, "int8")
    given = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    if engine == "onnxruntime":
        session = _session(model)
        call: Call = lambda: session.run(None, {"left": given})  # noqa: E731
    else:
        openvino = import_openvino()
        request = openvino.Core().compile_model(
            openvino.Core().read_model(model, b""), "CPU", OPENVINO
        ).create_infer_request()  # fmt: skip
        call = lambda: request.infer({"left": given}, share_inputs=True, share_outputs=True)  # noqa: E731
    return 2 * size**3 / (float(turns([call], seconds).min()) * 1e6)


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _product(size: int, kind: str) -> bytes:
    """`left` (size, size) float32 times a stored matrix; for int8 both are quantized, u8 and s8, in Q/DQ nodes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random, nodes, stored = np.random.default_rng(1), [], {}
    if kind == "float32":
        stored["right"] = random.normal(size=(size, size)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", ["left", "right"], ["product"]))
    else:
        stored = {
            "right_q": random.integers(-64, 64, (size, size)).astype(np.int8),
            "scale": np.float32(0.05),
            "zero_u": np.uint8(128),
            "zero_s": np.int8(0),
        }
        nodes = [
            helper.make_node("QuantizeLinear", ["left", "scale", "zero_u"], ["left_q"]),
            helper.make_node("DequantizeLinear", ["left_q", "scale", "zero_u"], ["left_d"]),
            helper.make_node("DequantizeLinear", ["right_q", "scale", "zero_s"], ["right_d"]),
            helper.make_node("MatMul", ["left_d", "right_d"], ["product"]),
        ]
    shape = [size, size]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("left", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def limits_table(bundle: Bundle, limits: tuple[float, float], seconds: float, work: Path) -> None:
    """Print ResNet-50 as a share of the matrix limits."""
    graph = bundle.path / "artifacts" / "onnx" / "model.onnx"
    macs = count_graph_macs(graph)
    ready = normalize(SPEC, np.random.default_rng(0).integers(0, 256, (1, *SPEC.size, 3), dtype=np.uint8))
    quantized = int8_of(graph, work / "resnet50-int8.onnx")
    print(f"\nfloat32 matrix product {limits[0]:.0f} GFLOP/s, int8 {limits[1]:.0f} GOP/s\n")
    print("| ResNet-50, batch 1 | ms | G(FL)OP/s | share of the limit |")
    print("|---|---|---|---|")
    for kind, file, limit in (("float32", graph, limits[0]), ("int8", quantized, limits[1])):
        runs = [direct(file, engine) for engine in ENGINES]
        times = turns([partial(run, ready) for run in runs], seconds)
        for engine, own in zip(ENGINES, times, strict=True):
            ms = float(np.median(own))
            rate = 2 * macs / (ms * 1e6)
            print(f"| {kind}, {engine} | {ms:.2f} | {rate:.0f} | {100 * rate / limit:.0f} % |", flush=True)


def int8_table(bundles: dict[str, Bundle], seconds: float, work: Path) -> None:
    """Print engines in float32 and int8 over eager PyTorch, one image."""
    print(
        "\n| network, batch 1 | torch eager, ms | "
        + " | ".join(f"{e} {k}" for e in ENGINES for k in ("float32", "int8"))
        + " |"
    )
    print("|---|---|" + "---|" * (2 * len(ENGINES)))
    ready = normalize(SPEC, np.random.default_rng(0).integers(0, 256, (1, *SPEC.size, 3), dtype=np.uint8))
    for name, bundle in bundles.items():
        graph = bundle.path / "artifacts" / "onnx" / "model.onnx"
        quantized = int8_of(graph, work / f"{name}-int8.onnx")
        runs = [direct(file, engine) for engine in ENGINES for file in (graph, quantized)]
        eager = partial(live(bundle), torch.from_numpy(ready))
        times = turns([eager, *(partial(run, ready) for run in runs)], seconds)
        shown = " | ".join(str(ratio(times[0], own)) for own in times[1:])
        print(f"| {name} | {float(np.median(times[0])):.2f} | {shown} |", flush=True)


def live(bundle: Bundle) -> Callable[[torch.Tensor], object]:
    """The network in PyTorch, evaluation mode, without gradients."""
    if bundle.weights_path is None:
        raise SystemExit(f"{bundle.path}: no weights")
    network = load_network(bundle.manifest.model, bundle.weights_path)

    def run(batch: torch.Tensor) -> object:
        with torch.inference_mode():
            return network(batch)

    return run


def int8_of(graph: Path, target: Path) -> Path:
    """The graph in int8 by NNCF, ranges from 16 random images, made once: right for times, not for answers."""
    if not target.is_file():
        import nncf
        import onnx
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

        random = np.random.default_rng(0)
        images = [normalize(SPEC, random.integers(0, 256, (1, *SPEC.size, 3), dtype=np.uint8)) for _ in range(16)]
        # ONNX Runtime knows one range for all channels of an activation, and NNCF may choose one each
        plain = AdvancedQuantizationParameters(
            activations_quantization_params=QuantizationParameters(per_channel=False)
        )
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # its progress is no part of the tables
            warnings.simplefilter("ignore")
            made = nncf.quantize(
                onnx.load(graph),
                nncf.Dataset(images, lambda image: {"image": image}),
                subset_size=len(images),
                advanced_parameters=plain,
            )
        onnx.save(made, target)
    return target


def turns(calls: Sequence[Call], seconds: float) -> np.ndarray:
    """(calls, turns) CPU milliseconds, all calls in every turn."""
    return in_turns_ms(calls, turns=400, limit_s=seconds, least_turns=5, warmup=1, clock=time.process_time)


def ratio(above_ms: np.ndarray, below_ms: np.ndarray) -> Ratio:
    """Median over turns of the first time over the second."""
    shares = above_ms / below_ms
    low, high = percentile_bounds(shares, 0.5, 0.975)
    return Ratio(value=float(np.median(shares)), low=low, high=high)


if __name__ == "__main__":
    main()
