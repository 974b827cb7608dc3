"""Clusters that a chain cannot grow without end: two are joined only where their first rows are near as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Near = Callable[[int, int], bool]


class Leaders:
    """Union-find whose clusters are named by their lowest row, the leader. `near` judges two leaders."""

    def __init__(self, near: Near) -> None:
        self._near = near
        self._above: dict[int, int] = {}

    def of(self, row: int) -> int:
        """The leader of the cluster of `row`."""
        path = [row]
        while (above := self._above.get(path[-1], path[-1])) != path[-1]:
            path.append(above)
        self._above.update(dict.fromkeys(path, path[-1]))
        return path[-1]

    def join(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Make one cluster of two for each pair, the surest first, where that may be."""
        for first, second in pairs:
            low, high = sorted((self.of(first), self.of(second)))
            if low != high and ((low, high) == (first, second) or self._near(low, high)):
                self._above[high] = low
