"""What each class means, in words, kept beside the data as `classes.yaml`: so that two people label alike.

    required_role: expert          # optional: only readings by this role count
    classes:
      M6 bolt - zinc-plated:
        definition: Bright silver surface, no blue or black tint.
        examples: {positive: [bolts/001.jpg], negative: [bolts/117.jpg]}
        not_to_be_confused_with: [M6 bolt - blackened]
      scratch light: {definition: Visible only at an angle., grade: 1}

`grade` puts classes into an order (light, medium, severe).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sortal.core.errors import DataError, nearest
from sortal.core.labels import LabelSet
from sortal.core.publish import publish_file

FILE_NAME = "classes.yaml"
MAX_BYTES = 10_000_000


class Examples(BaseModel):
    """Images that show the class, and images that look like it and do not; paths relative to the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()


class ClassDefinition(BaseModel):
    """One class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    definition: str = ""
    examples: Examples = Examples()
    not_to_be_confused_with: tuple[str, ...] = ()
    grade: int | None = None


class Definitions(BaseModel):
    """All classes that are defined; a label set may have more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=1, ge=1, le=1)
    required_role: str | None = None
    classes: dict[str, ClassDefinition] = {}

    def confusions(self) -> frozenset[frozenset[str]]:
        """Pairs of class names that are known to be confused."""
        pairs = (
            frozenset((name, other)) for name, given in self.classes.items() for other in given.not_to_be_confused_with
        )
        return frozenset(pairs)

    def grades(self) -> tuple[str, ...]:
        """Class names by grade, lowest first; those without one are left out."""
        graded = [(given.grade, name) for name, given in self.classes.items() if given.grade is not None]
        return tuple(name for _, name in sorted(graded))


def find_definitions(root: Path | None) -> Definitions | None:
    """The definitions kept in the folder of the data, or None where there are none. Raises DataError."""
    path = None if root is None else root / FILE_NAME
    return load_definitions(path) if path is not None and path.is_file() else None


def load_definitions(path: Path) -> Definitions:
    """Raises DataError that names the file and the entry."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError("too large for class definitions", where=str(path), received=f"{path.stat().st_size} bytes")
        text = path.read_text(encoding="utf-8-sig")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise DataError("YAML aliases are refused: they can grow without bound", where=str(path))
        data = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read this file: {error}", where=str(path)) from error
    try:
        return Definitions.model_validate({} if data is None else data)
    except ValidationError as error:
        raise _explained(error, path) from error


def check_definitions(definitions: Definitions, labels: LabelSet, *, where: str = FILE_NAME) -> None:
    """Raises DataError, with the nearest names, where a class is defined or referred to that `labels` lacks."""
    known = labels.lookup()
    for name, given in definitions.classes.items():
        if name not in known:
            raise DataError("a class is defined that the images do not have", where=where, received=name,
                            hint=nearest(name, labels.names))  # fmt: skip
        for other in given.not_to_be_confused_with:
            if other == name or other not in known:
                what = "a class confused with itself" if other == name else "a confusion with an unknown class"
                raise DataError(what, where=f"{where}: {name}", received=other, hint=nearest(other, labels.names))


def save_definitions(definitions: Definitions, path: Path) -> None:
    """Write them so that `load_definitions` gives the same back. Raises MachineError."""
    data = definitions.model_dump(mode="json", exclude_defaults=True)
    publish_file(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100).encode())


def _explained(error: ValidationError, path: Path) -> DataError:
    first: Any = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    known = set(Definitions.model_fields) | set(ClassDefinition.model_fields) | set(Examples.model_fields)
    hint = nearest(str(first["loc"][-1]), known) if first["type"] == "extra_forbidden" else None
    return DataError(f"not valid: {place}: {first['msg']}", where=str(path), hint=hint)
