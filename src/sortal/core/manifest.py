"""Manifests: which files belong together, with their digests, so that any change to them is noticed.

A bundle has one for its identity, each attachment (artifact, report, reference) has its own. A manifest also covers
itself: its `id` is the digest of everything else in it. That finds damage and careless edits; it is no signature.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from sortal.core.canonical import digest, parse, pretty
from sortal.core.errors import BundleError, InputError
from sortal.core.publish import HIDDEN, machine_error

MANIFEST = "manifest.json"
FORMAT = 1

MAX_MANIFEST_BYTES = 10_000_000

_LATER = frozenset({"hidden", "fusion", "attention", "attention_stage", "pooling", "views", "cut"})
"""Fields of `ModelSpec` that came after its first version."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """What a file has to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    """Bytes."""


class ModelSpec(BaseModel):
    """The network inside: what builds it again and what an engine may expect of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    arguments: dict[str, Any] = {}
    """Passed to the architecture."""
    identity: tuple[str, ...] = ()
    """Sub-modules that were replaced by the identity after creation."""
    head: str = "linear"
    """`linear`, `mlp`, `multi_scale`; `imported` where it is not known."""
    hidden: Annotated[int, Field(ge=1)] | None = None
    """Width of the hidden layer of an `mlp` head."""
    fusion: Literal["learned"] | Annotated[float, Field(ge=0.0, le=1.0)] = 0.7
    """Share of the last stage's logits in a `multi_scale` head."""
    attention: Literal["cbam"] | None = None
    attention_stage: int | None = None
    """Index of the stage of the backbone that the attention follows; null is the last."""
    pooling: Literal["mean", "sqrt", "stages"] = "mean"
    """How feature maps become the embedding."""
    views: Literal["single", "mirror"] = "single"
    """What an answer is averaged over: the image, or the image and its mirror image."""
    cut: dict[str, tuple[Annotated[int, Field(ge=1)] | None, ...]] = {}
    """Shapes of the backbone's tensors that were pruned; null where a dimension is the architecture's own."""
    classes: Annotated[int, Field(ge=1)]
    embedding: Annotated[int, Field(ge=0)]
    """Length of the embedding vector; 0 where the model has no such output."""
    parameters: Annotated[int, Field(ge=0)]
    """How many; 0 where nobody counted them."""
    source: str | None = None
    """Where the pretrained weights or the imported file came from, with its digest."""

    @model_serializer(mode="wrap")
    def _only_what_is_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the later fields where they have their defaults: older versions then read the bundle too."""
        data: dict[str, Any] = dump(self)
        fields = type(self).model_fields
        return {key: value for key, value in data.items() if key not in _LATER or value != fields[key].default}


class Manifest(BaseModel):
    """`manifest.json` of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    task: Literal["classification"] = "classification"
    id: Sha256
    """Digest of everything else in this manifest, hence of every identity file."""
    parent: Sha256 | None = None
    """The id of the bundle that this one was made from."""
    created: str
    """UTC, ISO 8601, whole seconds."""
    sortal_version: str
    data_digest: str | None = None
    """Content digest of the images it was trained on."""
    model: ModelSpec
    weights_licence: str
    files: dict[str, FileEntry]


class AttachmentManifest(BaseModel):
    """`manifest.json` of an attachment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    kind: Literal["artifact", "report", "reference"]
    id: Sha256
    """Digest of everything else in this manifest."""
    bundle: Sha256
    """The id of the bundle that it was made for."""
    created: str
    """UTC, ISO 8601, whole seconds."""
    details: dict[str, Any] = {}
    """What the kind has to say: engine, precision, parity ..."""
    files: dict[str, FileEntry]


AnyManifest = TypeVar("AnyManifest", Manifest, AttachmentManifest)


def seal(kind: type[AnyManifest], fields: Mapping[str, Any]) -> AnyManifest:
    """A manifest from all its fields but `id`, which is computed."""
    draft = kind.model_validate({**fields, "id": "0" * 64}).model_dump(mode="json")
    return kind.model_validate(draft | {"id": _own_digest(draft)})


def to_text(manifest: Manifest | AttachmentManifest) -> str:
    """The one text that a manifest has on disk."""
    return pretty(manifest.model_dump(mode="json"))


def read_manifest(kind: type[AnyManifest], folder: Path) -> AnyManifest:
    """The manifest of `folder`. Raises BundleError when it is absent, damaged, altered or of an unknown format."""
    path = folder / MANIFEST
    data = parse_json(read_plain(path, max_bytes=MAX_MANIFEST_BYTES), where=str(path), exact=True)
    _check_format(data, str(path))
    if data.get("id") != _own_digest(data):
        raise BundleError("the manifest was altered: its id does not fit its content", where=str(path))
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise BundleError(f"not a valid manifest: {explain(error)}", where=str(path)) from error


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Every file under `folder` but its manifest, by relative path with forward slashes.

    Raises BundleError for anything that is neither a regular file nor a folder.
    """
    return {name: FileEntry(sha256=sha256(folder / name), size=size) for name, size in sorted(_walk(folder).items())}


