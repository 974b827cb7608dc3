"""`deploy/jetson/classify.sh` as far as that goes without a Jetson: `trtexec` is a stand-in that says what it is given
and the lines that the script reads."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from sortal.export.artifacts import tensorrt

SCRIPT = Path(__file__).parents[3] / "deploy" / "jetson" / "classify.sh"
RELEASES = {
    "8502": ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n", "35.4.1", "8.5.2"),
    "100300": ("# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64\n", "36.4.0", "10.3.0"),
}


@pytest.fixture
def artifact(exported: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tensorrt"
    folder.mkdir()
    tensorrt.convert(exported, folder)
    return folder


def board(root: Path, banner: str, *, tells: str = "[I] Throughput: 412.5 qps", code: int = 0) -> Path:
    """A root folder that looks like a Jetson's."""
    for folder in ("etc", "proc/device-tree", "usr/src/tensorrt/bin"):
        (root / folder).mkdir(parents=True)
    (root / "etc" / "nv_tegra_release").write_text(RELEASES[banner][0])
    (root / "proc" / "device-tree" / "model").write_bytes(b"Jetson-AGX\0")
    stand_in = root / "usr" / "src" / "tensorrt" / "bin" / "trtexec"
    stand_in.write_text(
        f'#!/bin/sh\necho "&&&& RUNNING TensorRT.trtexec [TensorRT v{banner}] # $*"\n'
        f'[ "$1" = --help ] && exit 0\necho "{tells}"\nexit {code}\n'
    )
    stand_in.chmod(0o755)
    return root


def classified(artifact: Path, out: Path, root: Path, **environment: str) -> tuple[int, dict, str]:
    """Exit code, result and the log of trtexec."""
    done = subprocess.run(
        ["sh", str(SCRIPT), str(artifact), str(out)],
        env={"PATH": os.environ["PATH"], "ROOT": str(root), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    log = out / "trtexec.log"
    result = json.loads(done.stdout) if done.stdout else {}
    return done.returncode, result, log.read_text() if log.is_file() else done.stderr


@pytest.mark.parametrize(("banner", "precision"), [("8502", "--fp16"), ("100300", "--stronglyTyped")])
def test_a_board_builds_with_what_its_tensorrt_knows(banner, precision, artifact: Path, tmp_path: Path):
    code, result, log = classified(artifact, tmp_path / "out", board(tmp_path / "root", banner), BATCH="2")
    assert code == 0
    assert result["fps"] == 825.0
    assert (result["goal"], result["reached"], result["batch"]) == (30, True, 2)
    assert (result["board"], result["l4t"], result["tensorrt"]) == ("Jetson-AGX", *RELEASES[banner][1:])
    assert precision in log
    assert "--minShapes=image:1x3x24x20 --optShapes=image:8x3x24x20 --maxShapes=image:32x3x24x20" in log
    assert "--shapes=image:2x3x24x20" in log
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result


def test_a_missed_goal_is_an_exit_code(artifact: Path, tmp_path: Path):
    root = board(tmp_path / "root", "8502", tells="[I] Throughput: 29.9 qps")
    code, result, _ = classified(artifact, tmp_path / "out", root)
    assert (code, result["fps"], result["reached"]) == (1, 29.9, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"code": 1}, "trtexec failed"), ({"tells": "nothing"}, "said no throughput")],
)
def test_a_failed_build_is_not_measured(options, said, artifact: Path, tmp_path: Path):
    code, result, _ = classified(artifact, tmp_path / "out", board(tmp_path / "root", "8502", **options))
    assert (code, result["fps"], result["reached"]) == (3, "not measured", None)
    assert said in result["reason"]


def test_elsewhere_it_says_not_measured(artifact: Path, tmp_path: Path):
    code, result, _ = classified(artifact, tmp_path / "out", tmp_path)
    assert (code, result["fps"], result["reason"]) == (3, "not measured", "this is no Jetson")


def test_without_an_artifact_it_says_how_to_call_it(tmp_path: Path):
    code, result, said = classified(tmp_path, tmp_path / "out", tmp_path)
    assert (code, result) == (2, {})
    assert "usage: sh classify.sh ARTIFACT" in said
