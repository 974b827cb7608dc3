"""Which artifact, engine and threads answer: by measurement, by what is known, or as they were named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sortal.core.bundle import attach, open_bundle
from sortal.core.errors import BundleError, InputError
from sortal.core.progress import Silent
from sortal.runtime import choice as choosing
from sortal.runtime import measured
from sortal.runtime.candidates import Candidate, as_precision, candidates_of
from sortal.runtime.choice import WORTH_IT, Wish, choose_runtime, fastest, open_chosen
from sortal.runtime.engines.opening import parse_engine
from sortal.runtime.measured import cached_times, conditions_of, measured_times
from sortal.runtime.threads import thread_steps
from worlds import class_folders, refused, sortal

SILENT = Silent()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "runtime"


@pytest.fixture
def own(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.fixture
def measurements(monkeypatch) -> list[int]:
    """How many candidates each measurement had."""
    made: list[int] = []
    measure = measured._measure

    def noted(candidates, spec, listener):
        made.append(len(candidates))
        return measure(candidates, spec, listener)

    monkeypatch.setattr(measured, "_measure", noted)
    return made


def attached(bundle: Path, name: str, **details) -> Path:
    data = (bundle / "artifacts" / "onnx" / "model.onnx").read_bytes()
    return attach(bundle, f"artifacts/{name}", lambda to: (to / "model.onnx").write_bytes(data), details=details)


INT8 = {"precision": "int8", "engine": "openvino", "measured": {"accuracy": 1.0}}


def names(candidates: list[Candidate]) -> list[tuple[str, str, int]]:
    return [(one.artifact, one.engine, one.threads) for one in candidates]


def test_a_bundle_means_float32_on_every_engine_that_opens_it(own):
    attached(own, "openvino-int8", **INT8)
    attached(own, "onnx-fp16", precision="float16", engine="onnxruntime", parity={"flips": 0})
    found = candidates_of(open_bundle(own), cpus=4)
    assert names(found) == [
        ("onnx", engine, threads) for engine in ("onnxruntime", "openvino") for threads in (4, 2, 1)
    ]


def test_lower_precision_is_for_those_who_ask_and_only_if_it_was_checked(own):
    attached(own, "openvino-int8", **INT8)
    attached(own, "onnx-int8", precision="int8", engine="onnxruntime")
    attached(own, "tensorrt", precision="float16", engine="onnxruntime", parity={"flips": 0}, **{"for": "TensorRT"})
    bundle = open_bundle(own)
    assert names(candidates_of(bundle, precision="int8", cpus=1)) == [("openvino-int8", "openvino", 1)]
    assert {one.artifact for one in candidates_of(bundle, precision="fastest", cpus=1)} == {"onnx", "openvino-int8"}
    with pytest.raises(BundleError, match="no artifact fits") as caught:
        candidates_of(bundle, precision="float16", cpus=1)
    assert "float32, int8" in str(caught.value)


def test_a_bundle_that_has_int8_alone_means_int8(own):
    attached(own, "openvino-int8", **INT8)
    shutil.rmtree(own / "artifacts" / "onnx")
    assert names(candidates_of(open_bundle(own), cpus=1)) == [("openvino-int8", "openvino", 1)]


def test_what_is_named_leaves_no_choice(own):
    bundle = open_bundle(own)
    attached(own, "onnx-int8", precision="int8", engine="onnxruntime")  # never checked, but named
    assert names(candidates_of(bundle, artifact="onnx-int8", threads=3, cpus=8)) == [("onnx-int8", "onnxruntime", 3)]
    chosen = candidates_of(bundle, engine=parse_engine("onnxruntime:cpu"), threads=1, cpus=8)
    assert names(chosen) == [("onnx", "onnxruntime:cpu", 1)]


@pytest.mark.parametrize(("cpus", "steps"), [(1, (1,)), (2, (1, 2)), (3, (1, 3)), (8, (1, 4, 8))])
def test_steps_of_threads(cpus, steps):
    assert thread_steps(cpus) == steps


def test_precisions_are_checked():
    assert as_precision("fastest") == "fastest"
    with pytest.raises(InputError, match="did you mean float32"):
        as_precision("float3")


def test_few_images_are_not_measured_for_and_many_are_once(own, measurements, cache):
    few = choose_runtime(own, images=WORTH_IT - 1)
    assert few is not None
    assert few.engine == "onnxruntime"
    assert "--measure" in few.why
    assert not measurements
    assert not cache.exists()
    first, second = choose_runtime(own, images=WORTH_IT), choose_runtime(own, images=3)
    assert len(measurements) == 1
    assert first == second
    assert "on this machine" in str(first)


def test_what_was_measured_for_any_number_of_threads_is_known_for_one(own, measurements, monkeypatch):
    for module in (choosing, measured):
        monkeypatch.setattr(module, "allowed_cpus", lambda: 2)
    choose_runtime(own, images=WORTH_IT)
    one = choose_runtime(own, wish=Wish(threads=1), images=0)
    assert len(measurements) == 1
    assert one is not None
    assert "on this machine" in one.why
    assert one.times
    assert all(key.endswith("|1") for key in one.times)


def test_measuring_is_done_again_on_request_and_never_where_it_is_refused(own, measurements):
    for measure in ("always", "always", "never"):
        choose_runtime(own, wish=Wish(measure=measure), images=1)
    assert len(measurements) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: "{",
        lambda entry: json.dumps(entry | {"format": 2}),
        lambda entry: json.dumps(entry | {"conditions": entry["conditions"] | {"cpus": 99}}),
        lambda entry: json.dumps(entry | {"times": {}}),
        lambda entry: json.dumps(entry | {"times": {key: {"1": 1.0, "32": -1.0} for key in entry["times"]}}),
        lambda entry: json.dumps(entry | {"times": {key: {"1": "quick"} for key in entry["times"]}}),
        lambda entry: json.dumps([entry]),
        lambda entry: "null",
    ],
)
def test_a_damaged_or_foreign_entry_is_measured_anew(damage, own, measurements, cache):
    candidates = candidates_of(open_bundle(own), cpus=1)
    spec = open_bundle(own).preprocess
    measured_times(candidates, spec, listener=SILENT)
    [path] = cache.iterdir()
    path.write_text(damage(json.loads(path.read_text())))
    assert cached_times(candidates) is None
    times, failed = measured_times(candidates, spec, listener=SILENT)
    assert len(measurements) == 2
    assert cached_times(candidates) == (times, failed)


def test_other_versions_other_files_and_other_machines_are_other_entries(own, monkeypatch):
    candidates = candidates_of(open_bundle(own), cpus=1)
    measured_times(candidates, open_bundle(own).preprocess, listener=SILENT)
    assert cached_times(candidates) is not None
    for name, value in (("_version", lambda engine: "0.0"), ("processor", lambda: "another")):
        with monkeypatch.context() as patch:
            patch.setattr(measured, name, value)
            assert cached_times(candidates) is None
    attached(own, "openvino", precision="float32", engine="openvino")
    assert cached_times(candidates_of(open_bundle(own), cpus=1)) is None


def test_an_engine_that_fails_is_left_out_with_its_reason(own, measurements):
    candidates = candidates_of(open_bundle(own), cpus=1)
    broken = candidates[0].model.parent / "none" / "model.onnx"
    candidates[1] = Candidate(**{**vars(candidates[1]), "model": broken})
    times, failed = measured_times(candidates, open_bundle(own).preprocess, listener=SILENT)
    assert set(times) == {candidates[0].key}
    assert "cannot read" in failed[candidates[1].key]


def test_a_disk_that_refuses_costs_the_entry_and_nothing_else(own, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "file"))
    choice = choose_runtime(own, wish=Wish(measure="always"))
    assert choice is not None
    assert choice.times


def made_up(*rows: tuple[str, int, float, float]) -> tuple[list[Candidate], dict[str, dict[int, float]]]:
    candidates = [
        Candidate(
            artifact="onnx", model=Path("model.onnx"), manifest_id="x", precision="float32", engine=engine, threads=n
        )
        for engine, n, _, _ in rows
    ]
    return candidates, {one.key: {1: a, 32: b} for one, (_, _, a, b) in zip(candidates, rows, strict=True)}


def test_the_quickest_for_the_batch_is_taken():
    candidates, times = made_up(("a", 2, 3.0, 64.0), ("a", 1, 2.0, 100.0), ("b", 2, 4.0, 50.0))
    assert [fastest(candidates, times, {}, batch=1).engine, fastest(candidates, times, {}, batch=1).threads] == ["a", 1]
    bulk = fastest(candidates, times, {}, batch=32)
    assert (bulk.engine, bulk.threads) == ("b", 2)
    assert "1.56 ms an image" in bulk.why
    assert "a 2.00" in bulk.why


def test_a_gain_that_may_be_noise_leaves_the_usual_one():
    candidates, times = made_up(("a", 2, 3.0, 64.0), ("b", 2, 2.9, 62.0))
    assert fastest(candidates, times, {}, batch=32).engine == "a"


def test_nothing_that_runs_says_why():
    candidates, _ = made_up(("a", 2, 3.0, 64.0))
    with pytest.raises(BundleError, match="no memory"):
        fastest(candidates, {}, {candidates[0].key: "no memory"}, batch=1)


def test_what_is_chosen_is_opened_and_answers(own, halves):
    model, choice = open_chosen(own, wish=Wish(engine="openvino", threads=1))
    with model:
        assert model.predict([halves]).answers() == ["red"]
        assert (model.engine, model.threads) == ("openvino", 1)
    assert choice is not None
    assert "no other" in str(choice)


def test_a_file_of_its_own_leaves_nothing_to_choose(own, halves, tmp_path):
    shutil.copyfile(own / "artifacts/onnx/model.onnx", tmp_path / "model.onnx")
    model, choice = open_chosen(tmp_path / "model.onnx", images=10**6)
    with model:
        assert model.predict([halves]).answers() == ["red"]
    assert choice is None


def test_conditions_name_files_engines_and_the_machine(own):
    said = conditions_of(candidates_of(open_bundle(own), cpus=1))
    assert set(said) == {"candidates", "engines", "processor", "cpus"}
    assert set(said["engines"]) == {"onnxruntime", "openvino"}


def test_predict_says_what_it_took_and_measures_on_request(own, measurements, tmp_path):
    class_folders(tmp_path / "inbox", {"red": 2})
    usual = sortal(tmp_path, "predict", own, tmp_path / "inbox")
    assert (usual.code, measurements) == (0, [])
    assert "onnxruntime, float32" in usual.err
    assert "--measure" in usual.err
    found = sortal(tmp_path, "predict", own, tmp_path / "inbox", "--measure", "--json")
    assert len(measurements) == 1
    assert "ms an image on this machine" in found.err
    assert found.report["provenance"]["engine"] in ("onnxruntime", "openvino")
    refused(sortal(tmp_path, "predict", own, tmp_path / "inbox", "--precision", "int9"), "unknown precision")
    refused(sortal(tmp_path, "predict", own, tmp_path / "inbox", "--precision", "int8"), "no artifact fits")