def check_files(folder: Path, expected: Mapping[str, FileEntry]) -> None:
    """Raise BundleError unless `folder` holds exactly the `expected` files beside its manifest, all unchanged."""
    present = _walk(folder)
    for name in sorted(present.keys() ^ expected.keys()):
        what = "the manifest does not list this file" if name in present else "this file is missing"
        raise BundleError(what, where=str(folder / name))
    for name, entry in expected.items():
        check_file(folder / name, entry)


def check_file(path: Path, entry: FileEntry, *, content: bool = True) -> None:
    """Raise BundleError unless `path` is a regular file of that size and, if `content`, of that digest."""
    size = regular_size(path)
    if size != entry.size:
        raise BundleError("the file was altered", where=str(path), received=f"{size} bytes, not {entry.size}")
    if content and sha256(path) != entry.sha256:
        raise BundleError("the file was altered: its SHA-256 differs from the manifest", where=str(path))


def regular_size(path: Path) -> int:
    """Bytes of a regular file; links are not followed. Raises BundleError for anything else."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError("this file is missing", where=str(path)) from error
    except OSError as error:
        raise machine_error(error, path) from error
    if not stat.S_ISREG(found.st_mode):
        raise BundleError("not a plain file (links and devices are refused)", where=str(path))
    return found.st_size


def sha256(path: Path) -> str:
    """Digest of a file's content, 64 hex digits."""
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise machine_error(error, path) from error


def read_plain(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`. Raises BundleError."""
    size = regular_size(path)
    if size > max_bytes:
        raise BundleError("the file is too large to be genuine", where=str(path), received=f"{size:,} bytes")
    try:
        return path.read_bytes()
    except OSError as error:
        raise machine_error(error, path) from error


def parse_json(raw: bytes, *, where: str, exact: bool = False) -> dict[str, Any]:
    """A JSON object. `exact` also refuses any other spelling of it than the one Sortal writes. Raises BundleError."""
    try:
        data = parse(raw.decode("utf-8"), where=where)
        same = not exact or pretty(data).encode() == raw
    except (InputError, ValueError, RecursionError) as error:
        raise BundleError("the file is damaged: it is not valid JSON", where=where) from error
    if not isinstance(data, dict):
        raise BundleError("the file is damaged: it holds no JSON object", where=where)
    if not same:
        raise BundleError("the file was altered: this is not how Sortal writes it", where=where)
    return data


def explain(error: ValidationError) -> str:
    """The first complaint of pydantic in one line."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def is_hidden(name: str) -> bool:
    """Whether a name belongs to a publication under way or broken off, which readers pass over."""
    return name.startswith(HIDDEN)


def _own_digest(data: Mapping[str, Any]) -> str:
    try:
        return digest({key: value for key, value in data.items() if key != "id"})
    except ValueError as error:  # half a surrogate pair
        raise BundleError("the manifest holds text that is not Unicode") from error


def _check_format(data: Mapping[str, Any], where: str) -> None:
    found = data.get("format")
    if type(found) is int and found > FORMAT:
        raise BundleError(
            f"written by a newer Sortal: format {found}, this one reads {FORMAT}",
            where=where,
            hint="pip install --upgrade sortal",
        )
    if type(found) is not int or found != FORMAT:
        raise BundleError("not a format that Sortal ever wrote", where=where, received=repr(found)[:80])


def _walk(folder: Path) -> dict[str, int]:
    """Relative path -> bytes of every file but the manifest of `folder` itself."""
    found: dict[str, int] = {}
    try:
        for parent, folders, names in os.walk(folder, onerror=_raise):
            for name in [*names, *(name for name in folders if Path(parent, name).is_symlink())]:
                path = Path(parent, name)
                found[PurePosixPath(*path.relative_to(folder).parts).as_posix()] = regular_size(path)
            if not names and not folders and Path(parent) != folder:
                raise BundleError("an empty folder that the manifest cannot list", where=parent)
    except OSError as error:
        raise machine_error(error, folder) from error
    found.pop(MANIFEST, None)
    return found


def _raise(error: OSError) -> None:
    raise error
