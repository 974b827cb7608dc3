"""LabelSet: which class an index means, frozen at the first training and carried by every artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sortal.core.canonical import digest
from sortal.core.errors import DataError, nearest


class LabelSet(BaseModel):
    """Ordered class names; position is the class index everywhere.

    `parents[i]` is the coarse class of `names[i]` (a one-level taxonomy), or None where there is no taxonomy.
    `aliases` maps other spellings to a name; `display` maps a name to a longer text for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=1, ge=1, le=1)
    names: tuple[str, ...]
    parents: tuple[str, ...] | None = None
    aliases: dict[str, str] = {}
    display: dict[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"class names must be unique, given twice: {', '.join(twice[:5])}")
        if any(not name or name != name.strip() for name in self.names):
            raise ValueError("class names may not be empty or start or end with white space")
        if self.parents is not None and len(self.parents) != len(self.names):
            raise ValueError(f"{len(self.names)} names but {len(self.parents)} parents")
        unknown = sorted(set(self.aliases.values()) - set(self.names))
        if unknown:
            raise ValueError(f"aliases point to unknown classes: {', '.join(unknown[:5])}")
        return self

    def __len__(self) -> int:
        return len(self.names)

    @property
    def digest(self) -> str:
        """SHA-256 over names and parents in order: what has to agree for indices to mean the same."""
        return digest({"names": list(self.names), "parents": self.parents and list(self.parents)})

    def index(self, name: str) -> int:
        """The index of a name or alias. Raises DataError that names the nearest known classes."""
        found = self.lookup().get(name)
        if found is None:
            raise DataError("unknown class", received=name, hint=nearest(name, self.names))
        return found

    def lookup(self) -> dict[str, int]:
        """Every name and alias with its index."""
        table = {name: index for index, name in enumerate(self.names)}
        table.update({alias: table[name] for alias, name in self.aliases.items() if alias not in table})
        return table

    def coarse(self) -> LabelSet | None:
        """The coarse classes in order of first appearance, or None where there is no taxonomy."""
        return None if self.parents is None else LabelSet(names=tuple(dict.fromkeys(self.parents)))

    def coarse_index(self) -> list[int] | None:
        """For each class the index of its coarse class, or None where there is no taxonomy."""
        coarse = self.coarse()
        if coarse is None or self.parents is None:
            return None
        table = coarse.lookup()
        return [table[parent] for parent in self.parents]

    def mapping_from(self, other: LabelSet) -> list[int]:
        """For each class of `other` its index here, -1 where this set lacks it."""
        table = self.lookup()
        return [table.get(name, -1) for name in other.names]


def label_set(names: Sequence[str], parents: Mapping[str, str] | None = None, **fields: Any) -> LabelSet:
    """A LabelSet from names and, if there is a taxonomy, a mapping from every name to its parent."""
    given = None if parents is None else tuple(parents[name] for name in names)
    return LabelSet(names=tuple(names), parents=given, **fields)
