"""The process that publish_crash.py interrupts: `publish_crash_child.py <operation> <source> <target>`.

Everything between the two marks is one publication of what lies in <source>; the operation says how. Ends with 0 when
the publication was reported as done and with 3 when it was reported as failed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from sortal.core.errors import SortalError
from sortal.core.publish import publish_file, publish_folder


def main(operation: str, source: Path, target: Path) -> int:
    data = (source / "labels.json").read_bytes() if operation == "file" else b""
    os.access("/publication-begins", os.F_OK)
    try:
        publish(operation, source, target, data)
    except SortalError as error:
        print(error, file=sys.stderr)
        return 3
    finally:
        os.access("/publication-ends", os.F_OK)
    return 0


def publish(operation: str, source: Path, target: Path, data: bytes) -> None:
    if operation == "folder":
        publish_folder(target, lambda folder: copy(source, folder))
    elif operation in ("replace", "aside"):
        publish_folder(target, lambda folder: copy(source, folder), replace=True)
    elif operation == "file":
        publish_file(target, data)
    elif operation == "naive":  # the control: the same writes and syncs, but under the final name
        target.mkdir()
        copy(source, target)
    elif operation == "unsynced":  # the other control: no file is flushed before the rename
        temporary = target.with_name(".tmp-unsynced")
        temporary.mkdir()
        copy(source, temporary)
        temporary.rename(target)
    else:
        raise SystemExit(f"unknown operation {operation}")


def copy(source: Path, folder: Path) -> None:
    for path in sorted(source.rglob("*")):
        here = folder / path.relative_to(source)
        if path.is_dir():
            here.mkdir()
        else:
            shutil.copyfile(path, here)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
