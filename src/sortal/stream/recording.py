"""Frames kept as a data set: image files, and `frames.jsonl` with when, where from, checksum and what was said.

`sortal audit folder/frames.jsonl` reads it. What a frame was answered with stands in `said`, never in `label`: nobody
has said yet what it shows. Written by a thread; what it cannot keep up with is counted and not kept.
"""

from __future__ import annotations

import errno
import io
import json
import os
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from sortal.core.errors import ImageError, InputError, MachineError, SortalError
from sortal.core.publish import publish_file
from sortal.data.decode import decode
from sortal.stream.frame import ABSTAINED, REJECTED, UNKNOWN
from sortal.stream.log import Told
from sortal.stream.waiting import Waiting

What = Literal["all", "doubtful", "changed"]
TABLE, FRAMES = "frames.jsonl", "frames"
QUALITY = 95
MOST_WAITING = 32
_ENDINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}
_DOUBTFUL = (ABSTAINED, UNKNOWN, REJECTED)


class Recording:
    """A folder that grows to `most_mb` and then no more."""

    def __init__(self, folder: Path, *, what: What, most_mb: float, log: Told):
        self.kept, self.bytes = 0, 0
        self.is_full = False
        self._refused, self._trouble = 0, ""
        self._folder, self._what, self._most, self._log = folder, what, most_mb * 1e6, log
        self._said: str | None = None
        self._waiting: Waiting[tuple[bytes, dict[str, Any]]] = Waiting(MOST_WAITING)
        self._prepare()
        self._thread = threading.Thread(target=self._run, name="sortal-recording", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Frames that should have been kept."""
        return self._waiting.dropped + self._refused

    @property
    def table(self) -> Path:
        """The list of frames."""
        return self._folder / TABLE

    def see(self, data: bytes | None, said: str, record: dict[str, Any]) -> None:
        """Keep a frame that was answered, where it is of the kind that is kept; never waits."""
        changed, self._said = said != self._said, said
        wanted = self._what == "all" or (self._what == "changed" and changed)
        wanted = wanted or (self._what == "doubtful" and record["state"] in _DOUBTFUL)
        if wanted and data and not self.is_full:
            self._waiting.put((data, record))

    def close(self, limit_s: float) -> None:
        """Write what waits, for `limit_s` at most."""
        self._waiting.end()
        self._thread.join(limit_s)
        self._waiting.clear()

    def _prepare(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError("no folder to record into", where=str(self._folder))
        try:
            (self._folder / FRAMES).mkdir(parents=True, exist_ok=True)
            self.bytes = sum(path.stat().st_size for path in (self._folder / FRAMES).iterdir() if path.is_file())
            self._mend()
        except OSError as error:
            raise MachineError(f"cannot record: {error.strerror}", where=str(self._folder)) from error

    def _mend(self) -> None:
        """A line that a crash cut off is taken away."""
        if not self.table.exists():
            return
        with self.table.open("r+b") as file:
            text = file.read()
            if text and not text.endswith(b"\n"):
                file.truncate(text.rfind(b"\n") + 1)

    def _run(self) -> None:
        while (waiting := self._waiting.take()) is not None:
            data, record = waiting
            try:
                self._write(data, record)
            except (OSError, SortalError) as error:
                self._refused += 1
                self._tell(error.what if isinstance(error, SortalError) else f"{error.strerror}")
            else:
                self._tell("")

    def _tell(self, trouble: str) -> None:
        """Say that frames cannot be kept, or can be again, when that changes."""
        if trouble != self._trouble:
            self._trouble = trouble
            self._log({"event": "not recorded" if trouble else "recorded again", "message": trouble})

    def _write(self, data: bytes, record: dict[str, Any]) -> None:
        data, ending = as_file(data)
        if self.bytes + len(data) > self._most:
            if not self.is_full:
                self._log({"event": "recording full", "folder": str(self._folder), "mb": round(self.bytes / 1e6, 1)})
            self.is_full = True
            return
        stamp = record["time"].replace(":", "").replace("-", "").replace(".", "").partition("+")[0]
        digest = sha256(data).hexdigest()
        name = f"{FRAMES}/{stamp}-{record['frame']:08d}-{digest[:8]}{ending}"
        publish_file(self._folder / name, data)
        said = {"state": record["state"], "said": record.get("label"), "probability": record.get("probability")}
        line = {"path": name, "time": record["time"], "camera": record["camera"], "frame": record["frame"]}
        line |= {"sha256": digest, **said, "bundle_id": record["bundle_id"]}
        try:
            self._append(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            (self._folder / name).unlink(missing_ok=True)
            raise
        self.bytes += len(data)
        self.kept += 1

    def _append(self, line: bytes) -> None:
        """A whole line of the table, or nothing. Raises OSError."""
        with self.table.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


def as_file(data: bytes) -> tuple[bytes, str]:
    """The bytes to keep and the ending of their name: JPEG and PNG as they came, pixels as JPEG, and what cannot be
    read as it came, so that somebody can look why."""
    for start, ending in _ENDINGS.items():
        if data.startswith(start):
            return data, ending
    try:
        grey = data.startswith(b"P5")
        pixels = decode(data, channels=1 if grey else 3)
    except ImageError:
        return data, ".bin"
    file = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
    image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue(), ".jpg"
