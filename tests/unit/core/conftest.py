"""A small complete bundle, built from scratch for each test that asks for it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sortal.core.bundle import BundleContents, attach, write_bundle
from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec
from sortal.core.recipe import Recipe

GOLDEN = Path(__file__).parents[2] / "golden"


def safetensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """float32 arrays in the safetensors layout, written by hand."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        raw = array.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def weights() -> bytes:
    arrays = {"conv.weight": np.arange(27), "head.weight": np.ones((3, 4)), "head.bias": np.zeros(3)}
    return safetensors({name: array.astype(np.float32) for name, array in arrays.items()})


@pytest.fixture
def contents(weights: bytes) -> BundleContents:
    return BundleContents(
        labels=LabelSet(names=("nut", "Schraube", "垫圈"), parents=("a", "b", "a"), aliases={"screw": "Schraube"}),
        preprocess=PreprocessSpec(size=(32, 48), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        decision=DecisionSpec(temperature=1.5, class_thresholds=(0.5, 0.0, 0.25)),
        model=ModelSpec(architecture="tiny", classes=3, embedding=4, parameters=42, source="from scratch"),
        weights_licence="Apache-2.0",
        weights=weights,
        contract=Contract(max_error=0.01, recall={"nut": 0.98}),
        recipe=Recipe(),
        data_digest="ab" * 32,
    )


@pytest.fixture
def write_artifact() -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(bytes(range(256)))
        (folder / "samples").mkdir()
        (folder / "samples" / "0.bin").write_bytes(b"0123456789")

    return write


@pytest.fixture
def bundle(tmp_path: Path, contents: BundleContents, write_artifact: Callable[[Path], None]) -> Path:
    path = write_bundle(tmp_path / "bundle", contents)
    attach(path, "artifacts/onnx", write_artifact, details={"precision": "fp32", "parity": {"differing": 0}})
    attach(path, "reports/test", lambda folder: (folder / "report.json").write_text("{}\n") and None)
    attach(path, "reference", lambda folder: (folder / "statistics.json").write_text("{}\n") and None)
    return path
