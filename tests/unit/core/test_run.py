"""Run folders: numbered without gaps of trust, locked against a second writer, honest about test reads."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.core.errors import InputError, MachineError
from sortal.core.run import RunFolder, folder_name, new_run, open_run


def test_runs_are_numbered_and_never_reused(tmp_path: Path) -> None:
    names = [new_run(tmp_path / "runs", "photos").name for _ in range(3)]
    assert names == ["photos-1", "photos-2", "photos-3"]
    (tmp_path / "runs" / "photos-2" / "run.lock").unlink()
    (tmp_path / "runs" / "photos-2").rmdir()
    (tmp_path / "runs" / "photos-9-old").mkdir()
    (tmp_path / "runs" / "photos-11").write_text("a file in the way")
    assert new_run(tmp_path / "runs", "photos").name == "photos-12"
    assert new_run(tmp_path / "runs", "photo").name == "photo-1"


def test_runs_claimed_at_the_same_time_differ(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: new_run(tmp_path, "x"), range(24)))
    assert len({run.path for run in runs}) == 24


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("photos", "photos"),
        ("照片", "照片"),
        ("my photos/2024", "my-photos-2024"),
        ("..", "run"),
        ("", "run"),
        (".hidden", "hidden"),
        ("--rf", "rf"),
        ('a:b*c?<d>|e\\f"g', "a-b-c-d-e-f-g"),
        ("CON", "run-CON"),
        ("nul.txt", "run-nul.txt"),
        ("com1", "run-com1"),
        ("line\nbreak\ttab\x00", "line-break-tab"),
        ("abc\u202egnp.exe", "abc-gnp.exe"),
        ("e\u0301te\u0301", "été"),
        ("trailing. ", "trailing"),
        ("हिन्दी", "हिन्दी"),
        ("\udcff\udcfe", "run"),
    ],
)
def test_subjects_become_names_for_any_system(subject: str, name: str) -> None:
    assert folder_name(subject) == name


@given(st.text(max_size=300))
def test_any_subject_is_one_harmless_path_part(subject: str) -> None:
    name = f"{folder_name(subject)}-1"
    assert len(name.encode()) <= 110
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)
    assert name.partition(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
    assert name[0] not in ".- "
    assert folder_name(folder_name(subject)) == folder_name(subject)


def test_every_file_has_its_place(tmp_path: Path) -> None:
    run = new_run(tmp_path, "photos")
    places = {
        getattr(run, name).name
        for name in dir(RunFolder)
        if name.endswith("_path") and isinstance(getattr(RunFolder, name), property)
    }
    assert places == {
        *("recipe.yaml", "plan.json", "state.json", "split.csv", "metrics.jsonl", "results.png"),
        *("confusion_matrix.png", "confusion_matrix.csv", "train_batch.jpg", "val_predictions.jpg"),
        *("predictions.csv", "report.json", "report.html", "train.log", "test_reads.jsonl"),
    }
    assert run.bundle == run.path / "bundle"


def test_log_lines_carry_the_time_in_utc(tmp_path: Path) -> None:
    run = new_run(tmp_path, "photos")
    run.log("epoch 1 已完成")
    run.log("two\nlines\n")
    lines = run.log_path.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z epoch 1 已完成", lines[0])
    assert lines[1].endswith("Z two")
    assert lines[2] == "    lines"


def test_metrics_are_json_even_when_training_diverges(tmp_path: Path) -> None:
    run = new_run(tmp_path, "photos")
    run.record({"epoch": np.int64(1), "loss": float("nan"), "lr": np.float32("inf"), "recall": [np.float64(0.5), None]})
    run.record({"epoch": 2, "loss": 0.25, "best": np.True_})
    assert run.records() == [
        {"epoch": 1, "loss": None, "lr": None, "recall": [0.5, None]},
        {"epoch": 2, "loss": 0.25, "best": True},
    ]
    for line in run.metrics_path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_line_cut_off_by_a_crash_does_not_spoil_the_next(tmp_path: Path) -> None:
    run = new_run(tmp_path, "photos")
    run.record({"epoch": 1})
    with run.metrics_path.open("ab") as file:
        file.write(b'{"epoch": 2, "lo')
    run.record({"epoch": 2})
    assert run.records() == [{"epoch": 1}, {"epoch": 2}]


def test_every_reading_of_the_test_split_is_kept(tmp_path: Path) -> None:
    run = new_run(tmp_path, "photos")
    run.log_test_read("final evaluation")
    run.close()
    open_run(run.path).log_test_read("sortal evaluate")
    assert [read["reason"] for read in open_run(run.path).test_reads()] == ["final evaluation", "sortal evaluate"]


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    run = new_run(tmp_path, "photos")
    with pytest.raises(MachineError, match="being written by this process itself"):
        open_run(run.path, write=True)
    done = _in_another_process(run.path)
    assert done.returncode == 3
    assert f"being written by process {os.getpid()}" in done.stdout
    open_run(run.path)
    run.close()
    run.close()
    assert _in_another_process(run.path).returncode == 0
    with open_run(run.path, write=True):
        assert _in_another_process(run.path).returncode == 3


OPEN = """
import sys
from pathlib import Path
from sortal.core.errors import MachineError
from sortal.core.run import open_run
try:
    open_run(Path(sys.argv[1]), write=True)
except MachineError as error:
    print(error)
    sys.exit(3)
"""


def _in_another_process(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, timeout=60)


def _hold_and_fork(path: Path, ready: object) -> None:
    open_run(path, write=True)
    child = os.fork()
    if child == 0:
        signal.pause()
    ready.put(child)  # type: ignore[attr-defined]
    signal.pause()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_writer_holds_no_lock_even_if_its_worker_lives_on(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    new_run(tmp_path, "other").close()
    free = tmp_path / "other-1"
    holder = context.Process(target=_hold_and_fork, args=(free, ready))
    holder.start()
    worker = ready.get(timeout=60)
    try:
        assert _in_another_process(free).returncode == 3
        holder.kill()
        holder.join()
        assert _in_another_process(free).returncode == 0
    finally:
        holder.kill()
        os.kill(worker, signal.SIGKILL)


def test_a_run_that_nobody_holds_on_to_stays_locked(tmp_path: Path) -> None:
    path = new_run(tmp_path, "photos").path
    gc.collect()
    assert _in_another_process(path).returncode == 3


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        open_run(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(MachineError):
        new_run(tmp_path / "file", "photos")
