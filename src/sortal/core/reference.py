"""The bundle's attachment `reference/`: what the classifier learned from, small enough to travel with it.

Embeddings of some training images (for drift, for nearest images), digests of every image that training, validation or
calibration saw (so that a hold-out is refused that is none), what the unknown score is computed from, and the scores
behind prediction sets. `reference.json` holds texts, `reference.safetensors` and
`conformal.safetensors` arrays; all are verified by the
attachment's manifest, nothing in them is executable.

Shapes: M reference images, D embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from sortal.core.bundle import Bundle, attach
from sortal.core.canonical import pretty
from sortal.core.errors import BundleError
from sortal.core.manifest import AttachmentManifest, check_file, explain, parse_json, read_manifest, read_plain
from sortal.core.tensor_bytes import from_tensors, to_tensors

MAX_IMAGES = 5_000
"""Reference images at most."""
MAX_EMBEDDING_BYTES = 32 << 20
"""Their embeddings at most; wide embeddings are kept of fewer images."""

_NAME = "reference"
_TEXTS, _ARRAYS, _SCORES = "reference.json", "reference.safetensors", "conformal.safetensors"
_MAX_BYTES = 200_000_000
_UNKNOWN = "unknown."


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a bundle remembers of its images. Arrays may be empty: then that was not kept."""

    embeddings: NDArray[np.float16]
    """(M, D) of training images, as the exported graph computes them; spread over the classes."""
    labels: NDArray[np.int64]
    """(M,) class indices."""
    names: tuple[str, ...]
    """(M,) as the table of the run calls them."""
    seen: NDArray[np.uint64]
    """Sorted `seen_key`s of all images that training, validation or calibration used."""
    unknown: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """What the unknown score is computed from, by name; see `evaluate.unknown`."""
    conformal: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """`scores` (n,) and `labels` (n,) of calibration images; see `core.conformal`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it came about, as plain data: what was tried, how it validated."""

    def has_seen(self, digests: Iterable[str | None]) -> NDArray[np.bool_]:
        """Which of some content digests (hexadecimal SHA-256, as a table's column `digest`) belong to images seen
        before. None counts as not seen."""
        keys = [None if digest is None else seen_key(digest) for digest in digests]
        known = np.isin(np.array([key or 0 for key in keys], np.uint64), self.seen)
        return np.asarray(known & np.array([key is not None for key in keys], bool))


def seen_key(digest: str) -> int:
    """The first 8 bytes of a hexadecimal digest as a number. Of 100,000 images and as many keys, two meet by chance
    with probability 5e-10."""
    return int(digest[:16], 16)


def seen_keys(digests: Iterable[str | None]) -> NDArray[np.uint64]:
    """Sorted keys of digests, each once; None is passed over."""
    return np.unique(np.array([seen_key(digest) for digest in digests if digest is not None], np.uint64))


def write_reference(bundle: Path, reference: Reference, *, replace: bool = False) -> Path:
    """Attach `reference/` to the bundle. Raises InputError when it has one and `replace` is False."""

    def write(folder: Path) -> None:
        texts = _Texts(names=reference.names, facts=dict(reference.facts))
        (folder / _TEXTS).write_bytes(pretty(texts.model_dump(mode="json")).encode())
        (folder / _ARRAYS).write_bytes(to_tensors(_arrays_of(reference)))
        if reference.conformal:
            (folder / _SCORES).write_bytes(to_tensors(reference.conformal))

    return attach(bundle, _NAME, write, replace=replace)


def read_reference(bundle: Bundle) -> Reference | None:
    """The reference of a bundle, verified; None where it has none, or one of a time before there was this format.

    Raises BundleError when it was altered.
    """
    if not (bundle.path / _NAME).is_dir():
        return None
    attachment = bundle.attachment(_NAME)
    if _TEXTS not in attachment.manifest.files:
        return None
    folder = attachment.path
    where = str(folder)
    try:
        texts = _Texts.model_validate(parse_json(read_plain(folder / _TEXTS, max_bytes=_MAX_BYTES), where=where))
    except ValidationError as error:
        raise BundleError(f"not a valid reference: {explain(error)}", where=where) from error
    arrays = from_tensors(read_plain(folder / _ARRAYS, max_bytes=_MAX_BYTES), where=where)
    return _reference(texts, arrays, _read_scores(folder, attachment.manifest), where)


def read_scores(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """`Reference.conformal` alone, without reading and verifying the rest; empty where there is none."""
    folder = bundle.path / _NAME
    if not folder.is_dir():
        return {}
    manifest = read_manifest(AttachmentManifest, folder)
    if manifest.bundle != bundle.id:
        raise BundleError("this belongs to another bundle", where=str(folder), received=manifest.bundle)
    return _read_scores(folder, manifest)


def _read_scores(folder: Path, manifest: AttachmentManifest) -> dict[str, NDArray[Any]]:
    entry = manifest.files.get(_SCORES)
    if entry is None:
        return {}
    path = folder / _SCORES
    check_file(path, entry)
    return from_tensors(read_plain(path, max_bytes=_MAX_BYTES), where=str(path))


class _Texts(BaseModel):
    """`reference.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    names: tuple[str, ...]
    facts: dict[str, Any] = {}


def _arrays_of(reference: Reference) -> dict[str, NDArray[Any]]:
    return {
        "embeddings": reference.embeddings.astype(np.float16),
        "labels": reference.labels.astype(np.int64),
        "seen": reference.seen.astype(np.uint64),
        **{f"{_UNKNOWN}{name}": value for name, value in reference.unknown.items()},
    }


def _reference(
    texts: _Texts, arrays: dict[str, NDArray[Any]], conformal: dict[str, NDArray[Any]], where: str
) -> Reference:
    missing = [name for name in ("embeddings", "labels", "seen") if name not in arrays]
    if missing:
        raise BundleError("the reference lacks arrays", where=where, received=", ".join(missing))
    embeddings, labels = arrays["embeddings"], arrays["labels"]
    if embeddings.ndim != 2 or not len(embeddings) == len(labels) == len(texts.names):
        received = f"embeddings {embeddings.shape}, labels {labels.shape}, {len(texts.names)} names"
        raise BundleError("the parts of the reference do not fit each other", where=where, received=received)
    return Reference(
        embeddings=embeddings,
        labels=labels,
        names=texts.names,
        seen=arrays["seen"],
        unknown={name.removeprefix(_UNKNOWN): value for name, value in arrays.items() if name.startswith(_UNKNOWN)},
        conformal=conformal,
        facts=texts.facts,
    )
