"""The small graph as a file and as a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallgraph import LABELS, SPEC, small_graph
from sortal.core.bundle import BundleContents, attach, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.manifest import ModelSpec
from sortal.runtime.metadata import ArtifactInfo, to_metadata


@pytest.fixture(scope="session")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    model = small_graph()
    info = ArtifactInfo(
        labels=LABELS, preprocess=SPEC, decision=DecisionSpec(), bundle_id="0" * 64, licence="Apache-2.0"
    )
    for key, value in to_metadata(info).items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def bundle_path(tmp_path: Path, graph_file: Path) -> Path:
    """A bundle with the small graph as its ONNX artifact."""
    spec = ModelSpec(architecture="small", classes=2, embedding=16, parameters=2_800)
    contents = BundleContents(
        labels=LABELS, preprocess=SPEC, decision=DecisionSpec(), model=spec, weights_licence="Apache-2.0"
    )
    path = write_bundle(tmp_path / "bundle", contents)
    details = {"input": {"name": "image"}, "outputs": ["logits", "embedding", "feature_map"], "classes": 2}
    attach(path, "artifacts/onnx", lambda folder: _copy(graph_file, folder), details=details)
    return path


def _copy(graph_file: Path, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(graph_file.read_bytes())
