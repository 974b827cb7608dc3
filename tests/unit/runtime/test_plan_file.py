"""What a TensorRT engine is tied to, and what the engine says where there is no GPU. No engine was ever run here."""

from __future__ import annotations

import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from sortal.core.errors import BundleError, MachineError, MissingExtraError
from sortal.runtime.engines import tensorrt
from sortal.runtime.engines.cuda_memory import current_gpu
from sortal.runtime.engines.pieces import run_in_pieces
from sortal.runtime.plan_file import (
    BatchProfile,
    PlanInfo,
    PlanMachine,
    differences,
    onnx_metadata,
    read_plan,
    refuse_other_machine,
    sidecar,
    write_plan,
)

H200 = PlanMachine(tensorrt="11.4.0.106", gpu="NVIDIA H200", compute_capability="9.0")
INFO = PlanInfo(
    machine=H200,
    profile=BatchProfile(),
    input=(3, 24, 20),
    source_sha256="0" * 64,
    plan_sha256="",
    metadata={"sortal.format": "1"},
)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "model.plan"
    write_plan(path, b"an engine", INFO)
    return path


def test_a_plan_comes_back_with_what_it_is_tied_to(plan):
    data, info = read_plan(plan)
    assert data == b"an engine"
    assert info.machine == H200
    assert info.metadata == {"sortal.format": "1"}


def test_an_altered_plan_or_sidecar_is_refused(plan):
    plan.write_bytes(b"another engine")
    with pytest.raises(BundleError, match="not the one that its sidecar describes"):
        read_plan(plan)
    text = sidecar(plan).read_text()
    for broken in ("{", "[]", text.replace('"format": 1', '"format": 2'), text.replace('"min": 1', '"min": 9')):
        sidecar(plan).write_text(broken)
        with pytest.raises(BundleError, match="the sidecar is damaged"):
            read_plan(plan)
    sidecar(plan).unlink()
    with pytest.raises(BundleError, match=r"sortal\.export\.tensorrt"):
        read_plan(plan)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tensorrt", "11.3.0.1", "TensorRT: built with 11.4.0.106, here is 11.3.0.1"),
        ("gpu", "Orin", "GPU: built with NVIDIA H200, here is Orin"),
        ("compute_capability", "8.7", "compute capability: built with 9.0, here is 8.7"),
    ],
)
def test_another_machine_is_refused_with_what_differs(plan, key, value, said):
    here = H200.model_copy(update={key: value})
    assert differences(H200, here) == (said,)
    with pytest.raises(BundleError, match="built for another machine") as refused:
        refuse_other_machine(plan, INFO, here)
    assert refused.value.received == said
    assert "python -m sortal.export.tensorrt" in str(refused.value)
    refuse_other_machine(plan, INFO, H200)


@pytest.mark.parametrize(("low", "best", "high"), [(0, 1, 2), (4, 2, 8), (1, 9, 8)])
def test_a_profile_is_in_order(low, best, high):
    with pytest.raises(ValidationError):
        BatchProfile(min=low, opt=best, max=high)


def test_batches_outside_the_profile_are_refused_by_name():
    profile = BatchProfile(min=2, opt=4, max=8)
    for count in (1, 9):
        with pytest.raises(BundleError, match="batches of 2 to 8 images") as refused:
            tensorrt.check_in_profile(count, profile, where="model.plan")
        assert refused.value.received == str(count)
    tensorrt.check_in_profile(8, profile, where="model.plan")


class Memory:
    """In the place of the GPU's memory: a place for every tensor, and copies that take their time."""

    stream = 0

    def __init__(self) -> None:
        self.held: dict[str, np.ndarray] = {}

    def allocate(self, name: str, size: int) -> int:
        return 1

    def upload(self, name: str, array: np.ndarray) -> None:
        self.held[name] = array
        time.sleep(0.001)

    def download(self, name: str, shape: tuple[int, ...], dtype: object) -> np.ndarray:
        time.sleep(0.001)
        return self.held["image"].mean((2, 3)) if name != "feature_map" else self.held["image"].copy()

    def wait(self) -> None: ...
    def close(self) -> None: ...


class Context:
    """In the place of TensorRT's: it takes every shape and starts at once."""

    def create_execution_context(self) -> Context:
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.count = shape[0]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.count, 3)

    def set_tensor_address(self, name: str, address: int) -> bool:
        return True

    def execute_async_v3(self, stream: int) -> bool:
        return True


def test_threads_that_share_an_engines_memory_get_their_own_answers(monkeypatch):
    """The order of the calls is the engine's own; what they reach is not TensorRT."""
    monkeypatch.setattr(tensorrt, "DeviceBuffers", Memory)
    types = dict.fromkeys(("image", "logits", "embedding", "feature_map"), np.float32)
    engine = tensorrt.TensorRtEngine(Context(), INFO, "model.plan", types=types)
    given = [np.full((2, 3, 24, 20), number, np.float32) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for number, outputs in enumerate(pool.map(engine.run, given)):
            np.testing.assert_array_equal(outputs.logits, number)
    engine.close()
    with pytest.raises(BundleError, match="closed"):
        engine.run(given[0])


@pytest.mark.parametrize("count", [1, 3, 8, 9, 21])
def test_batches_of_any_size_are_cut_and_filled(count):
    """What reaches the network has an allowed size; what comes back is one row an image, in order."""
    seen: list[int] = []

    def run(piece):
        seen.append(len(piece))
        return [piece.sum((1, 2)), piece[:, 0]]

    batch = np.random.default_rng(count).normal(size=(count, 3, 4)).astype(np.float32)
    sums, firsts = run_in_pieces(run, batch, largest=8, size_for=lambda size: max(size, 2))
    np.testing.assert_allclose(sums, batch.sum((1, 2)))
    np.testing.assert_array_equal(firsts, batch[:, 0])
    assert all(2 <= size <= 8 for size in seen)


def test_metadata_is_read_without_the_onnx_package():
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    for key, value in {"sortal.labels": '{"names": ["é"]}', "empty": ""}.items():
        model.metadata_props.add(key=key, value=value)
    assert onnx_metadata(model.SerializeToString(), where="x") == {"sortal.labels": '{"names": ["é"]}', "empty": ""}


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt_the_extra_is_named(plan):
    with pytest.raises(MissingExtraError, match="tensorrt") as missing:
        tensorrt.open(plan, threads=1)
    assert "sortal[tensorrt]" in str(missing.value)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA GPU")
def test_without_a_gpu_cuda_says_why():
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    with pytest.raises(MachineError, match="the GPU cannot be used") as refused:
        current_gpu()
    assert str(refused.value.received).startswith("cudaError")
    assert "nvidia-smi" in str(refused.value)
