"""What an artifact says about itself inside its own file, so that `model.onnx` alone can answer with class names.

The entries are JSON texts under `sortal.*` keys of the model's metadata; other tools show and keep them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sortal.core.canonical import canonical, parse
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, InputError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec

FORMAT = "1"

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class ArtifactInfo:
    """What one needs beside the graph to answer: classes, preprocessing, decision, and where it comes from."""

    labels: LabelSet
    preprocess: PreprocessSpec
    decision: DecisionSpec
    bundle_id: str
    licence: str


def to_metadata(info: ArtifactInfo) -> dict[str, str]:
    """The entries to write into the model's metadata."""
    return {
        "sortal.format": FORMAT,
        "sortal.labels": _dump(info.labels),
        "sortal.preprocess": _dump(info.preprocess),
        "sortal.decision": _dump(info.decision),
        "sortal.bundle_id": info.bundle_id,
        "sortal.licence": info.licence,
    }


def from_metadata(metadata: Mapping[str, str], *, where: str) -> ArtifactInfo:
    """Raises BundleError when an entry is missing, damaged or of a newer format."""
    if metadata.get("sortal.format") != FORMAT:
        raise BundleError(
            "the model says nothing about its classes and preprocessing that this version of Sortal understands",
            where=where,
            received=f"sortal.format = {metadata.get('sortal.format', 'absent')}",
            hint="a classifier from elsewhere becomes a bundle with: sortal import model.onnx --labels names.txt",
        )
    return ArtifactInfo(
        labels=_load(metadata, "sortal.labels", LabelSet, where),
        preprocess=_load(metadata, "sortal.preprocess", PreprocessSpec, where),
        decision=_load(metadata, "sortal.decision", DecisionSpec, where),
        bundle_id=metadata.get("sortal.bundle_id", ""),
        licence=metadata.get("sortal.licence", "unknown"),
    )


def _dump(value: BaseModel) -> str:
    return canonical(value.model_dump(mode="json")).decode()


def _load(metadata: Mapping[str, str], key: str, kind: type[_Model], where: str) -> _Model:
    try:
        return kind.model_validate(parse(metadata.get(key, ""), where=key))
    except (ValidationError, InputError) as error:
        raise BundleError(f"the model's metadata is damaged: {key}", where=where) from error
