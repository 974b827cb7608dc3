"""Execution providers by name; where one cannot be had, the CPU computes and the engine says so."""

from __future__ import annotations

from types import SimpleNamespace as Thing

import numpy as np
import pytest

from sortal.core.errors import InputError
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines.opening import open_engine
from sortal.runtime.engines.providers import find_provider, told


def session(*parts: tuple[str, int]) -> Thing:
    """What a session says about its assignment: provider and number of operators, part by part."""
    made = [Thing(ep_name=name, get_nodes=lambda count=count: [None] * count) for name, count in parts]
    return Thing(get_provider_graph_assignment_info=lambda: made)


class Build:
    """ONNX Runtime as it would be with a library that adds devices."""

    __version__ = "9.9"

    def __init__(self, *, adds: tuple[str, ...] = (), fails: str = ""):
        self.adds, self.fails, self.devices, self.loaded = adds, fails, [Thing(ep_name="CPUExecutionProvider")], []

    def get_all_providers(self):
        return ["XnnpackExecutionProvider", "QNNExecutionProvider", "CPUExecutionProvider"]

    def get_available_providers(self):
        return ["XnnpackExecutionProvider", "CPUExecutionProvider"]

    def get_ep_devices(self):
        return self.devices

    def register_execution_provider_library(self, name, path):
        if self.fails:
            raise RuntimeError(self.fails)
        self.loaded.append((name, path))
        self.devices = [*self.devices, *(Thing(ep_name=name) for name in self.adds)]


def test_short_and_long_names_are_the_same_provider():
    for text in ("xnnpack", "XNNPACK", "XnnpackExecutionProvider"):
        found = find_provider(Build(), text)
        assert (found.name, found.reason) == ("XnnpackExecutionProvider", "")


def test_a_provider_that_is_not_built_in_has_a_reason():
    found = find_provider(Build(), "qnn")
    assert found.name == "QNNExecutionProvider"
    assert "9.9" in found.reason


def test_a_name_that_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="xnnpack"):
        find_provider(Build(), "xnpack")


def test_a_providers_own_library_is_loaded_once_and_chosen_by_its_devices(tmp_path):
    build, path = Build(adds=("NpuExecutionProvider", "NpuExecutionProvider")), tmp_path / "libnpu.so"
    for _ in range(2):
        found = find_provider(build, str(path))
        assert found.name == "NpuExecutionProvider"
        assert len(found.devices) == 2
    assert build.loaded == [("libnpu", str(path))]


def test_a_library_that_does_not_load_or_finds_no_device_has_a_reason(tmp_path):
    assert "no such file" in find_provider(Build(fails="no such file"), str(tmp_path / "a.so")).reason
    assert "finds no device" in find_provider(Build(), str(tmp_path / "b.so")).reason


def test_who_took_which_operators():
    parts = [("CPUExecutionProvider", 2), ("XnnpackExecutionProvider", 30), ("CPUExecutionProvider", 1)]
    assert told(session(*parts)) == "Xnnpack (30 of 33 operators), CPU (3)"


def test_the_cpu_is_named_where_it_was_asked_for(bundle):
    with open_classifier(bundle, engine="onnxruntime:cpu", threads=1) as model:
        assert model.engine == "onnxruntime:cpu"
        assert model.ran_on.startswith("CPU (")


def test_the_cpu_takes_over_and_the_engine_says_so(bundle, halves):
    import onnxruntime

    absent = sorted(set(onnxruntime.get_all_providers()) - set(onnxruntime.get_available_providers()))[0]
    with open_classifier(bundle, engine=f"onnxruntime:{absent}", threads=1) as model, open_classifier(bundle) as plain:
        assert model.engine == f"onnxruntime (CPU instead of {absent})"
        assert absent in model.ran_on
        assert plain.ran_on == "onnxruntime"
        np.testing.assert_array_equal(model.predict([halves]).probabilities, plain.predict([halves]).probabilities)


def test_a_library_that_is_not_there_leaves_the_cpu(bundle, tmp_path):
    engine = open_engine(bundle / "artifacts/onnx/model.onnx", f"onnxruntime:{tmp_path}/none.so", threads=1)
    assert "none.so" in engine.ran_on
    assert engine.ran_on.startswith("CPU (")
