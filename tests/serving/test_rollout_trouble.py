"""A bad new version behind a real server: the old one answers on, what is wrong is told, and the way back is open."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from servers import Start
from sortal.core.bundle import open_bundle
from sortal.workspace.deployment import promote, rollback
from sortal.workspace.folder import create_workspace


def test_a_version_that_does_not_start_is_told_and_left(
    bundles: tuple[Path, Path], colors: dict[str, bytes], start: Start, tmp_path: Path
) -> None:
    old, new = (open_bundle(path) for path in bundles)
    with create_workspace(tmp_path / "line4") as line:
        promote(line, old)
        server = start(line.path, "workers=1", "start_s=15")
        broken = line.path / "bundles" / new.id
        promote(line, new)
        shutil.rmtree(broken / "artifacts")
        refused = server.wait_for("not exchanged")
        assert refused["bundle_id"] == new.id
        assert server.predict(colors["red"])[1]["bundle_id"] == old.id
        [model] = json.loads(server.ask("POST", "/v2/repository/index")[2])
        assert (model["state"], "does not start" in model["reason"]) == ("READY", True)
        assert server.ask("GET", "/readyz")[0] == 200
        rollback(line)
        server.wait_for("followed")
        assert json.loads(server.ask("POST", "/v2/repository/index")[2])[0]["reason"] == ""
        shutil.rmtree(broken)
        promote(line, new)  # whole again
        server.wait_for("exchanged")
        assert server.predict(colors["red"])[1]["bundle_id"] == new.id
        server.account()
