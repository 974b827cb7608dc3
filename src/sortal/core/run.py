"""RunFolder: where one run keeps everything it leaves behind, under names that people of this field know.

Runs are numbered and never overwritten: `runs/photos-1`, `runs/photos-2` ... A run that is being written is locked; the
lock belongs to the process and is gone when the process is, however it ended.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sortal.core.errors import InputError
from sortal.core.lock import Lock, hold
from sortal.core.publish import machine_error, publish_file

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""What Windows keeps for devices: https://learn.microsoft.com/windows/win32/fileio/naming-a-file"""

LOCK = "run.lock"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of one run. Holds the lock until `close` when it was opened for writing; a context manager."""

    path: Path
    lock: Lock | None = None

    @property
    def name(self) -> str:
        """`photos-1`."""
        return self.path.name

    @property
    def bundle(self) -> Path:
        """The classifier, a folder."""
        return self.path / "bundle"

    @property
    def recipe_path(self) -> Path:
        """The whole recipe as asked for."""
        return self.path / "recipe.yaml"

    @property
    def plan_path(self) -> Path:
        """What every `auto` became."""
        return self.path / "plan.json"

    @property
    def state_path(self) -> Path:
        """How far the run came, for resuming."""
        return self.path / "state.json"

    @property
    def split_path(self) -> Path:
        """Which image went to which split."""
        return self.path / "split.csv"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line, one line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def results_path(self) -> Path:
        """Curves of the metrics, a picture."""
        return self.path / "results.png"

    @property
    def confusion_image_path(self) -> Path:
        """The confusion matrix, a picture."""
        return self.path / "confusion_matrix.png"

    @property
    def confusion_table_path(self) -> Path:
        """The confusion matrix, counts."""
        return self.path / "confusion_matrix.csv"

    @property
    def train_batch_path(self) -> Path:
        """The first training images as the network sees them."""
        return self.path / "train_batch.jpg"

    @property
    def val_predictions_path(self) -> Path:
        """Validation images with answers."""
        return self.path / "val_predictions.jpg"

    @property
    def predictions_path(self) -> Path:
        """One row an evaluated image."""
        return self.path / "predictions.csv"

    @property
    def report_path(self) -> Path:
        """The final evaluation, for programs."""
        return self.path / "report.json"

    @property
    def report_page_path(self) -> Path:
        """The final evaluation, for people."""
        return self.path / "report.html"

    @property
    def log_path(self) -> Path:
        """What happened when, UTC."""
        return self.path / "train.log"

    @property
    def test_reads_path(self) -> Path:
        """Every reading of a test split: one JSON object a line."""
        return self.path / "test_reads.jsonl"

    def log(self, message: str) -> None:
        """Append a line with the time (UTC) to `train.log`; line breaks inside are kept, indented."""
        self._append(self.log_path, f"{_now()} {message.rstrip().replace(chr(10), chr(10) + '    ')}")

    def record(self, metrics: Mapping[str, Any]) -> None:
        """Append a line to `metrics.jsonl`. NaN and infinity become null."""
        self._append(self.metrics_path, json.dumps(_plain(metrics), ensure_ascii=False, allow_nan=False))

    def records(self) -> list[dict[str, Any]]:
        """All lines of `metrics.jsonl`; the beginning of a line that was cut off is left out."""
        return _read_lines(self.metrics_path)

    def rewrite_records(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `metrics.jsonl` anew, as a whole: a run that is taken up again has each epoch once."""
        lines = [json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        publish_file(self.metrics_path, "".join(lines).encode())

    @property
    def finished(self) -> bool:
        """True when nothing is left to be done; a run that was stopped and then published is not finished."""
        state = _read_state(self.state_path)
        return self.report_path.exists() if state is None else state.get("finished") is True

    def log_test_read(self, reason: str) -> None:
        """Write down that the test split was read, when and why. Looking often makes it a validation split."""
        self._append(self.test_reads_path, json.dumps({"time": _now(), "reason": reason}, ensure_ascii=False))

    def test_reads(self) -> list[dict[str, Any]]:
        """All readings so far: `{"time": ..., "reason": ...}`."""
        return _read_lines(self.test_reads_path)

    def close(self) -> None:
        """Give the lock back; nothing when there is none."""
        if self.lock is not None:
            self.lock.release()

    def discard(self) -> None:
        """Remove a run that came to nothing, lock and all."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, path: Path, line: str) -> None:
        """One write of one line, so that lines of two processes do not mix."""
        try:
            with path.open("ab", buffering=0) as file:
                file.write(_separator(path) + line.encode("utf-8", "replace") + b"\n")
        except OSError as error:
            raise machine_error(error, path) from error


def new_run(root: Path, subject: str) -> RunFolder:
    """Claim the next free folder `<root>/<subject>-<number>` and lock it.

    Any `subject` will do: it is turned into a name that every operating system takes. Raises MachineError when the
    machine refuses.
    """
    name = folder_name(subject)
    try:
        root.mkdir(parents=True, exist_ok=True)
        number = _last_number(root, name) + 1
        while not _claim(root / f"{name}-{number}"):
            number += 1
    except OSError as error:
        raise machine_error(error, root) from error
    return open_run(root / f"{name}-{number}", write=True)


def open_run(path: Path, *, write: bool = False) -> RunFolder:
    """An existing run. `write` locks it, for going on with it.

    Raises InputError when there is no such folder, MachineError when another process is writing it.
    """
    if not path.is_dir():
        raise InputError("there is no run here", where=str(path))
    if not write:
        return RunFolder(path=path)
    return RunFolder(path=path, lock=hold(path / LOCK))


def take_run(path: Path, *, lock: bool = True) -> RunFolder:
    """A run that was broken off, locked for going on with it; a team's other processes leave the `lock` to the first.

    Raises InputError when there is no run or nothing left to do, MachineError when another process is writing it.
    """
    run = open_run(path)
    if run.finished:
        raise InputError("this run is finished", where=str(path), hint=f"sortal show {path}")
    for needed in (run.recipe_path, run.plan_path, run.state_path, run.split_path):
        if not needed.is_file():
            raise InputError(
                f"this run cannot be taken up again: it has no {needed.name}",
                where=str(path),
                hint="it ended before training began; start it anew with sortal train",
            )
    return open_run(path, write=True) if lock else run


def folder_name(subject: str) -> str:
    """`subject` as a folder name for any operating system: letters of all scripts stay, other signs become `-`."""
    text = unicodedata.normalize("NFC", subject.encode("utf-8", "replace").decode())
    kept = "".join(
        letter if letter.isalnum() or unicodedata.category(letter)[0] == "M" else _sign(letter) for letter in text
    )
    name = re.sub(r"-{2,}", "-", kept).strip("-._ ")
    while len(name.encode()) > 100:
        name = name[:-1]
    name = name.rstrip("-._ ")
    return f"run-{name}" if _RESERVED.fullmatch(name) else name or "run"


def _sign(letter: str) -> str:
    return letter if letter in "._-+" else "-"


def _last_number(root: Path, name: str) -> int:
    pattern = re.compile(re.escape(name) + r"-([1-9][0-9]{0,8})", re.IGNORECASE)
    found = [pattern.fullmatch(unicodedata.normalize("NFC", entry.name)) for entry in root.iterdir()]
    return max((int(match[1]) for match in found if match), default=0)


def _claim(path: Path) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _separator(path: Path) -> bytes:
    """A line break where the last line was cut off by a crash, so that the next line stays whole."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"


def _read_state(path: Path) -> dict[str, Any] | None:
    try:
        return _parse_line(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise machine_error(error, path) from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    except OSError as error:
        raise machine_error(error, path) from error
    return [found for line in lines if (found := _parse_line(line)) is not None]


def _parse_line(line: str) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _plain(value: Any) -> Any:
    """JSON types from what training code has at hand: numpy numbers too, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
