"""Weights cards: small YAML files that say everything needed to use the weights file beside them.

A folder of cards is an offline model zoo. Folders named in `SORTAL_ZOO` are searched first, then the user's cache.
Reading the weights themselves is `models.weights`; deciding which card a name means is `models.resolve`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sortal.core.errors import WeightsError, nearest
from sortal.core.places import cache_root, is_there

CARD_SUFFIXES = (".yaml", ".yml")


class CardInput(BaseModel):
    """The input that weights were trained on: a square of `size` pixels; mean and std are on the scale 0..1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=8, le=8192)]
    crop: Annotated[float, Field(gt=0.0, le=1.0)] = 0.875
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0.0)], ...]


class WeightsCard(BaseModel):
    """One card as it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Annotated[str, Field(min_length=1)]
    arguments: dict[str, Any] = {}
    """Passed to the architecture."""
    identity: tuple[str, ...] = ()
    """Sub-modules that are replaced by the identity after creation."""
    weights: str
    """Name of a safetensors file in the card's own folder."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    labels: str | None = None
    """Name of a text file in the card's own folder: one class a line, in order; see `class_names`."""
    input: CardInput | None = None
    licence: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    task: Literal["classification"] = "classification"
    parameters: int | None = None

    @field_validator("weights", "labels")
    @classmethod
    def _beside(cls, value: str | None) -> str | None:
        if value is not None and (Path(value).name != value or value in ("", "..", ".") or "\\" in value):
            raise ValueError("must be the name of a file in the folder of the card")
        return value

    @field_validator("weights")
    @classmethod
    def _safe(cls, value: str) -> str:
        if not value.endswith(".safetensors"):
            raise ValueError("must be a .safetensors file")
        return value


@dataclass(frozen=True, kw_only=True)
class StoredCard:
    """A card and the file it was read from."""

    path: Path
    card: WeightsCard

    @property
    def weights_path(self) -> Path:
        return self.path.parent / self.card.weights

    @property
    def labels_path(self) -> Path | None:
        return self.path.parent / self.card.labels if self.card.labels else None


def load_card(path: Path) -> StoredCard:
    """Read one card. Raises WeightsError when it is absent, not YAML, or has a missing, unknown or wrong field."""
    data = _read_yaml(path)
    if not isinstance(data, Mapping):
        raise WeightsError("a weights card must hold keys and values", where=str(path), received=type(data).__name__)
    try:
        return StoredCard(path=path, card=WeightsCard.model_validate(dict(data)))
    except ValidationError as error:
        raise _explain(error, path) from error


def list_cards(folder: Path) -> tuple[StoredCard, ...]:
    """All cards of a folder, sorted by file name; YAML files that name no architecture are something else.

    Raises WeightsError for a folder that cannot be read or a card that is not valid.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in CARD_SUFFIXES and path.is_file())
    except OSError as error:
        raise WeightsError(
            f"cannot read the model zoo: {error.strerror}",
            where=str(folder),
            hint="SORTAL_ZOO must name folders of weights cards",
        ) from error
    return tuple(load_card(path) for path in files if _names_architecture(path))


def zoo_folders() -> tuple[Path, ...]:
    """The folders of `SORTAL_ZOO`, in its order, then the cache where it exists."""
    named = [Path(part).expanduser() for part in os.environ.get("SORTAL_ZOO", "").split(os.pathsep) if part.strip()]
    cache = cache_folder()
    return (*named, cache) if is_there(cache) else tuple(named)


def zoo_cards() -> tuple[StoredCard, ...]:
    """Every card of every zoo folder, in search order."""
    return tuple(card for folder in zoo_folders() for card in list_cards(folder))


def find_card(name: str) -> tuple[StoredCard | None, tuple[str, ...]]:
    """The card that `name` means: one whose file has that stem, else the first whose architecture it is.

    Also returns sentences worth telling, for instance that several cards fit.
    """
    cards = zoo_cards()
    exact = [stored for stored in cards if stored.path.stem == name]
    fitting = exact or [stored for stored in cards if stored.card.architecture == name]
    if not fitting:
        return None, ()
    if len(fitting) == 1:
        return fitting[0], ()
    others = ", ".join(str(stored.path) for stored in fitting[1:])
    return fitting[0], (f"Several weights cards fit {name!r}: {fitting[0].path} is used, not {others}.",)


def cache_folder() -> Path:
    """Where downloaded weights are kept: in `places.cache_root`, or in the folder for temporary files where there is no
    home. It need not exist."""
    return (cache_root() or Path(tempfile.gettempdir()) / "sortal") / "weights"


def verified_weights(stored: StoredCard) -> Path:
    """The weights file of a card after its SHA-256 was compared. Raises WeightsError when absent or different."""
    path = stored.weights_path
    found = file_sha256(path, hint=f"the card {stored.path} names it")
    if found != stored.card.sha256:
        raise WeightsError(
            "the weights file is not the one its card describes (SHA-256 differs)",
            where=str(path),
            received=found,
            hint=f"expected {stored.card.sha256}; fetch the file again, or correct {stored.path.name}",
        )
    return path


def class_names(stored: StoredCard, *, classes: int) -> tuple[str, ...]:
    """The names of the `classes` classes that a card's weights tell apart; empty where it names no file.

    TensorFlow's lists begin with a class `background` that weights of one class less do not have: it is left out.
    Raises WeightsError when the file cannot be read or has another number of names.
    """
    if stored.labels_path is None:
        return ()
    try:
        names = tuple(stored.labels_path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read the class names: {error}", where=str(stored.labels_path)) from error
    if len(names) == classes + 1 and names[0].strip().lower() == "background":
        names = names[1:]
    if len(names) != classes:
        raise WeightsError(f"expected {classes} class names", where=str(stored.labels_path), received=str(len(names)))
    return names


def file_sha256(path: Path, *, hint: str | None = None) -> str:
    """SHA-256 of a file, 64 hex digits, read in pieces. Raises WeightsError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read the weights: {error.strerror}", where=str(path), hint=hint) from error


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError("there is no such weights card", where=str(path)) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise WeightsError(f"cannot read this weights card: {error}", where=str(path)) from error


def _names_architecture(path: Path) -> bool:
    data = _read_yaml(path)
    return isinstance(data, Mapping) and "architecture" in data


def _explain(error: ValidationError, path: Path) -> WeightsError:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = CardInput.model_fields if len(first["loc"]) > 1 else WeightsCard.model_fields
        hint = nearest(str(first["loc"][-1]), known)
        return WeightsError(f"unknown field {key!r} in this weights card", where=str(path), hint=hint)
    return WeightsError(f"{key}: {first['msg']}", where=str(path), received=repr(first["input"]))
