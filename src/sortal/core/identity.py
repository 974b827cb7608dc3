"""What a bundle is made of: the names of its files, how they are read, and what has to agree between them.

`core.bundle` composes these checks; nothing here writes.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, InputError
from sortal.core.labels import LabelSet
from sortal.core.manifest import MANIFEST, FileEntry, Manifest, ModelSpec, explain, is_hidden, parse_json, read_plain
from sortal.core.publish import machine_error

LABELS, PREPROCESS, DECISION = "labels.json", "preprocess.json", "decision.json"
CONTRACT, RECIPE, WEIGHTS = "contract.yaml", "recipe.yaml", "weights.safetensors"
REQUIRED = frozenset({LABELS, PREPROCESS, DECISION})
OPTIONAL = frozenset({CONTRACT, RECIPE, WEIGHTS})

CARD = "CARD.md"
KINDS = {"artifacts": "artifact", "reports": "report", "reference": "reference"}
"""Folders of attachments and the kind that their manifests state."""

_MAX_TEXT_BYTES = 50_000_000

Model = TypeVar("Model", bound=BaseModel)


def read_json(model: type[Model], path: Path, entry: FileEntry) -> Model:
    """A verified JSON file as `model`. Raises BundleError that names the file."""
    return _validate(model, parse_json(_read_verified(path, entry), where=str(path)), path)


def read_yaml(model: type[Model], path: Path, entry: FileEntry) -> Model:
    """A verified YAML file as `model`. Raises BundleError that names the file."""
    try:
        text = _read_verified(path, entry).decode("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise BundleError("YAML aliases are refused: they can grow without bound", where=str(path))
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BundleError("the file is damaged: it is not valid YAML", where=str(path)) from error
    return _validate(model, data, path)


def check_names(folder: Path, manifest: Manifest) -> None:
    """Raise BundleError unless `folder` holds what the manifest lists and attachments, and nothing beside."""
    listed = set(manifest.files)
    if not REQUIRED <= listed <= REQUIRED | OPTIONAL:
        wrong = ", ".join(sorted((REQUIRED - listed) | (listed - REQUIRED - OPTIONAL)))
        raise BundleError("the manifest lists too little or too much", where=str(folder / MANIFEST), received=wrong)
    for name in names(folder):
        if name not in {MANIFEST, CARD, *listed, *KINDS}:
            raise BundleError("the manifest does not list this file", where=str(folder / name))
    attached = [f"{group}/{name}" for group in ("artifacts", "reports") for name in names(folder / group)]
    for name in (*KINDS, *attached):
        _check_folder(folder / name)


def check_parts(
    labels: LabelSet, decision: DecisionSpec, contract: Contract | None, model: ModelSpec, *, where: str
) -> None:
    """Raise BundleError unless all parts speak of the same classes."""
    classes = len(labels)
    costs = decision.costs or ()
    counts = [("the model", model.classes)]
    counts += [("decision bias", len(decision.bias))] if decision.bias is not None else []
    counts += (
        [("decision class_thresholds", len(decision.class_thresholds))] if decision.class_thresholds is not None else []
    )
    counts += [("decision doubts", len(decision.doubts))] if decision.doubts is not None else []
    counts += [("decision costs", len(part)) for part in (costs, *costs) if decision.costs is not None]
    for part, count in counts:
        if count != classes:
            raise BundleError(f"{part} has {count} classes, the labels have {classes}", where=where)
    for name in () if contract is None else (*contract.recall, *contract.prevalence):
        if name not in labels.names:
            raise BundleError("the contract speaks of a class that the labels lack", where=where, received=name)


def attachment_folder(bundle: Path, name: str) -> Path:
    """Where the attachment of that name belongs. Raises InputError when it is no name for one."""
    group, slash, own = name.partition("/")
    plain = re.fullmatch(r"\w(?:[\w.+-]{0,98}\w)?", own) is not None
    if group not in KINDS or (bool(slash) == (group == "reference")) or (bool(slash) and not plain):
        hint = "artifacts/<name>, reports/<name> or reference; names are letters, digits and . + - _ inside"
        raise InputError("not a name for an attachment", received=name, hint=hint)
    return bundle / name


def names(folder: Path) -> list[str]:
    """What is in `folder`, sorted, without the remains of publications; nothing where it is absent or a link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    try:
        return sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise machine_error(error, folder) from error


def _read_verified(path: Path, entry: FileEntry) -> bytes:
    """Read once, verify and return the same bytes, so that nothing can change between."""
    raw = read_plain(path, max_bytes=_MAX_TEXT_BYTES)
    if len(raw) != entry.size or sha256(raw).hexdigest() != entry.sha256:
        raise BundleError("the file was altered: its SHA-256 differs from the manifest", where=str(path))
    return raw


def _validate(model: type[Model], data: Any, path: Path) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise BundleError(f"not valid: {explain(error)}", where=str(path)) from error


def _check_folder(path: Path) -> None:
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        raise BundleError("not a plain folder (links are refused)", where=str(path))
