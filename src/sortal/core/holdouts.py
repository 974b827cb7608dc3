"""The ledger of hold-outs: which images were used to certify what, and when. Append-only, on this machine.

A hold-out that is looked at again and again becomes a validation set, whatever it is called; so uses are counted. One
is recognized by the content of its images, wherever they lie and whatever they are called, and by a part of them too.
`uses.jsonl` has one line a use; `images/<digest>.npy` the keys of the images (8 bytes each), once a hold-out.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.publish import disk_errors, publish_file
from sortal.core.reference import seen_keys

Keys = NDArray[np.uint64]

_USES, _IMAGES = "uses.jsonl", "images"


@dataclass(frozen=True, kw_only=True)
class Use:
    """One earlier use of a hold-out, of which `shared` images are in the one at hand."""

    time: str
    """UTC."""
    bundle: str
    subject: str
    images: int
    shared: int


def earlier_uses(root: Path, digests: Iterable[str | None]) -> list[Use]:
    """Every recorded use of images with these content digests, oldest first; what is damaged is passed over."""
    keys, found = seen_keys(digests), []
    known: dict[str, int] = {}
    for line in _lines(root / "holdouts" / _USES):
        name = str(line.get("holdout"))
        if name not in known:
            known[name] = int(np.isin(keys, _keys(root / "holdouts" / _IMAGES / f"{name}.npy")).sum())
        if known[name]:
            texts = {field: str(line.get(field, "")) for field in ("time", "bundle", "subject")}
            found.append(Use(**texts, images=_number(line.get("images")), shared=known[name]))
    return found


def record_use(root: Path, digests: Iterable[str | None], *, bundle: str, subject: str) -> None:
    """Add a use. Raises MachineError when the machine refuses."""
    keys = seen_keys(digests)
    name = hashlib.sha256(keys.astype("<u8").tobytes()).hexdigest()[:32]
    folder = root / "holdouts"
    with disk_errors(folder):
        (folder / _IMAGES).mkdir(parents=True, exist_ok=True)
        if not (folder / _IMAGES / f"{name}.npy").exists():
            buffer = io.BytesIO()
            np.save(buffer, keys.astype("<u8"), allow_pickle=False)
            publish_file(folder / _IMAGES / f"{name}.npy", buffer.getvalue())
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = {"time": now, "holdout": name, "images": len(keys), "bundle": bundle, "subject": subject}
        _append(folder / _USES, json.dumps(line, ensure_ascii=False))


def _append(path: Path, line: str) -> None:
    """One write, so that lines of two processes do not mix; a line that was cut off before keeps to itself."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, b"\n" * bool(os.fstat(descriptor).st_size) + line.encode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    with disk_errors(path):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.split("\n"):
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict):
            found.append(data)
    return found


def _keys(path: Path) -> Keys:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return np.zeros(0, np.uint64)
    return np.asarray(loaded, np.uint64) if loaded.dtype.kind == "u" else np.zeros(0, np.uint64)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
