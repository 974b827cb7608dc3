"""What a bundle promises: it opens for ever and anywhere, and anything altered in it is refused before it is used."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sortal.core import bundle as bundle_module
from sortal.core.bundle import Bundle, BundleContents, attach, open_attachment, open_bundle, write_bundle, write_card
from sortal.core.canonical import digest, pretty
from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, InputError, InternalError, MachineError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec
from sortal.core.recipe import Recipe
from sortal.core.report import Report

Writer = Callable[[Path], None]

MUTATIONS = 500


def open_whole(path: Path) -> Bundle:
    """Open the bundle and every attachment in it."""
    bundle = open_bundle(path)
    for name in ("reference", *(f"artifacts/{x}" for x in bundle.artifacts()), "reports/test"):
        bundle.attachment(name)
    return bundle


def reseal(path: Path, **changes: object) -> None:
    """Change the manifest and make its id fit again, as somebody would who knows how."""
    data = json.loads((path / "manifest.json").read_bytes()) | changes
    del data["id"]
    (path / "manifest.json").write_text(pretty({"id": digest(data)} | data), encoding="utf-8")


def test_what_was_written_is_what_is_opened(bundle: Path, contents: BundleContents, weights: bytes) -> None:
    opened = open_bundle(bundle)
    assert (opened.labels, opened.preprocess, opened.decision) == (
        contents.labels,
        contents.preprocess,
        contents.decision,
    )
    assert (opened.contract, opened.recipe) == (contents.contract, contents.recipe)
    assert opened.manifest.model == contents.model
    assert opened.manifest.data_digest == "ab" * 32
    assert opened.weights_path is not None
    assert opened.weights_path.read_bytes() == weights
    assert opened.artifacts() == ["onnx"]
    assert opened.reports() == ["test"]
    assert opened.attachment("artifacts/onnx").manifest.details == {"precision": "fp32", "parity": {"differing": 0}}


def test_the_golden_bundle_of_format_1_opens(golden: Path) -> None:
    bundle = open_whole(golden / "bundle_v1")
    assert bundle.id == json.loads((golden / "bundle_v1" / "manifest.json").read_bytes())["id"]
    assert bundle.id == GOLDEN_ID
    assert bundle.labels.names == ("nut", "Schraube", "垫圈")
    assert bundle.recipe == Recipe(seed=7)
    assert bundle.contract is not None
    assert bundle.contract.recall == {"nut": 0.98}
    assert bundle.decision.unknown is not None
    assert bundle.manifest.parent == "12" * 32
    assert bundle.artifact("onnx").joinpath("model.onnx").read_bytes() == b"not a real graph\n"
    report = Report.from_json((bundle.attachment("reports/test").path / "report.json").read_bytes())
    assert report.metrics["accuracy"].value == 0.975


GOLDEN_ID = "09b1000d5b6c474265bf66df9f79e95d8ff4a2c3791360e805d840f0140fe0b7"


def test_the_golden_preprocessing_is_read_and_written_unchanged(golden: Path) -> None:
    raw = (golden / "preprocess_spec.json").read_text(encoding="utf-8")
    spec = PreprocessSpec.model_validate_json(raw)
    assert pretty(spec.model_dump(mode="json")) == raw
    assert spec == open_bundle(golden / "bundle_v1").preprocess
    assert (spec.size, spec.resize, spec.interpolation, spec.region) == (
        (32, 48),
        "pad",
        "bilinear",
        (0.1, 0.0, 0.9, 1.0),
    )


def test_the_weights_of_the_golden_bundle_are_readable_by_the_reference_implementation(golden: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    tensors = reference.load_file(golden / "bundle_v1" / "weights.safetensors")
    assert tensors["head.bias"].tolist() == [0.0, 0.25, -0.25]


def test_optional_parts_may_be_absent(tmp_path: Path, contents: BundleContents) -> None:
    bare = dataclasses.replace(contents, weights=None, recipe=None, contract=None, data_digest=None)
    opened = open_bundle(write_bundle(tmp_path / "imported", bare))
    assert opened.recipe is None
    assert opened.contract is None
    assert opened.weights_path is None
    assert not opened.is_runtime_only


def test_weights_may_be_given_as_a_file(tmp_path: Path, contents: BundleContents, weights: bytes) -> None:
    source = tmp_path / "w.safetensors"
    source.write_bytes(weights)
    path = write_bundle(tmp_path / "bundle", dataclasses.replace(contents, weights=source))
    assert (path / "weights.safetensors").read_bytes() == weights


def test_the_same_content_has_the_same_id_and_other_content_another(
    tmp_path: Path, contents: BundleContents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "_now", lambda: "2026-01-01T00:00:00Z")
    one = open_bundle(write_bundle(tmp_path / "one", contents))
    two = open_bundle(write_bundle(tmp_path / "two", contents))
    other = dataclasses.replace(contents, decision=DecisionSpec(temperature=1.500001))
    three = open_bundle(write_bundle(tmp_path / "three", other))
    assert one.id == two.id != three.id


def test_a_copy_elsewhere_opens_and_a_copy_without_weights_says_so(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other place" / "Kopie"
    shutil.copytree(bundle, copy)
    assert open_whole(copy).id == open_bundle(bundle).id
    (copy / "weights.safetensors").unlink()
    opened = open_whole(copy)
    assert opened.is_runtime_only
    assert opened.weights_path is None


def test_a_bundle_is_never_overwritten(bundle: Path, contents: BundleContents) -> None:
    before = open_bundle(bundle).id
    with pytest.raises(InputError, match="already exists"):
        write_bundle(bundle, contents)
    assert open_whole(bundle).id == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LabelSet(names=("a", "b"))}, "has 3 classes, the labels have 2"),
        ({"decision": DecisionSpec(bias=(0.0,))}, "bias has 1 classes"),
        ({"decision": DecisionSpec(costs=((0.0, 1.0), (1.0, 0.0)))}, "costs has 2 classes"),
        ({"contract": Contract(recall={"nail": 0.9})}, "a class that the labels lack"),
        ({"weights": b"PK\x03\x04 a pickle in a zip"}, "not a safetensors file"),
    ],
)
def test_parts_that_do_not_fit_are_refused_and_nothing_is_left(
    tmp_path: Path, contents: BundleContents, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "bundle", dataclasses.replace(contents, **changes))
    assert list(tmp_path.iterdir()) == []


def test_attachments_are_replaced_only_when_asked(bundle: Path, write_artifact: Writer) -> None:
    with pytest.raises(InputError, match="already exists"):
        attach(bundle, "artifacts/onnx", write_artifact)
    attach(bundle, "artifacts/onnx", lambda folder: (folder / "new").write_bytes(b"1") and None, replace=True)
    opened = open_whole(bundle)
    assert [path.name for path in opened.artifact("onnx").iterdir() if path.name != "manifest.json"] == ["new"]


@pytest.mark.parametrize(
    "name",
    ["onnx", "artifacts", "artifacts/", "artifacts/../x", "artifacts/.x", "other/x", "reference/x", "reports/a/b"],
)
def test_names_that_lead_elsewhere_are_refused(bundle: Path, name: str, write_artifact: Writer) -> None:
    with pytest.raises(InputError, match="not a name for an attachment"):
        attach(bundle, name, write_artifact)


def test_an_attachment_that_fails_leaves_no_trace(bundle: Path) -> None:
    def broken(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise RuntimeError("converter crashed")

    with pytest.raises(RuntimeError, match="converter crashed"):
        attach(bundle, "artifacts/openvino", broken)
    with pytest.raises(InternalError):
        attach(bundle, "artifacts/openvino", lambda folder: (folder / "manifest.json").write_text("{}") and None)
    assert sorted(path.name for path in (bundle / "artifacts").iterdir()) == ["onnx"]


def test_an_artifact_of_another_bundle_is_refused_but_opens_alone(
    bundle: Path, tmp_path: Path, contents: BundleContents
) -> None:
    other = write_bundle(tmp_path / "other", dataclasses.replace(contents, data_digest=None))
    shutil.copytree(bundle / "artifacts", other / "artifacts")
    with pytest.raises(BundleError, match="belongs to another bundle"):
        open_bundle(other).artifact("onnx")
    assert open_attachment(other / "artifacts" / "onnx").manifest.kind == "artifact"


def test_a_missing_artifact_names_those_there_are(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no artifacts/openvino[\s\S]*artifacts/onnx"):
        open_bundle(bundle).artifact("openvino")


def test_remains_of_broken_off_publications_do_not_matter(bundle: Path, write_artifact: Writer) -> None:
    for folder in (bundle, bundle / "artifacts"):
        (folder / ".tmp-onnx-00000000-1-00000000").mkdir()
        (folder / ".old-onnx").mkdir()
    opened = open_whole(bundle)
    assert opened.artifacts() == ["onnx"]


def test_the_card_may_change(bundle: Path) -> None:
    write_card(bundle, "# One\n")
    write_card(bundle, "# Two\n")
    open_whole(bundle)
    assert (bundle / "CARD.md").read_text() == "# Two\n"


def test_folders_that_are_no_bundle_are_told_apart(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        open_bundle(tmp_path / "absent")
    run = tmp_path / "photos-1"
    shutil.copytree(bundle, run / "bundle")
    with pytest.raises(BundleError, match=r"no manifest.json[\s\S]*did you mean .*photos-1.bundle"):
        open_bundle(run)


@pytest.mark.parametrize(
    ("version", "message"),
    [(2, "newer Sortal: format 2"), (0, "ever wrote"), ("1", "ever wrote"), (True, "ever wrote")],
)
def test_unknown_versions_are_refused_by_name(bundle: Path, version: object, message: str) -> None:
    reseal(bundle, format=version)
    with pytest.raises(BundleError, match=message):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["../canary", "/etc/passwd", "artifacts/onnx/model.onnx", "labels.json/../x"])
def test_a_manifest_that_points_elsewhere_is_refused(bundle: Path, name: str) -> None:
    files = json.loads((bundle / "manifest.json").read_bytes())["files"]
    reseal(bundle, files=files | {name: {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(BundleError, match="too little or too much"):
        open_bundle(bundle)


def test_identity_that_is_resealed_but_not_valid_is_refused(bundle: Path) -> None:
    reseal(bundle, extra="field")
    with pytest.raises(BundleError, match="extra"):
        open_bundle(bundle)


def test_duplicate_keys_and_other_spellings_are_refused(bundle: Path) -> None:
    manifest = bundle / "manifest.json"
    good = manifest.read_text()
    for bad in (
        good.replace('"format": 1,', '"format": 1,\n  "format": 1,'),
        good + "\n",
        "\ufeff" + good,
        good.replace('"Apache', '"\\u0041pache'),
        "[" * 100_000,
        "[]\n",
        "",
    ):
        manifest.write_text(bad, encoding="utf-8")
        with pytest.raises(BundleError):
            open_bundle(bundle)
    manifest.write_text(good, encoding="utf-16")
    with pytest.raises(BundleError):
        open_bundle(bundle)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["labels.json", "manifest.json", "weights.safetensors", "artifacts/onnx/model.onnx"])
def test_links_and_pipes_are_refused_without_being_opened(bundle: Path, tmp_path: Path, name: str) -> None:
    kept = tmp_path / "kept"
    shutil.move(bundle / name, kept)
    (bundle / name).symlink_to(kept)
    with pytest.raises(BundleError, match="links and devices"):
        open_whole(bundle)
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    with pytest.raises(BundleError, match="links and devices"):
        open_whole(bundle)


def test_linked_folders_are_refused(bundle: Path, tmp_path: Path) -> None:
    for name in ("artifacts", "artifacts/onnx", "artifacts/onnx/samples", "reference"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(bundle, copy)
        moved = tmp_path / f"moved-{copy.name}"
        shutil.move(copy / name, moved)
        (copy / name).symlink_to(moved, target_is_directory=True)
        with pytest.raises(BundleError):
            open_whole(copy)


def test_a_recipe_that_grows_without_bound_is_refused(tmp_path: Path, contents: BundleContents) -> None:
    path = write_bundle(tmp_path / "bundle", contents)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    raw = "\n".join(lines).encode()
    (path / "recipe.yaml").write_bytes(raw)
    files = json.loads((path / "manifest.json").read_bytes())["files"]
    files["recipe.yaml"] = {"sha256": bundle_sha(raw), "size": len(raw)}
    reseal(path, files=files)
    with pytest.raises(BundleError, match="aliases"):
        open_bundle(path)


def bundle_sha(raw: bytes) -> str:
    from hashlib import sha256

    return sha256(raw).hexdigest()


def test_without_verify_only_the_content_of_the_weights_is_trusted(bundle: Path) -> None:
    weights = bundle / "weights.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(BundleError, match="SHA-256"):
        open_bundle(bundle)
    open_bundle(bundle, verify=False)
    labels = bundle / "labels.json"
    labels.write_text(labels.read_text().replace("nut", "nuT"))
    with pytest.raises(BundleError, match=r"labels\.json"):
        open_bundle(bundle, verify=False)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_bundle_that_may_not_be_read_is_a_machine_error(bundle: Path) -> None:
    (bundle / "labels.json").chmod(0)
    with pytest.raises(MachineError, match="Permission denied"):
        open_bundle(bundle)


def _files(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file())


def _change_byte(bundle: Path, random: np.random.Generator) -> str:
    path = random.choice(_files(bundle))
    raw = bytearray(path.read_bytes())
    at = int(random.integers(len(raw)))
    raw[at] ^= int(random.integers(1, 256))
    path.write_bytes(raw)
    return f"byte {at} of {path.name}"


def _change_size(bundle: Path, random: np.random.Generator) -> str:
    path = random.choice(_files(bundle))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(random.integers(len(raw)))] if random.integers(2) else raw + b" ")
    return f"size of {path.name}"


def _remove(bundle: Path, random: np.random.Generator) -> str:
    path = random.choice([path for path in _files(bundle) if path.name != "weights.safetensors"])
    path.unlink()
    return f"removed {path.name}"


def _add(bundle: Path, random: np.random.Generator) -> str:
    folder = random.choice([bundle, *sorted(path.parent for path in bundle.rglob("manifest.json"))])
    name = str(random.choice(["extra.py", "weights.pt", ".hidden", "labels.json~", "MANIFEST.json.bak", "neu.txt"]))
    (folder / name).write_bytes(b"x")
    return f"added {name} to {folder.name}"


def _swap(bundle: Path, random: np.random.Generator) -> str:
    files = _files(bundle)
    while True:
        one, two = (files[int(index)] for index in random.choice(len(files), 2, replace=False))
        first, second = one.read_bytes(), two.read_bytes()
        if first != second:
            break
    one.write_bytes(second)
    two.write_bytes(first)
    return f"swapped {one.name} and {two.name}"


def _link(bundle: Path, random: np.random.Generator) -> str:
    path = random.choice(_files(bundle))
    kept = bundle.parent / f"kept-{bundle.name}"
    shutil.move(path, kept)
    path.symlink_to(kept)
    return f"linked {path.name}"


def _duplicate_key(bundle: Path, random: np.random.Generator) -> str:
    path = random.choice([path for path in _files(bundle) if path.suffix == ".json" and path.stat().st_size > 3])
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join([lines[0], lines[1].rstrip(",") + ",", *lines[1:]]), encoding="utf-8")
    return f"duplicate key in {path.name}"


def _wrong_sha(bundle: Path, random: np.random.Generator) -> str:
    path = random.choice(sorted(bundle.rglob("manifest.json")))
    data = json.loads(path.read_bytes())
    name = str(random.choice(sorted(data["files"])))
    data["files"][name]["sha256"] = random.bytes(32).hex()
    if random.integers(2):
        del data["id"]
        data = {"id": digest(data)} | data
    path.write_text(pretty(data), encoding="utf-8")
    return f"sha of {name}"


KINDS = (_change_byte, _change_size, _remove, _add, _swap, _link, _duplicate_key, _wrong_sha)


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_random_mutations_are_all_refused(bundle: Path, tmp_path: Path) -> None:
    random = np.random.Generator(np.random.Philox(key=4))
    accepted = []
    for number in range(MUTATIONS):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(bundle, copy)
        what = KINDS[number % len(KINDS)](copy, random)
        try:
            open_whole(copy)
        except BundleError:
            pass
        else:
            accepted.append(what)
        shutil.rmtree(copy)
    assert accepted == []


def test_an_unchanged_copy_is_not_refused(bundle: Path, tmp_path: Path) -> None:
    """The control of the test above: refusing everything would pass it."""
    shutil.copytree(bundle, tmp_path / "copy")
    open_whole(tmp_path / "copy")
