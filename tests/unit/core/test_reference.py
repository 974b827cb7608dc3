"""The attachment `reference/`: what was written is what is read, alterations are refused, digests are recognized."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.errors import BundleError, InputError
from sortal.core.reference import Reference, read_reference, read_scores, seen_key, seen_keys, write_reference
from sortal.core.tensor_bytes import from_tensors, to_tensors


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.fixture
def reference() -> Reference:
    generator = np.random.default_rng(0)
    return Reference(
        embeddings=generator.normal(size=(5, 4)).astype(np.float16),
        labels=np.array([0, 1, 2, 1, 0]),
        names=("a.jpg", "b.jpg", "zip::c.jpg", "垫圈/d.jpg", "e.jpg"),
        seen=seen_keys([digest(number) for number in range(20)] + [None]),
        unknown={"mean": generator.normal(size=3).astype(np.float32)},
        conformal={"scores": generator.random(7), "labels": np.arange(7)},
        facts={"method": "rank", "auroc": {"rank": 0.9}},
    )


@pytest.fixture
def written(tmp_path: Path, contents: BundleContents, reference: Reference) -> Path:
    bundle = write_bundle(tmp_path / "bundle", contents)
    write_reference(bundle, reference)
    return bundle


def test_what_was_written_is_what_is_read(written: Path, reference: Reference) -> None:
    found = read_reference(open_bundle(written))
    assert found is not None
    assert found.names == reference.names
    assert found.facts == reference.facts
    for name in ("embeddings", "labels", "seen"):
        np.testing.assert_array_equal(getattr(found, name), getattr(reference, name))
        assert getattr(found, name).dtype == getattr(reference, name).dtype
    np.testing.assert_array_equal(found.unknown["mean"], reference.unknown["mean"])
    np.testing.assert_array_equal(found.conformal["scores"], reference.conformal["scores"])


def test_the_identity_of_the_bundle_stays_the_same(tmp_path: Path, contents: BundleContents, written: Path) -> None:
    before = write_bundle(tmp_path / "other", contents)
    files = (open_bundle(written).manifest.files, open_bundle(before).manifest.files)
    assert files[0] == files[1]


def test_a_bundle_without_one_has_none(tmp_path: Path, contents: BundleContents) -> None:
    assert read_reference(open_bundle(write_bundle(tmp_path / "bundle", contents))) is None


def test_the_golden_bundle_of_format_1_has_none_that_is_known(golden: Path) -> None:
    assert read_reference(open_bundle(golden / "bundle_v1")) is None


def test_an_altered_reference_is_refused(written: Path) -> None:
    path = written / "reference" / "reference.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(BundleError, match="altered"):
        read_reference(open_bundle(written))


def test_it_is_replaced_only_on_request(written: Path, reference: Reference) -> None:
    with pytest.raises(InputError):
        write_reference(written, reference)
    write_reference(written, replace(reference, facts={}), replace=True)
    found = read_reference(open_bundle(written))
    assert found is not None
    assert found.facts == {}


def test_parts_that_do_not_fit_are_refused(tmp_path: Path, contents: BundleContents, reference: Reference) -> None:
    bundle = write_bundle(tmp_path / "bundle", contents)
    write_reference(bundle, replace(reference, labels=reference.labels[:-1]))
    with pytest.raises(BundleError, match="do not fit"):
        read_reference(open_bundle(bundle))


def test_images_seen_before_are_recognized_by_their_digests(reference: Reference) -> None:
    asked = [digest(3), digest(99), None, digest(19)]
    assert reference.has_seen(asked).tolist() == [True, False, False, True]
    assert seen_key("ff" * 32) == 2**64 - 1
    assert seen_keys([digest(1), digest(1)]).shape == (1,)


def test_arrays_are_read_by_the_reference_implementation_of_the_format() -> None:
    safetensors = pytest.importorskip("safetensors.numpy", reason="the extra `train` is not installed")
    arrays = {
        "half": np.linspace(-1, 1, 6, dtype=np.float16).reshape(2, 3),
        "whole": np.array([2**63 + 5, 1], np.uint64),
        "none": np.zeros((0, 4), np.float32),
        "truth": np.array([True, False]),
        "one": np.array(3.5),
    }
    for found in (safetensors.load(to_tensors(arrays)), from_tensors(to_tensors(arrays), where="here")):
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape


def test_the_reference_implementation_is_read() -> None:
    safetensors = pytest.importorskip("safetensors.numpy", reason="the extra `train` is not installed")
    arrays = {"b": np.arange(6, dtype=np.int32).reshape(3, 2), "a": np.ones(3, np.float64)}
    found = from_tensors(safetensors.save(arrays), where="here")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_scores_are_read_without_the_rest(written: Path, reference: Reference) -> None:
    bundle = open_bundle(written)
    arrays = written / "reference" / "reference.safetensors"
    arrays.write_bytes(b"damaged")
    np.testing.assert_array_equal(read_scores(bundle)["scores"], reference.conformal["scores"])
    scores = written / "reference" / "conformal.safetensors"
    scores.write_bytes(scores.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="altered"):
        read_scores(bundle)
