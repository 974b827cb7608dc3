"""Bundle: a classifier as a folder on disk, the one thing that the build side and the run side share.

    manifest.json labels.json preprocess.json decision.json      identity, never changed once published
    contract.yaml recipe.yaml weights.safetensors                identity that some bundles lack
    artifacts/<name>/ reports/<name>/ reference/ CARD.md         attachments, added later; folders have manifests

Identity is verified when a bundle is opened, an attachment when it is asked for; anything altered, missing or not
listed is refused before it is used. Weights that the manifest lists may be absent: that is a copy for running only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from sortal.core.canonical import pretty
from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, InternalError
from sortal.core.identity import (
    CARD,
    CONTRACT,
    DECISION,
    KINDS,
    LABELS,
    PREPROCESS,
    RECIPE,
    WEIGHTS,
    attachment_folder,
    check_names,
    check_parts,
    names,
    read_json,
    read_yaml,
)
from sortal.core.labels import LabelSet
from sortal.core.manifest import (
    MANIFEST,
    AttachmentManifest,
    Manifest,
    ModelSpec,
    check_file,
    check_files,
    list_files,
    read_manifest,
    seal,
    to_text,
)
from sortal.core.preprocess import PreprocessSpec
from sortal.core.publish import disk_errors, publish_file, publish_folder
from sortal.core.recipe import Recipe
from sortal.core.tensors import check_tensors


@dataclass(frozen=True, kw_only=True)
class BundleContents:
    """What becomes the identity of a bundle. `weights` are safetensors, as bytes or as a file to copy."""

    labels: LabelSet
    preprocess: PreprocessSpec
    decision: DecisionSpec
    model: ModelSpec
    weights_licence: str
    weights: bytes | Path | None = None
    contract: Contract | None = None
    recipe: Recipe | None = None
    parent: str | None = None
    data_digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A verified attachment: its folder and what its manifest says."""

    path: Path
    manifest: AttachmentManifest


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle. `id` identifies it for ever; its attachments are looked up on disk when asked for."""

    path: Path
    manifest: Manifest
    labels: LabelSet
    preprocess: PreprocessSpec
    decision: DecisionSpec
    recipe: Recipe | None
    contract: Contract | None

    @property
    def id(self) -> str:
        """64 hex digits."""
        return self.manifest.id

    @property
    def weights_path(self) -> Path | None:
        """The safetensors file, or None where the bundle never had one or this copy left it out."""
        path = self.path / WEIGHTS
        return path if WEIGHTS in self.manifest.files and path.is_file() else None

    @property
    def is_runtime_only(self) -> bool:
        """Whether the bundle has weights but this copy was made without them."""
        return WEIGHTS in self.manifest.files and self.weights_path is None

    def artifacts(self) -> list[str]:
        """Names of the deployment artifacts attached now, sorted."""
        return names(self.path / "artifacts")

    def reports(self) -> list[str]:
        """Names of the reports attached now, sorted."""
        return names(self.path / "reports")

    def artifact(self, name: str) -> Path:
        """The folder of a deployment artifact, verified. Raises BundleError when absent, altered or another's."""
        return self.attachment(f"artifacts/{name}").path

    def attachment(self, name: str) -> Attachment:
        """`artifacts/<name>`, `reports/<name>` or `reference`, verified. Raises BundleError as `artifact` does."""
        folder = attachment_folder(self.path, name)
        if not folder.is_dir():
            present = ", ".join([f"artifacts/{x}" for x in self.artifacts()] + [f"reports/{x}" for x in self.reports()])
            raise BundleError(
                f"the bundle has no {name}", where=str(self.path), hint=f"attached: {present or 'nothing'}"
            )
        found = open_attachment(folder)
        if found.manifest.bundle != self.id:
            raise BundleError("this belongs to another bundle", where=str(folder), received=found.manifest.bundle)
        if found.manifest.kind != KINDS[name.partition("/")[0]]:
            raise BundleError("this is another kind of attachment", where=str(folder), received=found.manifest.kind)
        return found


def write_bundle(target: Path, contents: BundleContents, *, replace: bool = False) -> Path:
    """Publish a bundle as a whole at `target`, which must not exist unless it is to be replaced.

    Raises BundleError when the parts do not fit each other or the weights are no sound safetensors, InputError when
    `target` exists, MachineError when the machine refuses. Nothing is left behind on any error.
    """
    check_parts(contents.labels, contents.decision, contents.contract, contents.model, where=str(target))
    return publish_folder(target, lambda folder: _write_identity(folder, contents), replace=replace)


