"""A watched folder: every image file that appears in it, once, in the order of name within that of time.

A file counts as whole when its size and time have not changed for a moment; who writes slowly writes elsewhere and
renames it into place. Names that start with a dot or end like those of files under way are left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from sortal.core.errors import ImageError, InputError, MachineError
from sortal.data.files import read_file
from sortal.stream.sources import Asked, CaptureError, Shot, whole_file

LOOK_S = 0.1
_OLD_S = 2.0
"""A file older than this when first seen is whole: nobody is writing it."""
_STILL_S = 0.3
"""A newer one is whole when it has not changed for so long."""
_REST = 5.0
"""Times as long as a look took are waited before the next one: a folder of very many files costs no core."""

Seen = dict[str, tuple[str, float]]
"""Name -> (state of the file, when it was seen so for the first time, in seconds)."""


class Folder:
    """Files as they appear."""

    live = False
    quiet = True

    def check(self, address: str) -> None:
        """Raises InputError where there is no such folder."""
        if not Path(address).is_dir():
            raise InputError("there is no such folder", where=address)

    def shots(self, address: str, asked: Asked) -> Iterator[Shot | None]:
        """Files that are there, then new ones, for ever; None after every look. Raises CaptureError when it is gone."""
        from sortal.data.formats.tree import IMAGE_SUFFIXES

        folder = Path(address)
        seen: Seen = {}
        done = dict(asked.done)
        while True:
            started_s = time.monotonic()
            ready, seen = self._look(folder, IMAGE_SUFFIXES, seen, done)
            looked_s = time.monotonic() - started_s
            for path, stamp in ready:
                done[path.name] = stamp
                yield self._shot(path, stamp)
                if asked.fps is not None:
                    time.sleep(1.0 / asked.fps)
            if asked.options.get("once") and not ready and not (seen.keys() - done.keys()):
                return
            done = {name: stamp for name, stamp in done.items() if name in seen}  # removed files are forgotten
            yield None
            if not ready:
                time.sleep(max(LOOK_S, _REST * looked_s))

    def _look(
        self, folder: Path, endings: tuple[str, ...], before: Seen, done: dict[str, str]
    ) -> tuple[list[tuple[Path, str]], Seen]:
        """(whole files that are new or newly written, in order; what was seen)."""
        seen: Seen = {}
        now_s = time.monotonic()
        ready: list[tuple[int, str, Path]] = []
        try:
            found = [path for path in folder.iterdir() if path.suffix.lower() in endings and path.name[0] != "."]
        except OSError as error:
            raise CaptureError("folder", f"the folder cannot be read: {error.strerror}") from error
        for path in found:
            try:
                status = path.stat()
            except OSError:
                continue  # gone between the two calls, or a link to nothing
            stamp = f"{status.st_mtime_ns}:{status.st_size}"
            known, since_s = before.get(path.name, ("", now_s))
            since_s = since_s if known == stamp else now_s
            seen[path.name] = stamp, since_s
            whole = now_s - since_s >= _STILL_S or time.time_ns() - status.st_mtime_ns > _OLD_S * 1e9
            if whole and done.get(path.name) != stamp:
                ready.append((status.st_mtime_ns, path.name, path))
        return [(path, seen[name][0]) for _, name, path in sorted(ready)], seen

    def _shot(self, path: Path, stamp: str) -> Shot:
        try:
            return whole_file(read_file(path), name=path.name, stamp=stamp)
        except ImageError as error:
            return Shot(reason=error.code, name=path.name, stamp=stamp)
        except MachineError as error:
            raise CaptureError("machine", error.what) from error


FOLDER = Folder()
