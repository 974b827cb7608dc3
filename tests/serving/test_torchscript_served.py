"""A TorchScript file is loaded once at start and answers as the graph that it was made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from servers import Start
from sortal.export.artifacts import torchscript


def test_a_torchscript_file_is_served(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    torchscript.convert(bundles[0] / "artifacts" / "onnx" / "model.onnx", tmp_path)
    graph, script = start(bundles[0], "workers=1"), start(tmp_path / "model.pt", "workers=1")
    assert script.numbers()["sortal_workers_ready"] == 1
    [worker] = script.workers()
    for name, image in colors.items():
        expected, found = (server.predict(image)[1]["predictions"][0] for server in (graph, script))
        assert found["label"] == expected["label"] == name
        assert found["probability"] == pytest.approx(expected["probability"], abs=1e-5)
        assert found["abstained"] == expected["abstained"]
    assert script.workers() == [worker]
    script.account()
