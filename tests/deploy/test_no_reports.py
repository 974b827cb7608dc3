"""Nothing is reported to anybody: ONNX Runtime tells its makers of its use unless it is told not to before it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_LOADS = """
import onnxruntime
onnxruntime.InferenceSession(MODEL)
"""


def files_left(bundle: Path, home: Path, first: str) -> list[str]:
    """What a process leaves in an empty home after it has opened a graph."""
    home.mkdir()
    model = str(bundle / "artifacts" / "onnx" / "model.onnx")
    mute = ("ORT_", "XDG_", "CI", "GITHUB_", "TF_BUILD")  # nothing is reported from machines that only run tests
    kept = {key: value for key, value in os.environ.items() if not key.startswith(mute)}
    script = f"MODEL = {model!r}\n{first}\n{_LOADS}"
    subprocess.run([sys.executable, "-c", script], env={**kept, "HOME": str(home)}, check=True)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_opening_a_classifier_leaves_no_identifier_and_no_queue_of_reports(bundle: Path, tmp_path: Path) -> None:
    assert files_left(bundle, tmp_path / "ours", "import sortal") == []


def test_without_sortal_there_would_be_one(bundle: Path, tmp_path: Path) -> None:
    """The control: once ONNX Runtime keeps no reports by default, the test above says nothing and can go."""
    assert "deviceid" in files_left(bundle, tmp_path / "plain", "")


def test_a_person_may_decide_otherwise() -> None:
    script = "import os; import sortal; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for given, found in ((None, "1"), ("0", "0")):
        kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
        env = kept if given is None else {**kept, "ORT_DISABLE_TELEMETRY": given}
        told = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
        assert told.stdout.strip() == found
