"""Which names of classes become labels of a series: so many that a database of series can bear them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MOST = 500
"""Different names in the life of a server; what comes later is counted together."""
OTHERS = "(others)"


def counted_names(names: Sequence[str], parents: Sequence[str] | None, *, taken: Collection[str]) -> list[str]:
    """For each class the name it is counted under: its own, its family's where there are more than `MOST` classes, or
    `OTHERS` where families are too many too. `taken` are names in use already, of classifiers that answered before."""
    for chosen in (names, parents):
        if chosen is not None and len(set(chosen) | set(taken)) <= MOST:
            return list(chosen)
    return [OTHERS] * len(names)
