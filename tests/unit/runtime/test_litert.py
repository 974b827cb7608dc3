"""The LiteRT engine: levels of int8, orders of dimensions, and delegates that load, refuse or are not there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from smalltflite import SHAPE, WEIGHT, small_tflite
from sortal.core.errors import BundleError, InputError, MissingExtraError
from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.runtime.engines import litert
from sortal.runtime.engines.delegates import operators
from sortal.runtime.network_input import FLOAT32_NHWC, KEY, network_input

DELEGATE = """
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* As TfLiteDelegate in LiteRT's C interface: data, Prepare, three buffer functions, flags, a builder. */
struct delegate {
  void* data;
  int (*prepare)(void* context, struct delegate* self);
  void* buffers[3];
  long long flags;
  void* builder;
};
static int take_nothing(void* context, struct delegate* self) { (void)context; return self->data ? 1 : 0; }
void* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  (void)keys; (void)values; (void)count;
  if (REFUSES_TO_START) { report("no such device"); return NULL; }
  struct delegate* made = calloc(1, sizeof *made);
  made->prepare = take_nothing;
  made->data = REFUSES_MODELS ? made : NULL;
  return made;
}
void tflite_plugin_destroy_delegate(void* made) { free(made); }
"""


def engine(folder: Path, variant: str | None = None, **model) -> litert.LiteRtEngine:
    file = folder / "model.tflite"
    file.write_bytes(small_tflite(**({"batch": 1, "metadata": {}} | model)))
    return litert.open(file, threads=1, variant=variant)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, (count, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Builds a delegate's library that takes no operator, or refuses to start, or refuses every model."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to build a delegate with")
    folder = tmp_path_factory.mktemp("delegates")

    def build(name: str, *, starts: bool = True, takes_models: bool = True) -> str:
        source, target = folder / f"{name}.c", folder / f"lib{name}.so"
        source.write_text(DELEGATE)
        flags = [f"-DREFUSES_TO_START={int(not starts)}", f"-DREFUSES_MODELS={int(not takes_models)}"]
        subprocess.run(["cc", "-shared", "-fPIC", *flags, "-o", target, source], check=True)
        return str(target)

    return build


def test_int8_at_the_ends_becomes_floats_by_scale_and_zero_point(tmp_path):
    scale, zero = 2.0 / 127, -3
    outputs = engine(tmp_path, scale=scale, zero=zero).run(images(3))
    seen = (np.clip(np.rint(images(3) / scale) + zero, -128, 127) - zero) * scale
    mapped = (np.clip(np.rint(2 * seen / scale) + zero, -128, 127) - zero) * scale
    np.testing.assert_allclose(outputs.feature_map, mapped, atol=1e-5)
    np.testing.assert_allclose(outputs.logits, 2 * seen.mean((2, 3)) @ WEIGHT, atol=1e-5)
    assert outputs.feature_map.dtype == np.float32


def test_values_beyond_the_levels_stop_at_the_last_one(tmp_path):
    outputs = engine(tmp_path, scale=0.01).run(np.full((1, *SHAPE), 9.0, np.float32))
    np.testing.assert_allclose(outputs.logits, np.full((1, 3), 2.54) @ WEIGHT, rtol=1e-5)


def test_a_feature_map_with_channels_last_is_turned(tmp_path):
    plain = engine(tmp_path).run(images(2)).feature_map
    turned = engine(tmp_path, metadata={litert.FEATURE_MAP: "NHWC"}).run(images(2)).feature_map
    np.testing.assert_array_equal(turned, plain.transpose(0, 3, 1, 2))


def test_float_input_with_channels_last_is_the_normalized_image():
    spec = PreprocessSpec(size=(6, 4), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), np.uint8)
    found = network_input(spec, pixels, {KEY: FLOAT32_NHWC})
    np.testing.assert_array_equal(found, normalize(spec, pixels).transpose(0, 2, 3, 1))
    assert found.flags.c_contiguous


def test_xnnpack_computes_unless_the_plain_kernels_are_asked_for(tmp_path):
    usual, plain = engine(tmp_path), engine(tmp_path, "cpu")
    assert (usual.name, usual.ran_on) == ("litert", "XNNPACK (3 of 3 operators)")
    assert (plain.name, plain.ran_on) == ("litert:cpu", "plain kernels (3 of 3 operators)")
    np.testing.assert_allclose(usual.run(images(2)).logits, plain.run(images(2)).logits, atol=1e-6)


def test_operators_come_in_the_order_of_the_file(tmp_path):
    engine(tmp_path, scale=0.1)
    found = operators(litert.open_interpreter(tmp_path / "model.tflite"))
    assert [one.kind for one in found] == ["DEQUANTIZE", "MUL", "QUANTIZE", "MEAN", "FULLY_CONNECTED"]
    assert found[0].types == ("float32", "int8")
    assert {one.taken_by for one in found} == {0}


def test_a_delegate_that_is_not_there_leaves_the_cpu_which_is_said(tmp_path):
    fallen = engine(tmp_path, "edgetpu")
    assert fallen.name == "litert (XNNPACK instead of edgetpu)"
    assert fallen.ran_on.startswith("XNNPACK (3 of 3 operators); not edgetpu: libedgetpu.so.1")
    np.testing.assert_array_equal(fallen.run(images(2)).logits, engine(tmp_path).run(images(2)).logits)


def test_a_library_that_is_no_delegate_leaves_the_cpu(tmp_path, library):
    source = tmp_path / "other.c"
    source.write_text("int nothing(void) { return 0; }")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "other.so", source], check=True)
    assert "other.so is no delegate" in engine(tmp_path, str(tmp_path / "other.so")).ran_on


def test_a_delegate_that_takes_nothing_ran_nothing(tmp_path, library):
    idle = engine(tmp_path, library("idle"))
    assert idle.ran_on == "XNNPACK (3 of 3 operators)"
    np.testing.assert_array_equal(idle.run(images(2)).logits, engine(tmp_path).run(images(2)).logits)


def test_delegates_that_refuse_leave_the_cpu(tmp_path, library):
    refused = engine(tmp_path, library("asleep", starts=False))
    assert "refused to start (no such device)" in refused.ran_on
    refused = engine(tmp_path, library("picky", takes_models=False))
    assert "refused the model" in refused.ran_on
    assert refused.run(images(2)).logits.shape == (2, 5)


def test_unknown_delegates_are_an_input_error(tmp_path):
    with pytest.raises(InputError, match="known: xnnpack, cpu, gpu"):
        engine(tmp_path, "warp")


def test_without_litert_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match="mobile"):
        engine(tmp_path)


def test_a_model_without_signature_is_refused(tmp_path):
    with pytest.raises(BundleError, match="no artifact of Sortal"):
        engine(tmp_path, outputs=("a", "b", "c"))
