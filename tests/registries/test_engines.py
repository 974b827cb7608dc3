"""What every inference engine promises, over the whole table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Semaphore

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from smalltflite import small_tflite
from sortal.core.errors import BundleError, InputError
from sortal.export.artifacts import ARTIFACTS
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.opening import is_installed
from sortal.runtime.engines.protocol import Engine, answering

ENDINGS = {"litert": "tflite", "torch": "pt2", "executorch": "pte"}
METADATA = {"sortal.format": "1", "sortal.labels": '{"names": ["a", "b"]}'}


def model(batch: int | str = "batch") -> onnx.ModelProto:
    """feature_map = 2 x image, embedding = its mean over space, logits = embedding @ weight."""
    make, info = helper.make_node, helper.make_tensor_value_info
    stored = {
        "two": np.asarray(2.0, np.float32),
        "space": np.asarray([2, 3], np.int64),
        "weight": np.arange(15, dtype=np.float32).reshape(3, 5) / 7,
    }
    nodes = [
        make("Mul", ["image", "two"], ["feature_map"]),
        make("ReduceMean", ["feature_map", "space"], ["embedding"], keepdims=0),
        make("MatMul", ["embedding", "weight"], ["logits"]),
    ]
    outputs = [("logits", [batch, 5]), ("embedding", [batch, 3]), ("feature_map", [batch, 3, 6, 4])]
    graph = helper.make_graph(
        nodes,
        "promise",
        [info("image", TensorProto.FLOAT, [batch, 3, 6, 4])],
        [info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, value in METADATA.items():
        made.metadata_props.add(key=key, value=value)
    return made


@pytest.fixture(params=sorted(ENGINES.table))
def name(request) -> str:
    if not is_installed(str(request.param)):
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def model_file(name: str, tmp_path: Path) -> Path:
    return tmp_path / f"model.{ENDINGS.get(name, 'onnx')}"


def written(name: str, batch: int | str = "batch", embedding: str = "embedding") -> bytes:
    """The model in the engine's own format, its second output called `embedding`."""
    if name == "litert":
        return small_tflite(batch, metadata=METADATA, outputs=("logits", embedding, "feature_map"))
    made = model(batch)
    made.graph.output[1].name = made.graph.node[1].output[0] = made.graph.node[2].input[0] = embedding
    data: bytes = made.SerializeToString()
    return _as_artifact(name, data) if name in ("torch", "executorch") else data


@cache
def _as_artifact(name: str, data: bytes) -> bytes:
    """The graph as the artifact of that name."""
    with TemporaryDirectory() as folder:
        Path(folder, "model.onnx").write_bytes(data)
        ARTIFACTS.get(name).convert(Path(folder, "model.onnx"), Path(folder))
        return Path(folder, f"model.{ENDINGS[name]}").read_bytes()


def opened(name: str, tmp_path: Path, batch: int | str = "batch", threads: int = 1) -> Engine:
    file = model_file(name, tmp_path)
    file.write_bytes(written(name, batch))
    engine: Engine = ENGINES.get(name).open(file, threads=threads)
    return engine


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_outputs_are_right_whatever_the_batch(name, batch, count, tmp_path):
    outputs = opened(name, tmp_path, batch, threads=2).run(images(count))
    weight = np.arange(15, dtype=np.float32).reshape(3, 5) / 7
    embedding = 2 * images(count).mean((2, 3))
    np.testing.assert_allclose(outputs.feature_map, 2 * images(count), atol=1e-6)
    np.testing.assert_allclose(outputs.embedding, embedding, atol=1e-6)
    np.testing.assert_allclose(outputs.logits, embedding @ weight, atol=1e-5)
    assert {outputs.logits.dtype, outputs.embedding.dtype, outputs.feature_map.dtype} == {np.dtype(np.float32)}


def test_outputs_stay_when_the_engine_runs_again(name, tmp_path):
    engine = opened(name, tmp_path)
    first = engine.run(images(3)).logits
    kept = first.copy()
    engine.run(images(3) * 9)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("batch", ["batch", 4])
def test_what_answers_need_is_the_same_when_nothing_else_is_fetched(name, batch, tmp_path):
    engine, given = opened(name, tmp_path, batch), images(6)
    given.flags.writeable = name not in ("onnxruntime", "openvino")  # others warn or refuse
    whole, outputs = engine.run(given), answering(engine)(given)
    np.testing.assert_array_equal(outputs.logits, whole.logits)
    assert len(outputs.embedding) == len(outputs.feature_map) == 6
    backwards = given[:, :, ::-1]
    np.testing.assert_array_equal(answering(engine)(backwards).logits, engine.run(backwards.copy()).logits)


def test_threads_that_share_an_engine_get_their_own_answers(name, tmp_path):
    engine = opened(name, tmp_path)
    alone = [engine.run(images(count)).logits for count in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            together = pool.map(lambda count: answering(engine)(images(count)).logits, range(1, 9))
            for mine, expected in zip(together, alone, strict=True):
                np.testing.assert_array_equal(mine, expected)


def test_metadata_comes_back(name, tmp_path):
    engine = opened(name, tmp_path)
    assert engine.name == name
    assert engine.metadata["sortal.format"] == "1"
    assert engine.metadata["sortal.labels"] == '{"names": ["a", "b"]}'


def test_a_batch_of_the_wrong_shape_is_a_bundle_error(name, tmp_path):
    with pytest.raises(BundleError):
        opened(name, tmp_path).run(np.zeros((2, 1, 6, 4), np.float32))


def test_a_closed_engine_says_so(name, tmp_path):
    engine = opened(name, tmp_path)
    engine.close()
    engine.close()
    with pytest.raises(BundleError, match="closed"):
        engine.run(images(1))


@pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed")
def test_an_engine_that_is_closed_while_threads_wait_for_it_says_so(tmp_path):
    engine, begun = opened("openvino", tmp_path), Semaphore(0)

    def use(_: int) -> None:
        while True:
            begun.release()
            engine.run(images(3))

    with ThreadPoolExecutor(4) as pool:
        using = [pool.submit(use, number) for number in range(4)]
        for _ in range(200):
            begun.acquire()
        engine.close()
    assert {type(one.exception()) for one in using} == {BundleError}


def test_other_interfaces_are_refused(name, tmp_path):
    file = model_file(name, tmp_path)
    file.write_bytes(written(name, embedding="features"))
    with pytest.raises(BundleError, match="sortal import"):
        ENGINES.get(name).open(file, threads=1)


@pytest.mark.parametrize("data", [b"", b"text", b"\x00" * 100])
def test_garbage_is_refused(name, data, tmp_path):
    file = model_file(name, tmp_path)
    file.write_bytes(data)
    with pytest.raises(BundleError):
        ENGINES.get(name).open(file, threads=1)


def test_cut_off_and_missing_files_are_refused(name, tmp_path):
    file = model_file(name, tmp_path)
    with pytest.raises(BundleError):
        ENGINES.get(name).open(file, threads=1)
    whole = written(name)
    for length in range(1, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.raises(BundleError):
            ENGINES.get(name).open(file, threads=1)


def test_unknown_names_get_the_nearest():
    with pytest.raises(InputError, match="did you mean onnxruntime"):
        ENGINES.get("onnxruntme")
