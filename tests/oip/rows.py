"""The table of rows: what is checked, over which way, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from target import Target

Check = Callable[[Target], None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    way: str
    title: str
    check: Check
    needs: tuple[str, ...]
    """Addresses: http, grpc."""


ROWS: list[Row] = []


def row(way: str, title: str, *, needs: tuple[str, ...] | None = None) -> Callable[[Check], Check]:
    """Put a check into the table. It fails where it raises, and is not counted where it raises NotOfferedError."""

    def put(check: Check) -> Check:
        ROWS.append(Row(way=way, title=title, check=check, needs=needs or (way,)))
        return check

    return put
