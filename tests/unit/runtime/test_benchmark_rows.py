"""A benchmark of a bundle whose answers can be checked by eye: rows, crashes, hangs, contract, images."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.benchmark import apart as apart_module
from sortal.benchmark.apart import Apart, FailedError
from sortal.benchmark.entries import Entry, entries_of
from sortal.benchmark.material import Images
from sortal.benchmark.numbers import flips
from sortal.benchmark.picture import draw_benchmark
from sortal.benchmark.report import benchmark_report
from sortal.benchmark.row import WHOLE, Row
from sortal.benchmark.study import Asked, benchmark_model
from sortal.core.bundle import attach, open_bundle
from sortal.core.contract import Contract
from sortal.core.errors import BundleError, DataError, InputError
from sortal.core.predictions import predictions_from_logits
from sortal.core.progress import Silent
from worlds import refused, sortal

CONTRACT = Contract(max_latency_ms=5.0, max_size_mb=1.0)


@pytest.fixture
def own(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def attached(bundle: Path, name: str, data: bytes, *, file: str = "model.onnx", **details) -> Path:
    return attach(bundle, f"artifacts/{name}", lambda to: (to / file).write_bytes(data), details=details)


def photos(folder: Path, *colors: str) -> Path:
    for number, color in enumerate(colors):
        (folder / color).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), color).save(folder / color / f"{number}.png")
    return folder


def row(name: str, *, ms: float = 1.0, precision: str = "float32", logits=None, bundle=None, size: int = 10**6) -> Row:
    entry = Entry(artifact=name, engine="onnxruntime", precision=precision, size_bytes=size)
    made = Row(entry=entry, times_ms={"1": [ms] * 400, "32": [20 * ms] * 9, WHOLE: [2 * ms] * 400}, peak_mb=100.0)
    if logits is not None:
        made.predictions = predictions_from_logits(
            np.asarray(logits, np.float32),
            names=[f"{place}.png" for place in range(len(logits))],
            labels=bundle.labels,
            decision=bundle.decision,
            bundle_id=bundle.id,
        )
    return made


def nothing() -> Images:
    return Images(labelled=None, encoded=(), source="drawn", digest=None, findings=())


def test_every_artifact_meets_every_engine_that_opens_it(own):
    attached(own, "tensorrt", b"x", precision="float16", **{"for": "TensorRT"})
    attached(own, "notes", b"x", file="notes.txt")
    found = {one.name: one for one in entries_of(open_bundle(own))}
    assert list(found) == [
        "onnx · onnxruntime",
        "onnx · openvino",
        "notes · other programs",
        "tensorrt · TensorRT",
        "weights · torch eager",
    ]
    assert [one.why_not == "" for one in found.values()] == [True, True, False, False, False]
    assert "TensorRT" in found["tensorrt · TensorRT"].why_not
    assert found["tensorrt · TensorRT"].device == "GPU"
    assert "no weights" in found["weights · torch eager"].why_not


def test_artifacts_and_engines_are_chosen_by_name(own):
    bundle = open_bundle(own)
    chosen = entries_of(bundle, only=["onnx"], engines=["onnxruntime:cpu"])
    assert [one.name for one in chosen] == ["onnx · onnxruntime:cpu"]
    with pytest.raises(InputError, match="no such artifact"):
        entries_of(bundle, only=["onix"])
    with pytest.raises(InputError, match="unknown inference engine"):
        entries_of(bundle, engines=["onnxx"])
    with pytest.raises(InputError, match="nothing to measure"):
        entries_of(bundle, engines=["litert"])


def test_a_process_that_does_not_answer_is_stopped_and_says_so(monkeypatch):
    with Apart(limit_s=60) as one, pytest.raises(FailedError, match="nothing is open"):
        one.ask("time", batch=1, seconds=0.1, first=True)
    monkeypatch.setattr(apart_module, "CHILD", ["-c", "import time; time.sleep(60)"])
    with Apart(limit_s=0.2) as one, pytest.raises(FailedError, match=r"did not answer within 0\.2 s"):
        one.ask("memory")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed: signal 11"),
        ("import sys; print('out of luck', file=sys.stderr); sys.exit(3)", "crashed: out of luck"),
        ("import sys; sys.exit(3)", "crashed: exit code 3"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_crash_is_told(code, said, monkeypatch):
    monkeypatch.setattr(apart_module, "CHILD", ["-c", code])
    with Apart(limit_s=60) as one, pytest.raises(FailedError, match=said):
        one.ask("memory")


def test_what_goes_wrong_is_a_row_and_the_others_go_on(own, tmp_path):
    attached(own, "broken", b"this is no model", precision="int8", engine="onnxruntime")
    data = photos(tmp_path / "holdout", "red", "green", "blue", "red")
    asked = Asked(data=data, engines=["onnxruntime"], seconds=0.3, contract=CONTRACT, out=tmp_path / "out")
    report = benchmark_model(own, asked, listener=Silent())
    table = report.tables["artifacts"]
    rows = {line[0]: dict(zip(table.columns, line, strict=True)) for line in table.rows}
    assert rows["onnx"]["status"] == "ok"
    assert (rows["onnx"]["accuracy"], rows["onnx"]["flips"]) == (1.0, 0)
    assert rows["onnx"]["ms"] > 0
    assert rows["onnx"]["peak_mb"] > 10
    assert rows["broken"]["status"] == "failed"
    assert rows["broken"]["ms"] is None
    assert "not an ONNX model" in report.tables["not_measured"].rows[0][3]
    assert [finding.code for finding in report.findings] == ["failed"]
    assert report.body["counts"] == {"ok": 1, "not run": 0, "failed": 1, "images": 4}
    assert {line[2] for line in report.tables["contract"].rows} == {"max_latency_ms", "max_size_mb"}
    assert all(Path(path).is_file() for path in report.paths.values())
    assert "onnx" in Path(report.paths["report"]).read_text(encoding="utf-8")


def test_images_of_other_classes_and_none_at_all_are_refused(own, tmp_path):
    with pytest.raises(DataError, match="no image has a class"):
        benchmark_model(own, Asked(data=photos(tmp_path / "other", "white")), listener=Silent())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        benchmark_model(own, Asked(data=tmp_path / "empty"), listener=Silent())
    with pytest.raises(BundleError, match="neither a run nor a bundle"):
        benchmark_model(tmp_path / "empty", Asked(), listener=Silent())


def test_flips_are_counted_against_float32_and_reported(own):
    bundle = open_bundle(own)
    sure = [[9, 0, 0], [0, 9, 0], [0, 0, 9]]
    rows = [
        row("onnx", logits=sure, bundle=bundle),
        row("onnx-int8", ms=0.5, precision="int8", logits=[[9, 0, 0], [0, 0, 9], [0, 0.1, 0]], bundle=bundle),
    ]
    assert flips(rows[1], rows[0]) == [1, 2]
    report = benchmark_report(rows, bundle, nothing(), None, subject="run", threads=1)
    [told] = [finding for finding in report.findings if finding.code == "flips"]
    assert told.rows == ("1.png", "2.png")
    assert told.severity == "info"
    assert "2.00 times as quick" in report.body["summary"][0]


@pytest.mark.parametrize(("ms", "verdict"), [(1.0, "kept"), (2.49, "kept"), (2.51, "broken")])
def test_the_contract_is_judged_by_the_bounds_of_the_99th_percentile(ms, verdict, own):
    report = benchmark_report([row("onnx", ms=ms)], open_bundle(own), nothing(), CONTRACT, subject="run", threads=1)
    judged = {line[2]: line[-1] for line in report.tables["contract"].rows}
    assert judged == {"max_size_mb": "kept", "max_latency_ms": verdict}


def test_few_times_leave_a_latency_undecided_and_a_large_file_is_broken(own):
    few = row("onnx", size=2 * 10**6)
    few.times_ms[WHOLE] = [1.0] * 50
    report = benchmark_report([few], open_bundle(own), nothing(), CONTRACT, subject="run", threads=1)
    assert [line[-1] for line in report.tables["contract"].rows] == ["broken", "undecided"]


def test_a_picture_is_drawn_with_and_without_accuracy(own, tmp_path):
    bundle = open_bundle(own)
    rows = [row("onnx"), row("onnx-int8", ms=0.5, precision="int8")]
    report = benchmark_report(rows, bundle, nothing(), None, subject="run", threads=1)
    assert draw_benchmark(report, tmp_path / "a.png").stat().st_size > 1000


def test_the_command_prints_a_table_that_fits_and_what_to_type_next(own, tmp_path):
    data = photos(tmp_path / "holdout", "red", "blue")
    done = sortal(tmp_path, "benchmark", own, "--data", data, "--engine", "onnxruntime", "--seconds", "0.3")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines()[:8])) <= 100
    assert "Quickest for one image: onnx · onnxruntime" in done.out
    assert "Next:" in done.out
    assert (tmp_path / "benchmarks" / "bundle-1" / "report.html").is_file()


def test_a_wrong_artifact_is_refused_before_anything_is_measured(own, tmp_path):
    refused(sortal(tmp_path, "benchmark", own, "--only", "onnx-int9"), "no such artifact", "onnx")
    assert not (tmp_path / "benchmarks").exists()
