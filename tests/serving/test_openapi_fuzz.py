"""Requests made up from the description: no server error, and no answer that is not described."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scripts import load_benchmark
from servers import Start
from sortal.core.bundle import open_bundle
from sortal.workspace.deployment import promote
from sortal.workspace.folder import create_workspace


@pytest.mark.slow
def test_made_up_requests_find_nothing(start: Start, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    script = load_benchmark("http_fuzz")
    if script.program() is None:
        reason = "schemathesis is not installed (make setup installs it)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, open_bundle(bundles[0]))
        server = start(workspace.path, "workers=1", "body_mb=1")
        code, report = script.fuzz(f"http://127.0.0.1:{server.port}", tmp_path, examples=8, seed=1)
    assert code == 0, report
    assert json.loads(server.ask("GET", "/health")[2])["workers_died"] == 0
    assert "Traceback" not in server.log.read_text(encoding="utf-8")
    server.account()
