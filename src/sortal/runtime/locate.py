"""Find the model file and what belongs to it, from any of the places a person may point at.

A run folder (its `bundle/`), a bundle folder, an artifact folder inside or outside a bundle, a workspace (its live
bundle), or a bare `model.onnx` that carries Sortal's metadata. What an artifact's manifest says of engine and precision
is taken along.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortal.core.bundle import Bundle, open_attachment, open_bundle
from sortal.core.conformal import ConformalScores, read_conformal
from sortal.core.errors import BundleError, InputError, nearest
from sortal.core.manifest import MANIFEST
from sortal.core.reference import read_scores
from sortal.runtime.engines.opening import OPENED_BY
from sortal.runtime.metadata import ArtifactInfo
from sortal.workspace.deployment import deployment
from sortal.workspace.folder import BUNDLES, is_workspace, open_workspace

MODEL_FILES = tuple(f"model{ending}" for ending in OPENED_BY)
FOREIGN_FILES = {
    "model.mlpackage": "Core ML, which Apple's systems alone can run",
    "model.safetensors": "timm, and `sortal import` makes a bundle of it",
}
"""What other programs open, and who."""
ARTIFACT = "onnx"
"""The artifact that every engine here can open, taken where a path leaves the choice."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """A model file; `info` is None where only the file itself can say what it is."""

    model: Path
    info: ArtifactInfo | None
    conformal: ConformalScores | None = None
    """From the bundle's reference, where there is one."""
    engine: str | None = None
    """Who opens it, as its manifest says."""
    precision: str | None = None
    """`float32`, `float16`, `int8`, as its manifest says."""

    @property
    def is_float32(self) -> bool:
        """Whether every engine that opens the file decides the same; said of files that say nothing, too."""
        return self.precision in (None, "float32")


def locate(path: Path) -> Located:
    """The model file that `path` means. What has a manifest is verified: raises BundleError when it was altered."""
    path = answering(path)
    if path.is_file():
        return _locate_file(path)
    if not path.is_dir():
        raise BundleError("there is no such model", where=str(path), hint=_neighbors(path))
    if _in_its_bundle(path):
        return _locate_artifact(path)
    if _is_bundle(path):
        return _in_bundle(path)
    if _is_bundle(path / "bundle"):
        return _in_bundle(path / "bundle")
    if model_in(path) is None and _foreign_in(path) is None:
        hint = "give a run, a bundle or a workspace such as runs/photos-1, or a model.onnx"
        raise BundleError("neither a run, a bundle nor an artifact", where=str(path), hint=hint)
    return _locate_artifact(path)


def answering(path: Path) -> Path:
    """The folder of the bundle that is live, where `path` is a workspace; else `path`. Raises InputError where nothing
    is live, MissingExtraError without the extra `serve`."""
    if not is_workspace(path):
        return path
    with open_workspace(path, read_only=True) as workspace:
        live = deployment(workspace).live
    if live is None:
        raise InputError("nothing is live in this workspace", where=str(path), hint=f"sortal promote RUN {path}")
    return path / BUNDLES / live


def bundle_at(path: Path) -> tuple[Bundle, str | None] | None:
    """The bundle that a run or bundle folder, an artifact inside it or a workspace's live one, belongs to, and the
    name of the artifact.

    None for a file, an artifact on its own and anything else. Raises BundleError when the bundle was altered.
    """
    path = answering(path)
    if not path.is_dir():
        return None
    if _in_its_bundle(path):
        return open_bundle(path.absolute().parent.parent), path.absolute().name
    folder = path if _is_bundle(path) else path / "bundle"
    return (open_bundle(folder), None) if _is_bundle(folder) else None


def model_in(folder: Path) -> Path | None:
    """The model file of an artifact folder; None where there is none that can be opened here."""
    return next((folder / name for name in MODEL_FILES if (folder / name).is_file()), None)


def _locate_file(path: Path) -> Located:
    if path.name in MODEL_FILES and (path.parent / MANIFEST).is_file():
        return _locate_artifact(path.parent)
    return Located(model=path, info=None)


def _locate_artifact(folder: Path) -> Located:
    """An artifact folder: inside its bundle, copied out of it with its manifest, or a plain folder with a model."""
    if _in_its_bundle(folder):
        return _in_bundle(folder.absolute().parent.parent, folder.absolute().name)
    said = open_attachment(folder).manifest.details if (folder / MANIFEST).is_file() else {}
    return Located(
        model=_require_model(folder), info=None, engine=_said(said, "engine"), precision=_said(said, "precision")
    )


def _in_bundle(folder: Path, artifact: str | None = None) -> Located:
    """Without a name the ONNX artifact, or where there is none the first one that can be opened here."""
    bundle = open_bundle(folder)
    found = bundle.attachment(f"artifacts/{artifact or _usual(bundle)}")
    return Located(
        model=_require_model(found.path),
        info=info_of(bundle),
        conformal=read_conformal(read_scores(bundle), classes=len(bundle.labels)),
        engine=_said(found.manifest.details, "engine"),
        precision=_said(found.manifest.details, "precision"),
    )


def _usual(bundle: Bundle) -> str:
    present = bundle.artifacts()
    if ARTIFACT in present or not present:
        return ARTIFACT
    folder = bundle.path / "artifacts"
    return next((name for name in present if model_in(folder / name) is not None), present[0])


def _said(details: dict[str, Any], key: str) -> str | None:
    """A text in the details of an artifact's manifest; None where it says nothing of the kind."""
    value = details.get(key)
    return value if isinstance(value, str) else None


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and model_in(folder) is None and _foreign_in(folder) is None


def _in_its_bundle(folder: Path) -> bool:
    """Whether `folder` is `<bundle>/artifacts/<name>`."""
    return folder.absolute().parent.name == "artifacts" and _is_bundle(folder.absolute().parent.parent)


def _foreign_in(folder: Path) -> str | None:
    """Who opens the file in `folder` that nobody opens here."""
    return next((who for name, who in FOREIGN_FILES.items() if (folder / name).exists()), None)


def _require_model(folder: Path) -> Path:
    model = model_in(folder)
    if model is not None:
        return model
    who = _foreign_in(folder)
    what = "the artifact holds no model that can be opened here"
    hint = f"open another artifact of the bundle, such as artifacts/{ARTIFACT}"
    raise BundleError(what if who is None else f"{what}: it is for {who}", where=str(folder), hint=hint)


def info_of(bundle: Bundle) -> ArtifactInfo:
    """What an artifact of `bundle` needs to know about it."""
    return ArtifactInfo(
        labels=bundle.labels,
        preprocess=bundle.preprocess,
        decision=bundle.decision,
        bundle_id=bundle.manifest.id,
        licence=bundle.manifest.weights_licence,
    )


def _neighbors(path: Path) -> str | None:
    try:
        return nearest(path.name, [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")])
    except OSError:
        return None
