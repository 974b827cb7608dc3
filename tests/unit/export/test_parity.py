"""The parity check passes a right artifact and catches wrong ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, InputError
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.report import Report
from sortal.export.parity import Side, check_parity, is_equal
from sortal.export.publish import publish_artifacts, write_artifact
from sortal.export.sides import file_side, module_side
from sortal.runtime.classifier import open_classifier


@pytest.fixture
def sides(network, exported, labels, spec) -> tuple[Side, Side]:
    return module_side(network, labels, spec), file_side(exported, threads=1)


def changed(side: Side, **fields: object) -> Side:
    return Side(**({"name": side.name, "run": side.run, "labels": side.labels, "preprocess": side.preprocess} | fields))


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


def test_a_right_artifact_passes_and_the_margin_is_reported(sides, pixels):
    report = check_parity(*sides, pixels)
    assert is_equal(report)
    assert report.findings == ()
    assert report.metrics["flips"].value == 0
    assert report.metrics["max_logit_difference"].value < 1e-4
    assert 0 < report.metrics["smallest_margin"].value < 1
    assert report.metrics["flips"].n == len(pixels)
    assert Report.from_json(report.to_json()) == report


def test_the_module_keeps_its_mode(sides, pixels, network):
    check_parity(*sides, pixels[:2])
    assert network.training


def test_a_mean_with_swapped_channels_is_caught(sides, pixels, spec):
    live, artifact = sides
    swapped = spec.model_copy(update={"mean": spec.mean[::-1], "std": spec.std[::-1]})
    report = check_parity(live, changed(artifact, preprocess=swapped), pixels)
    assert codes(report) == ["preprocess_differs", "probabilities_differ"]
    assert "mean: (0.5, 0.4, 0.3) / (0.3, 0.4, 0.5)" in report.findings[0].message


def test_changed_decisions_are_caught_and_listed(sides, pixels):
    live, artifact = sides
    report = check_parity(
        live, changed(artifact, run=lambda batch: -artifact.run(batch)), pixels, names=[str(n) for n in range(40)]
    )
    assert codes(report) == ["probabilities_differ", "decisions_differ"]
    assert len(report.tables["flips"].rows) == report.metrics["flips"].value > 0
    assert report.findings[1].rows == tuple(row[0] for row in report.tables["flips"].rows)


def test_shuffled_labels_are_caught_though_logits_agree(sides, pixels):
    live, artifact = sides
    report = check_parity(live, changed(artifact, labels=LabelSet(names=("nut", "bolt", "washer", "gear"))), pixels)
    assert codes(report) == ["labels_differ"]
    assert "0: bolt / nut" in report.findings[0].message


def test_another_number_of_classes_is_caught(sides, pixels):
    live, artifact = sides
    report = check_parity(live, changed(artifact, run=lambda batch: artifact.run(batch)[:, :3]), pixels)
    assert "classes_differ" in codes(report)


def test_a_fixed_batch_is_caught(sides, pixels):
    live, artifact = sides

    def fixed(batch):
        if len(batch) == 7:
            raise BundleError("wrong shape")
        return artifact.run(batch)

    assert codes(check_parity(live, changed(artifact, run=fixed), pixels)) == ["batch_refused"]


def test_answers_that_depend_on_neighbors_are_caught(sides, pixels):
    live, artifact = sides
    report = check_parity(live, changed(artifact, run=lambda batch: artifact.run(batch) + len(batch)), pixels)
    assert "batch_differs" in codes(report)


def test_values_that_are_not_finite_are_caught(sides, pixels):
    live, artifact = sides
    report = check_parity(live, changed(artifact, run=lambda batch: artifact.run(batch) * np.nan), pixels)
    assert "not_finite" in codes(report)
    assert report.metrics["max_logit_difference"].value is None


def test_a_tie_that_rounding_decides_is_a_warning(sides, pixels, labels):
    live, artifact = sides
    tie = np.asarray([[1.0, 1.0 + 1e-6, 0.0, 0.0]], np.float32)
    one = changed(live, run=lambda batch: np.repeat(tie, len(batch), axis=0))
    other = changed(artifact, run=lambda batch: np.repeat(tie[:, [1, 0, 2, 3]], len(batch), axis=0))
    report = check_parity(one, other, pixels)
    assert codes(report) == ["ties_differ"]
    assert is_equal(report)
    assert report.metrics["smallest_margin"].value < 1e-3


def test_no_images_is_an_error(sides, pixels):
    with pytest.raises(InputError, match="at least one image"):
        check_parity(*sides, pixels[:0])


@pytest.fixture
def bundle(tmp_path, labels, spec):
    contents = BundleContents(
        labels=labels,
        preprocess=spec,
        decision=DecisionSpec(),
        model=ModelSpec(architecture="tiny", classes=4, embedding=12, parameters=0),
        weights_licence="Apache-2.0",
    )
    return write_bundle(tmp_path / "bundle", contents)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_artifacts_are_checked_stamped_and_attached(name, bundle, exported, network, pixels, tmp_path):
    file = tmp_path / "work.onnx"
    file.write_bytes(exported.read_bytes())
    report = publish_artifacts(bundle, file, network, pixels, names=(name,))
    opened = open_bundle(bundle)
    attached = opened.attachment(f"artifacts/{name}")
    assert attached.manifest.details["parity"]["flips"] == 0
    assert attached.manifest.details["input"]["shape"] == ["batch", 3, 24, 20]
    assert attached.manifest.details["precision"] == "float32"
    assert json.loads((attached.path / "parity.json").read_text())["kind"] == "parity"
    engine = attached.manifest.details["engine"]
    with open_classifier(attached.path, engine=engine, threads=1) as classifier:
        assert classifier.bundle_id == opened.id
        expected = np.exp(module_side(network, opened.labels, opened.preprocess).run(normalized(opened, pixels)))
        chances = classifier.predict(list(pixels)).probabilities
    np.testing.assert_allclose(chances, expected / expected.sum(axis=1, keepdims=True), atol=1e-4)
    assert is_equal(report)


def normalized(opened, pixels):
    from sortal.core.preprocess import normalize, prepare

    return normalize(opened.preprocess, np.stack([prepare(opened.preprocess, image) for image in pixels]))


def test_a_wrong_artifact_is_never_attached(bundle, exported, sides, pixels, spec):
    live, artifact = sides
    swapped = spec.model_copy(update={"mean": spec.mean[::-1]})
    report = check_parity(live, changed(artifact, preprocess=swapped), pixels)
    with pytest.raises(BundleError, match="does not answer as the original"):
        write_artifact(bundle, "onnx", exported, report)
    assert open_bundle(bundle).artifacts() == []
