"""Small data sets for the tests of repair, and a picture of a folder that two of them can be compared by."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from sortal.data.repair.plan import Located, Plan

Picture = dict[str, tuple[str, object, int]]


@lru_cache(maxsize=4096)
def image_bytes(number: int) -> bytes:
    """A PNG of its own for every number."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256 % 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def make(root: Path, classes: Mapping[str, int]) -> Path:
    """`root/<class>/<number>.png`; every image has other content and an old time."""
    number = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            number += 1
            path = root / name / f"{index}.png"
            path.write_bytes(image_bytes(number))
            os.utime(path, ns=(10**18, 10**18 + number))
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        os.utime(folder, ns=(10**18, 10**18 + 5))
    os.utime(root, ns=(10**18, 10**18 + 9))
    return root


def picture(root: Path) -> Picture:
    """Everything below `root` but `.sortal`: kind, content (or the place a link names), and time of change (ns)."""
    found: Picture = {}
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not (Path(parent) == root and name == ".sortal")]
        for path in [Path(parent), *(Path(parent, name) for name in files)]:
            status = path.lstat()
            content: object = str(path.readlink()) if stat.S_ISLNK(status.st_mode) else None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            kind = f"{stat.S_IFMT(status.st_mode):o}"
            found[os.path.relpath(path, root)] = (kind, content, status.st_mtime_ns)
        for name in folders:
            if Path(parent, name).is_symlink():
                found[os.path.relpath(Path(parent, name), root)] = ("link", str(Path(parent, name).readlink()), 0)
    return found


def contents(root: Path) -> list[bytes]:
    """The bytes of every image file below `root`, wherever it lies, in order."""
    return sorted(path.read_bytes() for path in root.rglob("*.png") if path.is_file() and not path.is_symlink())


def plan_of(*actions: dict[str, Any], new_classes: tuple[str, ...] = ()) -> Located:
    """A plan as if it had been read from a file."""
    data = {"source": "photos", "actions": list(actions), "new_classes": new_classes}
    return Located(plan=Plan.model_validate(data), where="plan.yaml")
