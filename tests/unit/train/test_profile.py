"""Profiles of training: stages add up, waiting is seen, traces open, and NVIDIA's tools are named as commands."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import pytest
import torch

from sortal.core.errors import InputError, InternalError
from sortal.core.report import Report
from sortal.train.profile import in_stage, make_report, ncu_command, nsys_command, profiled, stage


def slow(count: int, wait_s: float):
    """Batches that keep training waiting."""
    for _ in range(count):
        time.sleep(wait_s)
        yield torch.randn(4, 3, 16, 16)


def train(run: Path, *, batches: int = 12, wait_s: float = 0.02, steps: int = 4, skip: int = 2) -> tuple[Report, int]:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    taken = 0
    with profiled(run, steps=steps, skip=skip) as profile:
        for images in in_stage("data", slow(batches, wait_s)):
            with stage("forward"):
                loss = model(images).square().mean()
            with stage("backward"):
                loss.backward()
            with stage("step"):
                optimizer.step()
            taken += 1
            if not profile.step():
                break
    return profile.report, taken


def test_a_profile_says_how_the_time_of_a_step_is_divided(tmp_path: Path) -> None:
    report, taken = train(tmp_path)
    assert (report.kind, taken, report.body["steps"]) == ("profile", 6, 4)
    shares = {name: report.metrics[f"share_{name}"].value for name in ("data", "forward", "backward", "step", "other")}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)
    assert all(share >= 0 for share in shares.values())
    assert shares["data"] > shares["forward"] + shares["backward"] + shares["step"], "20 ms of waiting a step"
    assert report.metrics["step_ms"].value >= 20
    stages = {row[0]: row for row in report.tables["stages"].rows}
    assert stages["data"][1] == pytest.approx(4 * stages["data"][2])
    operators = report.tables["operators"]
    names = [row[0] for row in operators.rows]
    assert "aten::convolution_backward" in names
    assert not any(name.startswith(("sortal.", "ProfilerStep")) for name in names)
    own_ms = [row[2] for row in operators.rows]
    assert own_ms == sorted(own_ms, reverse=True)
    assert len(names) <= 20
    (waiting,) = report.findings
    assert (waiting.code, waiting.severity) == ("waits_for_images", "warning")


def test_report_and_trace_lie_in_the_run(tmp_path: Path) -> None:
    report, _ = train(tmp_path, wait_s=0.0, steps=2, skip=1)
    assert Report.from_json((tmp_path / "profile" / "report.json").read_text()) == report
    events = json.loads((tmp_path / report.paths["trace"]).read_text())["traceEvents"]
    named = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert [named.count(f"sortal.{name}") for name in ("forward", "backward", "step")] == [2, 2, 2]


def test_training_that_ends_early_is_measured_as_far_as_it_went(tmp_path: Path) -> None:
    report, taken = train(tmp_path / "some", batches=4, wait_s=0.0, steps=10, skip=2)
    assert taken == 4
    assert report.body["steps"] in (2, 3)
    with pytest.raises(InputError, match="before a step was measured"):
        train(tmp_path / "none", batches=1, wait_s=0.0, steps=10, skip=3)


def test_stages_are_nothing_while_nobody_measures(tmp_path: Path) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profiler:
        for number in in_stage("data", iter([1, 2])):
            with stage("forward"):
                torch.ones(number)
    assert not any(event.key.startswith("sortal.") for event in profiler.key_averages())


def test_an_error_inside_is_not_hidden_and_the_next_stages_are_not_measured(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), profiled(tmp_path, steps=3) as profile, stage("forward"):
        raise ZeroDivisionError
    with pytest.raises(InternalError):
        _ = profile.report
    assert type(stage("forward")).__name__ == "nullcontext"


class Device(Enum):
    """Like torch's."""

    CPU = 0
    CUDA = 1


@dataclass(frozen=True)
class Event:
    """What torch gives for one name; times in microseconds."""

    key: str
    count: int = 1
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    self_device_time_total: float = 0.0
    device_type: Device = Device.CPU
    is_user_annotation: bool = False


def events() -> list[Event]:
    note = Event(key="", is_user_annotation=True)
    kernel = Event(key="", device_type=Device.CUDA)
    gemm = "void at::native::gemm_kernel<float, 4>(float*, int)"
    return [
        replace(note, key="ProfilerStep*", count=2, cpu_time_total=10_000.0),
        replace(note, key="sortal.data", count=2, cpu_time_total=1_000.0),
        replace(note, key="sortal.forward", count=2, cpu_time_total=4_000.0),
        replace(note, key="sortal.backward", count=2, cpu_time_total=3_000.0),
        replace(note, key="sortal.step", count=2, cpu_time_total=1_500.0),
        replace(note, key="sortal.forward", device_type=kernel.device_type, self_device_time_total=9e9),
        Event(key="aten::mm", count=4, self_cpu_time_total=300.0),
        Event(key="aten::add", count=8, self_cpu_time_total=700.0),
        replace(kernel, key=gemm, count=6, self_device_time_total=750.0),
        replace(kernel, key="elementwise", count=6, self_device_time_total=250.0),
    ]


def test_on_cuda_kernels_are_listed_and_nsight_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/{name}")
    report = make_report(events(), tmp_path, cuda=True, command=["sortal", "profile", "photos/"])
    assert report.tables["operators"].rows == (("aten::add", 8, 0.7, 0.7), ("aten::mm", 4, 0.3, 0.3))
    assert [(row[0][:10], row[1], row[2], row[3]) for row in report.tables["kernels"].rows] == [
        ("void at::n", 6, 0.75, 0.75), ("elementwis", 6, 0.25, 0.25),
    ]  # fmt: skip
    assert {name: report.metrics[f"share_{name}"].value for name in ("data", "other")} == {"data": 0.1, "other": 0.05}
    hints = {finding.code: finding.hint for finding in report.findings}
    assert hints["nsight_systems"] == (
        "/opt/nsys profile --trace=cuda,nvtx,osrt --force-overwrite=true --env-var=SORTAL_NVTX=1 "
        f"--output={tmp_path / 'profile' / 'nsys'} sortal profile photos/"
    )
    assert "--kernel-name=regex:^gemm_kernel " in hints["nsight_compute"]


def test_commands_of_the_nvidia_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert nsys_command(["sortal"], tmp_path) is None
    command = ncu_command(["sortal", "train", "x"], tmp_path, "void cutlass::Kernel2<a::b>(c)")
    assert command[0] == "ncu"
    assert "--kernel-name=regex:^Kernel2" in command
    assert command[-3:] == ["sortal", "train", "x"]


def test_under_nsight_systems_stages_are_nvtx_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setenv("SORTAL_NVTX", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", lambda name: seen.append(name))
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: seen.append("end"))
    with stage("forward"):
        seen.append("work")
    assert seen == ["forward", "work", "end"]
