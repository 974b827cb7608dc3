"""Model folders in the hub's format: what is written is what timm opens, and what is read comes back the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, InputError, WeightsError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.core.progress import Silent
from sortal.export.artifacts import hub
from sortal.export.elsewhere import import_any
from sortal.export.graph import export_onnx
from sortal.export.publish import publish_artifacts
from sortal.export.story import export_artifacts
from sortal.models.backbones import create, record
from sortal.models.hub_folder import read_hub_folder
from sortal.models.resolve import ModelSource, resolve
from sortal.models.weights import weights_bytes
from sortal.runtime.classifier import open_classifier

SPEC = PreprocessSpec(size=(64, 48), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3), crop=0.9)
LABELS = LabelSet(names=("bolt", "nut", "washer"))
DECISION = DecisionSpec(temperature=1.7, bias=(0.1, -0.2, 0.3), threshold=0.4)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *SPEC.size, 3), dtype=np.uint8)


def published(folder: Path, architecture: str, **model: object) -> Path:
    """A bundle with weights and graph, as training leaves one."""
    source = ModelSource(name=architecture, architecture=architecture)
    network = create(source, classes=3, size=SPEC.size, seed=1, **model).eval()
    with torch.no_grad():
        network.linear.weight.mul_(30)
    contents = BundleContents(
        labels=LABELS,
        preprocess=SPEC,
        decision=DECISION,
        model=record(network, source="random"),
        weights_licence="MIT",
        weights=weights_bytes(network),
    )
    write_bundle(folder, contents)
    export_onnx(network, SPEC, folder.parent / "exported.onnx")
    publish_artifacts(folder, folder.parent / "exported.onnx", network, pixels(4))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("hub") / "bundle", "test_resnet")


@pytest.fixture(scope="module")
def folder(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folders") / "parts"
    out.mkdir()
    hub.convert_bundle(open_bundle(bundle), out)
    return out


def test_timm_opens_it_and_answers_as_the_bundle(bundle: Path, folder: Path):
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    batch = normalize(SPEC, pixels(6))
    with torch.inference_mode():
        logits = network(torch.from_numpy(batch)).numpy()
    with open_classifier(bundle, threads=1) as model:
        expected = model.run_network(batch).logits
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == list(LABELS.names)
    said = config["pretrained_cfg"]
    assert (said["input_size"], said["crop_pct"], said["crop_mode"]) == ([3, 64, 48], 0.9, "center")
    assert said["license"] == "MIT"
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    assert "- washer" in card


def test_it_is_exported_with_the_check_and_attached(bundle: Path, tmp_path: Path):
    shutil.copytree(bundle, tmp_path / "bundle")
    report = export_artifacts(
        tmp_path / "bundle",
        ["hub"],
        images=list(pixels(9)),
        count=9,
        replace=False,
        time_limit_s=60,
        listener=Silent(),
    )
    assert report.tables["artifacts"].rows[0][0] == "hub"
    details = open_bundle(tmp_path / "bundle").attachment("artifacts/hub").manifest.details
    assert details["parity"]["flips"] == 0
    attached = tmp_path / "bundle" / "artifacts" / "hub"
    with pytest.raises(BundleError, match="sortal import"):
        open_classifier(attached)
    assert resolve(str(attached), offline=True).architecture == "test_resnet"


def test_what_is_imported_decides_as_what_was_exported(bundle: Path, folder: Path, tmp_path: Path):
    report = import_any(folder, labels=None, preprocess=None, out=tmp_path / "bundle")
    assert report.findings == ()
    imported = open_bundle(tmp_path / "bundle")
    assert (imported.labels, imported.preprocess, imported.decision) == (LABELS, SPEC, DECISION)
    assert imported.manifest.weights_licence == "MIT"
    images = list(pixels(12))
    with open_classifier(bundle, threads=1) as one, open_classifier(tmp_path / "bundle", threads=1) as other:
        expected, found = one.predict(images), other.predict(images)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_array_equal(found.abstained, expected.abstained)


def test_a_folder_that_timm_alone_wrote_is_imported(tmp_path: Path):
    body = timm.create_model("test_vit", num_classes=2, img_size=[32, 48], dynamic_img_size=True)
    timm.models.save_for_hf(
        body, tmp_path / "vit", safe_serialization=True, data_config={"input_size": (3, 32, 48), "crop_mode": "squash"}
    )
    with pytest.raises(InputError, match="does not name its classes"):
        import_any(tmp_path / "vit", labels=None, preprocess=None, out=tmp_path / "none")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    report = import_any(tmp_path / "vit", labels=tmp_path / "names.txt", preprocess=None, out=tmp_path / "bundle")
    assert [finding.code for finding in report.findings] == ["not_calibrated"]
    spec = open_bundle(tmp_path / "bundle").preprocess
    assert (spec.size, spec.resize) == ((32, 48), "stretch")
    batch = np.random.default_rng(0).normal(size=(2, 3, 32, 48)).astype(np.float32)
    with torch.inference_mode(), open_classifier(tmp_path / "bundle", threads=1) as model:
        np.testing.assert_allclose(
            model.run_network(batch).logits, body.eval()(torch.from_numpy(batch)).numpy(), atol=1e-4
        )


def test_a_folder_is_a_model_to_start_from(folder: Path):
    source = resolve(str(folder), offline=True)
    assert (source.architecture, source.licence) == ("test_resnet", "MIT")
    assert source.sha256 is not None
    same, other = (create(source, classes=classes, size=SPEC.size) for classes in (3, 7))
    weight = same.backbone.state_dict()["body.conv1.0.weight"]
    assert torch.equal(weight, other.backbone.state_dict()["body.conv1.0.weight"])
    assert other.classes == 7
    assert resolve(str(folder), None, offline=True).weights_path is None


@pytest.mark.parametrize(
    ("architecture", "model", "said"),
    [
        ("sortal_tiny", {}, "no architecture of timm"),
        ("test_resnet", {"head": "mlp"}, "head=mlp"),
        ("test_resnet", {"views": "mirror"}, "views=mirror"),
    ],
)
def test_what_timm_cannot_build_is_refused_with_the_reason(architecture, model, said, tmp_path: Path):
    network = create(ModelSource(name=architecture, architecture=architecture), classes=3, size=SPEC.size, **model)
    contents = BundleContents(
        labels=LABELS,
        preprocess=SPEC,
        decision=DECISION,
        model=record(network),
        weights_licence="MIT",
        weights=weights_bytes(network),
    )
    write_bundle(tmp_path / "bundle", contents)
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match="timm alone cannot build") as refused:
        hub.convert_bundle(open_bundle(tmp_path / "bundle"), tmp_path / "out")
    assert said in str(refused.value)


def test_damaged_folders_say_what_is_wrong(folder: Path, tmp_path: Path):
    def broken(name: str, change) -> Path:
        shutil.copytree(folder, tmp_path / name)
        change(tmp_path / name)
        return tmp_path / name

    def without_weights(path: Path) -> None:
        (path / "model.safetensors").unlink()
        (path / "pytorch_model.bin").write_bytes(b"pickle")

    def edited(**values: object):
        def change(path: Path) -> None:
            config = json.loads((path / "config.json").read_text()) | values
            (path / "config.json").write_text(json.dumps(config))

        return change

    cases = [
        ("weights", without_weights, "pytorch_model.bin is a pickle"),
        ("text", lambda path: (path / "config.json").write_text("{"), "cannot read this model folder"),
        ("other", edited(architecture=None), "names no architecture of timm"),
        ("names", edited(label_names=["one"]), "3 classes but 1 label names"),
        ("features", edited(num_classes=0), "holds no classifier"),
        ("crop", edited(pretrained_cfg={"input_size": [3, 8, 8], "mean": [0], "std": [0]}), "pretrained_cfg"),
    ]
    for name, change, said in cases:
        with pytest.raises(WeightsError, match=said):
            read_hub_folder(broken(name, change))
    with pytest.raises(InputError, match="another number of classes"):
        import_any(
            broken("decision", lambda path: (path / "decision.json").write_text('{"bias": [0.1]}')),
            labels=None,
            preprocess=None,
            out=tmp_path / "none",
        )
    with pytest.raises(InputError, match=r"no config\.json"):
        import_any(tmp_path, labels=None, preprocess=None, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
