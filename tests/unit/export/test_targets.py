"""Which artifact a machine wants, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from sortal.core.errors import InputError
from sortal.export import targets as module
from sortal.export.artifacts import ARTIFACTS, FROM_WEIGHTS
from sortal.export.targets import AUTO, SCENARIOS, Machine, choose, nvidia_gpu, settle, targets, this_machine

XEON = Machine(system="Linux", cpu="Intel(R) Xeon(R) Gold 6430")
RYZEN = Machine(system="Windows", cpu="AMD Ryzen 9 7950X")
H200 = Machine(system="Linux", cpu="AMD EPYC 9654", nvidia="NVIDIA H200")
ORIN = Machine(system="Linux", cpu="aarch64", nvidia="Jetson")


@pytest.fixture
def nothing_optional(monkeypatch):
    """A machine where none of the optional packages is installed."""
    monkeypatch.setattr(module, "find_spec", lambda name: None)


@pytest.fixture
def everything(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("machine", "artifact", "told"),
    [
        (XEON, "openvino", "Xeon"),
        (RYZEN, "onnx", "Ryzen"),
        (H200, "tensorrt-engine", "NVIDIA H200"),
        (ORIN, "tensorrt", "Jetson"),
    ],
)
def test_auto_goes_by_the_machine_and_says_why(machine, artifact, told, everything):
    choice = choose(AUTO, machine)
    assert choice.artifact == artifact
    assert told in choice.why


def test_what_is_missing_gives_way_and_is_named(nothing_optional):
    choice = choose(AUTO, XEON)
    assert choice.artifact == "onnx"
    assert 'pip install "sortal[openvino]"' in choice.why
    assert choose(AUTO, H200).artifact == "tensorrt"
    rows = {row[0]: row for row in targets(XEON).tables["targets"].rows}
    assert "sortal[tensorrt]" in rows["tensorrt-engine"][5]
    assert rows["onnx"][5] == "yes"


def test_a_phone_of_apple_gets_core_ml_which_cannot_be_opened_here(everything):
    assert choose("ios", XEON).artifact == "coreml"
    rows = {row[0]: row for row in targets(XEON).tables["targets"].rows}
    for name in ("coreml", "coreml-int8"):
        assert rows[name][5] == "made here, cannot be opened here"
        assert "Apple" in rows[name][6]


def test_the_tables_have_every_artifact_and_every_scenario():
    report = targets()
    listed = [row[0] for row in report.tables["targets"].rows]
    assert listed == [*ARTIFACTS.names(), *FROM_WEIGHTS.names()]
    scenarios = {row[0]: row[1] for row in report.tables["scenarios"].rows}
    assert list(scenarios) == [AUTO, *SCENARIOS]
    assert set(scenarios.values()) <= set(listed)
    assert report.body["auto"] == choose(AUTO, this_machine()).artifact
    never = {row[0]: row[6] for row in report.tables["targets"].rows}
    assert never["triton"]
    assert never["tensorrt"]
    assert not never["onnx"]


def test_every_artifact_of_a_scenario_is_in_a_table():
    for name, scenario in SCENARIOS.items():
        unknown = [one for one in scenario.artifacts if one not in (*ARTIFACTS.names(), *FROM_WEIGHTS.names())]
        assert not unknown, name


def test_scenarios_among_names_become_artifacts(everything):
    said: list[str] = []
    wanted, kept = settle(["onnx-fp16", " intel", "any"], ["onnx"], replace=False, say=said.append)
    assert (wanted, kept) == (["onnx-fp16", "openvino"], ["onnx"])
    assert said[0].startswith("intel: openvino, because")
    assert said[1].endswith("there already")
    assert settle(["any"], ["onnx"], replace=True, say=said.append) == (["onnx"], [])


def test_unknown_machines_get_the_nearest():
    with pytest.raises(InputError, match="did you mean android"):
        choose("androd", XEON)


def test_a_gpu_is_found_by_what_its_driver_shows(tmp_path: Path):
    assert nvidia_gpu(tmp_path) is None
    card = tmp_path / "proc" / "driver" / "nvidia" / "gpus" / "0000:19:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 92\n")
    assert nvidia_gpu(tmp_path) == "NVIDIA H200"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text("# R35 (release), REVISION: 4.1\n")
    assert nvidia_gpu(tmp_path) == "Jetson"
