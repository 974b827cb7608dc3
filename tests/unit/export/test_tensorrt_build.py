"""Building TensorRT engines, as far as that goes without TensorRT: what is decided before and after it, and in what
words. The last test is for machines with a GPU: it builds, runs and compares."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sortal.core.errors import MachineError
from sortal.export.tensorrt.__main__ import main
from sortal.export.tensorrt.build import build_engine, outdated, parse_complaints, typing_of
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.cuda_memory import current_gpu
from sortal.runtime.plan_file import BatchProfile, PlanInfo, PlanMachine, write_plan

ORIN = PlanMachine(tensorrt="10.3.0", gpu="Orin", compute_capability="8.7")


@dataclass
class Complaint:
    """What TensorRT 10's parser tells about a node."""

    words: str
    name: str

    def desc(self) -> str:
        return self.words

    def node(self) -> int:
        return 7

    def node_name(self) -> str:
        return self.name

    def node_operator(self) -> str:
        return "Resize"


def test_complaints_name_the_node():
    assert parse_complaints([Complaint("unsupported mode\n", "/stem/up")]) == "node /stem/up (Resize): unsupported mode"
    assert parse_complaints([Complaint("bad", "")]) == "node 7 (Resize): bad"
    many = parse_complaints([Complaint("bad", str(number)) for number in range(8)])
    assert many.endswith("and 3 more")
    assert many.count("Resize") == 5
    assert parse_complaints([]) == "no reason given"


class Since10(IntEnum):
    STRONGLY_TYPED = 0


class Before10(IntEnum):
    EXPLICIT_BATCH = 0


def test_precision_is_asked_for_as_the_version_knows_it():
    new = SimpleNamespace(NetworkDefinitionCreationFlag=Since10)
    old = SimpleNamespace(NetworkDefinitionCreationFlag=Before10, BuilderFlag=SimpleNamespace(FP16="half"))
    assert typing_of(new) == (1, None)
    assert typing_of(old) == (1, "half")


def test_an_engine_is_kept_only_where_nothing_has_changed(tmp_path):
    plan, source = tmp_path / "model.plan", b"onnx"
    asked = {"source": source, "machine": ORIN, "profile": BatchProfile()}
    assert outdated(plan, **asked) == "there is no engine yet"
    plan.write_bytes(b"built by trtexec")
    assert "sidecar" in (outdated(plan, **asked) or "")
    digest = sha256(source).hexdigest()
    info = PlanInfo(machine=ORIN, profile=BatchProfile(), input=(3, 8, 8), source_sha256=digest, plan_sha256="")
    write_plan(plan, b"engine", info)
    assert outdated(plan, **asked) is None
    assert outdated(plan, **asked | {"source": b"other"}) == "the ONNX file is another one"
    newer = ORIN.model_copy(update={"tensorrt": "10.7.0"})
    assert outdated(plan, **asked | {"machine": newer}) == "it was built for Orin with TensorRT 10.3.0"
    assert outdated(plan, **asked | {"profile": BatchProfile(max=64)}) == "it was built for batches of 1 to 32"
    fixed = info.model_copy(update={"profile": BatchProfile(min=4, opt=4, max=4)})
    write_plan(plan, b"engine", fixed)
    assert outdated(plan, **asked) is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--min", "8", "--max", "4"], 2, "1 <= min <= opt <= max"),
        (["--max", "0"], 2, "in no order"),
    ],
)
def test_the_command_refuses_batches_in_no_order(arguments, code, said, exported: Path, tmp_path, capsys):
    assert main([str(exported), str(tmp_path / "model.plan"), *arguments]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_the_command_says_what_is_missing_and_writes_nothing(exported: Path, tmp_path, capsys):
    assert main([str(exported), str(tmp_path / "model.plan")]) == 3
    assert "sortal[tensorrt]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_refused_before_anything_else(tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert main([str(tmp_path / "model.onnx"), str(tmp_path / "model.plan")]) == 2
    assert "not an ONNX" in capsys.readouterr().err


def has_gpu() -> bool:
    if importlib.util.find_spec("tensorrt") is None or importlib.util.find_spec("cuda") is None:
        return False
    try:
        current_gpu()
    except MachineError:
        return False
    return True


@pytest.mark.skipif(not has_gpu(), reason="needs TensorRT, cuda-bindings and an NVIDIA GPU")
@pytest.mark.parametrize("count", [1, 5, 70])
def test_on_a_gpu_the_engine_answers_as_onnx_runtime(count, exported: Path, tmp_path):
    plan = tmp_path / "model.plan"
    build_engine(exported, plan, profile=BatchProfile(min=1, opt=4, max=32), timing_cache=tmp_path / "timing.cache")
    batch = np.random.default_rng(count).normal(size=(count, 3, 24, 20)).astype(np.float32)
    expected = ENGINES.get("onnxruntime").open(exported, threads=1).run(batch)
    engine = ENGINES.get("tensorrt").open(plan, threads=1)
    found = engine.run(batch)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-2)
    np.testing.assert_array_equal(found.logits.argmax(1), expected.logits.argmax(1))
    assert engine.metadata["sortal.format"] == "1"
