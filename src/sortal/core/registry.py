"""Readable tables of plug-ins: `name -> "module:attribute"`, imported on first use.

A package that can be extended shows its table on its front page; strangers add members through package entry points of
the group `sortal.<kind>`. Nothing registers itself on import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sortal.core.errors import InputError, nearest


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Named members of one kind, for example `Registry(kind="dataset format", group="sortal.formats", table={...})`."""

    kind: str
    group: str
    table: Mapping[str, str]

    def names(self) -> list[str]:
        """Own members in table order, then those that other packages add, sorted."""
        return [*self.table, *sorted(set(self._foreign()) - set(self.table))]

    def get(self, name: str) -> Any:
        """The member called `name`, imported now. Raises InputError that names the nearest known ones."""
        if name in self.table:
            module, _, attribute = self.table[name].partition(":")
            loaded = import_module(module)
            return getattr(loaded, attribute) if attribute else loaded
        foreign = self._foreign()
        if name in foreign:
            return foreign[name].load()
        raise InputError(f"unknown {self.kind}", received=name, hint=nearest(name, self.names()))

    def _foreign(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}
