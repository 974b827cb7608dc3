"""The process that workspace_crash.py interrupts: `workspace_crash_child.py <operation> <workspace> [<bundle>]`.

Everything between the two marks is one change of the workspace. Ends with 0 when it was reported as done and with 3
when it was reported as failed. `write` says labels until it is killed, and prints each that was acknowledged.
"""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path

from sortal.core.bundle import open_bundle
from sortal.core.errors import SortalError
from sortal.workspace.deployment import clear, promote, rollback
from sortal.workspace.feedback import say_label
from sortal.workspace.folder import Workspace, open_workspace
from sortal.workspace.images import keep_image

PICTURE = b"picture" * 10_000


def main(operation: str, path: Path, extra: str) -> int:
    workspace = open_workspace(path)
    workspace.database.one("select 1 from deployments")
    if operation == "write":
        return write_for_ever(workspace, extra)
    os.access("/change-begins", os.F_OK)
    try:
        change(workspace, operation, extra)
    except SortalError as error:
        print(error, file=sys.stderr)
        return 3
    finally:
        os.access("/change-ends", os.F_OK)
    return 0


def change(workspace: Workspace, operation: str, extra: str) -> None:
    if operation == "promote":
        promote(workspace, open_bundle(Path(extra)), by="child")
    elif operation == "rollback":
        rollback(workspace, by="child")
    elif operation == "clear":
        clear(workspace)
    else:
        name = keep_image(workspace, PICTURE, suffix=".jpg")
        say_label(workspace, "nut", image_sha256=name, key="child")


def write_for_ever(workspace: Workspace, who: str) -> int:
    number = 0
    while True:
        number += 1
        image = sha256(f"{who} {number}".encode()).hexdigest()
        key = say_label(workspace, "nut", image_sha256=image, key=f"{who}-{number}").statement.key
        os.write(1, f"{key}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""))
