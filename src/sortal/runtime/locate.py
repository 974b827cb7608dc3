"""Find the model file and what belongs to it, from any of the places a person may point at.

A run folder (its `bundle/`), a bundle folder, an artifact folder inside or outside a bundle, or a bare `model.onnx`
that carries Sortal's metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sortal.core.bundle import Bundle, open_attachment, open_bundle
from sortal.core.conformal import ConformalScores, read_conformal
from sortal.core.errors import BundleError, nearest
from sortal.core.manifest import MANIFEST
from sortal.core.reference import read_scores
from sortal.runtime.metadata import ArtifactInfo

MODEL_FILES = ("model.onnx", "model.xml")
ARTIFACT = "onnx"
"""The artifact that every engine here can open, taken where a path leaves the choice."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """A model file; `info` is None where only the file itself can say what it is."""

    model: Path
    info: ArtifactInfo | None
    conformal: ConformalScores | None = None
    """From the bundle's reference, where there is one."""


def locate(path: Path) -> Located:
    """The model file that `path` means. What has a manifest is verified: raises BundleError when it was altered."""
    if path.is_file():
        return _locate_file(path)
    if not path.is_dir():
        raise BundleError("there is no such model", where=str(path), hint=_neighbors(path))
    if _is_bundle(path):
        return _in_bundle(path)
    if _is_bundle(path / "bundle"):
        return _in_bundle(path / "bundle")
    if _model_in(path) is None:
        hint = "give a run or bundle folder such as runs/photos-1, or a model.onnx"
        raise BundleError("neither a run, a bundle nor an artifact", where=str(path), hint=hint)
    return _locate_artifact(path)


def _locate_file(path: Path) -> Located:
    if path.name in MODEL_FILES and (path.parent / MANIFEST).is_file():
        return _locate_artifact(path.parent)
    return Located(model=path, info=None)


def _locate_artifact(folder: Path) -> Located:
    """An artifact folder: inside its bundle, copied out of it with its manifest, or a plain folder with a model."""
    owner = folder.absolute().parent.parent
    if folder.absolute().parent.name == "artifacts" and _is_bundle(owner):
        return _in_bundle(owner, folder.absolute().name)
    if (folder / MANIFEST).is_file():
        open_attachment(folder)
    return Located(model=_require_model(folder), info=None)


def _in_bundle(folder: Path, artifact: str | None = None) -> Located:
    """Without a name the ONNX artifact, or the first one where there is none."""
    bundle = open_bundle(folder)
    present = bundle.artifacts()
    name = artifact or (ARTIFACT if ARTIFACT in present or not present else present[0])
    return Located(
        model=_require_model(bundle.artifact(name)),
        info=info_of(bundle),
        conformal=read_conformal(read_scores(bundle), classes=len(bundle.labels)),
    )


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and _model_in(folder) is None


def _model_in(folder: Path) -> Path | None:
    return next((folder / name for name in MODEL_FILES if (folder / name).is_file()), None)


def _require_model(folder: Path) -> Path:
    model = _model_in(folder)
    if model is None:
        raise BundleError("the artifact holds no model that can be opened here", where=str(folder))
    return model


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