def open_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Open and verify the bundle at `path`. Without `verify` the weights are trusted to be what their size says.

    Raises BundleError when anything in it is altered, missing, not listed or of an unknown format version.
    """
    with disk_errors(path):
        _check_presence(path)
        manifest = read_manifest(Manifest, path)
        check_names(path, manifest)
        _check_weights(path, manifest, verify=verify)
        bundle = _read_identity(path, manifest)
    check_parts(bundle.labels, bundle.decision, bundle.contract, manifest.model, where=str(path))
    return bundle


def attach(
    bundle: Path,
    name: str,
    write: Callable[[Path], None],
    *,
    details: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Path:
    """Add `artifacts/<name>`, `reports/<name>` or `reference` to the bundle as a whole; `write` fills the folder.

    `details` (JSON types) go into its manifest. Raises InputError when the name is taken and `replace` is False, or is
    no name for an attachment; BundleError when `bundle` is none; MachineError when the machine refuses.
    """
    folder = attachment_folder(bundle, name)
    owner = read_manifest(Manifest, bundle)
    fields = {"kind": KINDS[name.partition("/")[0]], "bundle": owner.id, "details": dict(details or {})}

    def fill(temporary: Path) -> None:
        write(temporary)
        if (temporary / MANIFEST).exists():
            raise InternalError(f"{MANIFEST} belongs to the bundle and is not for the attachment to write", where=name)
        sealed = seal(AttachmentManifest, {**fields, "created": _now(), "files": list_files(temporary)})
        (temporary / MANIFEST).write_bytes(to_text(sealed).encode())

    return publish_folder(folder, fill, replace=replace)


def open_attachment(folder: Path) -> Attachment:
    """Verify the attachment in `folder`, wherever it was copied. Raises BundleError when anything in it is altered."""
    manifest = read_manifest(AttachmentManifest, folder)
    check_files(folder, manifest.files)
    return Attachment(path=folder, manifest=manifest)


def write_card(bundle: Path, text: str) -> None:
    """Put the model card `CARD.md` beside the identity; it is for people and may be replaced."""
    publish_file(bundle / CARD, text.encode())


def _write_identity(folder: Path, contents: BundleContents) -> None:
    texts = {
        LABELS: pretty(contents.labels.model_dump(mode="json")),
        PREPROCESS: pretty(contents.preprocess.model_dump(mode="json")),
        DECISION: pretty(contents.decision.model_dump(mode="json")),
    }
    if contents.contract is not None:
        texts[CONTRACT] = yaml.safe_dump(contents.contract.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if contents.recipe is not None:
        texts[RECIPE] = contents.recipe.to_yaml()
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    if contents.weights is not None:
        _write_weights(folder / WEIGHTS, contents.weights)
    sealed = seal(Manifest, _manifest_fields(contents) | {"files": list_files(folder)})
    (folder / MANIFEST).write_bytes(to_text(sealed).encode())


def _write_weights(path: Path, weights: bytes | Path) -> None:
    if isinstance(weights, bytes):
        path.write_bytes(weights)
    else:
        shutil.copyfile(weights, path)
    check_tensors(path, where=WEIGHTS)


def _manifest_fields(contents: BundleContents) -> dict[str, Any]:
    return {
        "parent": contents.parent,
        "created": _now(),
        "sortal_version": _version(),
        "data_digest": contents.data_digest,
        "model": contents.model,
        "weights_licence": contents.weights_licence,
    }


def _read_identity(path: Path, manifest: Manifest) -> Bundle:
    files = manifest.files
    return Bundle(
        path=path,
        manifest=manifest,
        labels=read_json(LabelSet, path / LABELS, files[LABELS]),
        preprocess=read_json(PreprocessSpec, path / PREPROCESS, files[PREPROCESS]),
        decision=read_json(DecisionSpec, path / DECISION, files[DECISION]),
        recipe=read_yaml(Recipe, path / RECIPE, files[RECIPE]) if RECIPE in files else None,
        contract=read_yaml(Contract, path / CONTRACT, files[CONTRACT]) if CONTRACT in files else None,
    )


def _check_presence(path: Path) -> None:
    if not path.is_dir():
        raise BundleError("there is no bundle here", where=str(path))
    if not os.path.lexists(path / MANIFEST):
        hint = f"did you mean {path / 'bundle'}?" if (path / "bundle" / MANIFEST).exists() else None
        raise BundleError("this folder is no bundle: it has no manifest.json", where=str(path), hint=hint)


def _check_weights(path: Path, manifest: Manifest, *, verify: bool) -> None:
    entry = manifest.files.get(WEIGHTS)
    if entry is None or not os.path.lexists(path / WEIGHTS):
        return
    check_file(path / WEIGHTS, entry, content=verify)
    check_tensors(path / WEIGHTS, where=str(path / WEIGHTS))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _version() -> str:
    try:
        return version("sortal")
    except PackageNotFoundError:
        return "unknown"
