"""What the machine refuses (a full disk, no permission) becomes one clear error, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sortal

PUBLISH = """
import resource, sys
from pathlib import Path
from sortal.core.errors import MachineError
from sortal.core.publish import publish_file, publish_folder
from sortal.core.run import new_run

limit, what, target = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if what == "file":
        publish_file(target, bytes(1_000_000))
    elif what == "run":
        new_run(target, "photos")
    else:
        publish_folder(target, lambda folder: (folder / "weights").write_bytes(bytes(1_000_000)) and None, replace=True)
except MachineError as error:
    print(error)
    sys.exit(3)
"""


def _publish(
    what: str, target: Path, *, limit: int = 0, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(Path(sortal.__file__).parents[1]), "PATH": os.environ["PATH"]}
    command = [*before, sys.executable, "-B", "-c", PUBLISH, str(limit), what, str(target)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(os.name == "nt", reason="needs limits on file sizes")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_that_may_not_grow(tmp_path: Path, what: str) -> None:
    target = tmp_path / "thing"
    if what == "folder":
        target.mkdir()
        (target / "weights").write_bytes(b"old")
    else:
        target.write_bytes(b"old")
    done = _publish(what, target, limit=100_000)
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stdout
    assert str(target) in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
    assert (target / "weights" if what == "folder" else target).read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        for what in ("file", "folder"):
            done = _publish(what, disk / "thing")
            assert done.returncode == 3, done.stderr
            assert "No space left on device" in done.stdout
            assert "free some disk space" in done.stdout
            assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def _as_nobody() -> tuple[str, ...]:
    if os.name == "nt":
        pytest.skip("needs POSIX permissions")
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and there is no setpriv to become somebody else")
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.mark.parametrize("what", ["file", "folder", "run"])
def test_a_folder_that_may_not_be_written(what: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = _as_nobody()
    home = tmp_path_factory.mktemp("closed")
    for parent in home.parents:
        if parent.name.startswith(("pytest", "popen")):
            parent.chmod(0o755)
    home.chmod(0o555)
    if before and subprocess.run([*before, sys.executable, "-c", "import sortal"], env={}).returncode != 0:
        pytest.skip("that user cannot run this Python")
    done = _publish(what, home / "thing", before=before)
    assert done.returncode == 3, done.stderr
    assert "Permission denied" in done.stdout
    assert "Traceback" not in done.stderr
    assert list(home.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="the control needs root")
def test_root_may_write_there(tmp_path: Path) -> None:
    """The control: what stops the test above is the permission and nothing else."""
    tmp_path.chmod(0o555)
    assert _publish("folder", tmp_path / "thing").returncode == 0
