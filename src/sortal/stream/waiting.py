"""What waits for a thread: a bounded queue in which the oldest makes room for the newest. Nobody waits to put."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Waiting(Generic[Item]):
    """`most` items at most. Put from any thread, taken by one."""

    def __init__(self, most: int):
        self.dropped = 0
        """Items that nobody took."""
        self._most = most
        self._items: deque[Item] = deque()
        self._change, self._is_ending = threading.Condition(), False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Add an item; never waits."""
        with self._change:
            if len(self._items) >= self._most:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._change.notify()

    def take(self) -> Item | None:
        """The oldest, as soon as there is one; None where all were taken and no more are expected."""
        with self._change:
            self._change.wait_for(lambda: self._items or self._is_ending)
            return self._items.popleft() if self._items else None

    def rest(self, seconds: float) -> bool:
        """Wait, but no longer than until the end; whether it has come."""
        with self._change:
            return bool(self._change.wait_for(lambda: self._is_ending, seconds))

    def end(self) -> None:
        """No more items are expected."""
        with self._change:
            self._is_ending = True
            self._change.notify_all()

    def clear(self) -> None:
        """Drop what waits."""
        with self._change:
            self.dropped += len(self._items)
            self._items.clear()
