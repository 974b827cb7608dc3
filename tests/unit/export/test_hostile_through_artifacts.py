"""Files that attack or puzzle decoders get the same verdict from every artifact: the same error, or the same answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from corpus.build import CASES, write_corpus
from sortal.core.decision import DecisionSpec
from sortal.core.predictions import Predictions
from sortal.export.artifacts import ARTIFACTS
from sortal.export.graph import save_model
from sortal.runtime.classifier import open_classifier
from wrong import decide_by

NAMES = [
    "onnx-resize",
    "openvino-resize",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("onnx-uint8", "openvino-uint8")),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def graph(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported file, with a threshold that leaves some images to a person."""
    model = onnx.load_model(exported)
    decide_by(model, DecisionSpec(threshold=0.6, temperature=1.3))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    save_model(model, path)
    return path


@pytest.fixture(scope="module")
def expected(graph: Path, corpus: list[Path]) -> Iterator[Predictions]:
    with open_classifier(graph, threads=1) as model:
        yield model.predict(corpus)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_has_the_same_verdict(
    name: str, graph: Path, corpus: list[Path], expected: Predictions, tmp_path: Path
) -> None:
    member = ARTIFACTS.get(name)
    member.convert(graph, tmp_path)
    with open_classifier(tmp_path / member.DETAILS["model"], threads=1) as model:
        found = model.predict(corpus)
    assert len(found) == len(CASES) > 60
    assert found.errors == expected.errors
    assert 20 < len(found.errors) < len(found) - 5
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.abstained, expected.abstained)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=5e-3)
