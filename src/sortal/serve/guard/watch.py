"""Files that are read again when they change: what was good stays in force until what replaces it is good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from sortal.core.errors import SortalError
from sortal.serve.account import Told

_LOOK_S = 0.5


class Watched:
    """Some files, and what is done when any of them is another one than before."""

    def __init__(self, name: str, paths: Sequence[Path], load: Callable[[], None], log: Told):
        self._name, self._paths, self._load, self._log = name, tuple(paths), load, log
        self._seen = self._state()

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Load what has changed. What cannot be loaded is logged, and tried again when it changes again."""
        now = self._state()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._load()
        except (SortalError, OSError) as error:  # OSError: it went away while it was read
            self._log({"event": f"{self._name} not reloaded", "reason": str(error)})
        else:
            self._log({"event": f"{self._name} reloaded"})

    def _state(self) -> tuple[tuple[int, ...], ...]:
        return tuple(_state(path) for path in self._paths)


def _state(path: Path) -> tuple[int, ...]:
    """What differs when a file was replaced or written to; empty where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode
