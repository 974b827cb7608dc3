"""A workspace opens or says why not; on a disk that cannot be written it is read without a trace."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError, InputError, InternalError, MachineError
from sortal.workspace.database import Database, create_database, open_database, refuse_unsound
from sortal.workspace.deployment import deployment, promote, withdraw
from sortal.workspace.feedback import say_label
from sortal.workspace.folder import (
    DATABASE,
    SETTINGS,
    Settings,
    Workspace,
    change_settings,
    create_workspace,
    open_or_create,
    open_workspace,
)

Maker = Callable[..., Bundle]


def test_a_workspace_is_made_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new", tmp_path / "empty"):
        with open_or_create(path) as made:
            assert made.settings == Settings()
        with open_or_create(path) as opened:
            assert deployment(opened).generation == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.txt").write_text("x")
    with pytest.raises(InputError, match="neither a workspace nor an empty place"):
        open_or_create(tmp_path / "full")
    with pytest.raises(InputError, match="no workspace"):
        open_workspace(tmp_path / "full")
    with pytest.raises(InputError, match="already exists"):
        create_workspace(tmp_path / "full")


def test_limits_are_written_down(workspace: Workspace) -> None:
    change_settings(workspace, Settings(images_mb=7, bundles=2))
    with open_workspace(workspace.path) as again:
        assert again.settings == Settings(images_mb=7, bundles=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "damaged"), ('{"format": 2}', "newer format"), ('{"format": 1, "images": 3}', "damaged"), ("[]", "damaged")],
)
def test_settings_that_are_damaged_or_newer_are_refused(workspace: Workspace, text: str, said: str) -> None:
    (workspace.path / SETTINGS).write_text(text)
    with pytest.raises(BundleError, match=said):
        open_workspace(workspace.path)


def test_settings_without_an_optional_field_have_its_default(workspace: Workspace) -> None:
    (workspace.path / SETTINGS).write_text(json.dumps({"format": 1, "bundles": 3}))
    with open_workspace(workspace.path) as opened:
        assert opened.settings == Settings(bundles=3)


def test_a_database_that_is_none_or_newer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.db").write_bytes(b"this is no database, it only has some length" * 100)
    with pytest.raises(BundleError, match="damaged"):
        open_database(tmp_path / "noise.db")
    with pytest.raises(BundleError, match="no database"):
        open_database(tmp_path / "missing.db")
    create_database(tmp_path / "newer.db")
    made = open_database(tmp_path / "newer.db")
    with made.change() as transaction:
        transaction.execute("pragma user_version = 9")
    made.close()
    with pytest.raises(BundleError, match="another format"):
        open_database(tmp_path / "newer.db")


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.7.0"])
def test_an_sqlite_that_may_corrupt_its_log_is_refused(version: str) -> None:
    with pytest.raises(MachineError, match="corrupt"):
        refuse_unsound(version)
    refuse_unsound("3.51.3")
    refuse_unsound("3.54.1")


def test_what_is_acknowledged_is_on_the_disk(workspace: Workspace) -> None:
    assert workspace.database.one("pragma journal_mode") == ("wal",)
    assert workspace.database.one("pragma synchronous") == (2,)


def test_a_transaction_is_all_or_nothing(workspace: Workspace) -> None:
    def broken() -> None:
        with workspace.database.change() as transaction:
            transaction.execute("insert into pins values ('a')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert workspace.database.all("select * from pins") == []


def _used(database: Database, answers: multiprocessing.Queue[str]) -> None:
    try:
        database.one("select 1")
        answers.put("answered")
    except InternalError as error:
        answers.put(error.what)


def test_a_fork_may_not_use_it(workspace: Workspace) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=_used, args=(workspace.database, answers))
    child.start()
    assert "fork" in answers.get(timeout=20)
    child.join()
    assert workspace.database.one("select 1") == (1,)


READ = """
import os, sys
from pathlib import Path
import apsw
from sortal.workspace.folder import open_workspace
from sortal.workspace.deployment import deployment
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with open_workspace(Path(sys.argv[1]), read_only=True) as opened:
    print(deployment(opened).generation)
"""


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root can become somebody who may not write")
def test_it_is_read_where_nothing_may_be_written(workspace: Workspace, make: Maker, tmp_path: Path) -> None:
    promote(workspace, make(1))
    for folder in [tmp_path, *tmp_path.parents[:3]]:
        folder.chmod(folder.stat().st_mode | 0o555)
    open_too = subprocess.run([sys.executable, "-c", READ, str(workspace.path)], capture_output=True, text=True)
    assert "was not closed" in open_too.stderr, open_too.stderr
    workspace.close()
    assert not (workspace.path / f"{DATABASE}-wal").exists()
    before = sorted(workspace.path.iterdir())
    done = subprocess.run([sys.executable, "-c", READ, str(workspace.path)], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
    assert sorted(workspace.path.iterdir()) == before


def test_nothing_is_acknowledged_into_a_file_that_is_not_at_its_place(workspace: Workspace, make: Maker) -> None:
    promote(workspace, make(1))
    before, away = deployment(workspace), workspace.path.with_name("away")
    shutil.copytree(workspace.path, workspace.path.with_name("backup"))
    workspace.path.rename(away)
    with pytest.raises(MachineError, match="No such file"):
        say_label(workspace, "nut", image_sha256="a" * 64)
    with pytest.raises(MachineError, match="moved or replaced"):
        withdraw(workspace)
    workspace.path.with_name("backup").rename(workspace.path)
    with pytest.raises(MachineError, match="moved or replaced"):
        say_label(workspace, "nut", image_sha256="a" * 64)
    with pytest.raises(MachineError, match="moved or replaced"):
        workspace.database.version()
    shutil.rmtree(workspace.path)
    away.rename(workspace.path)
    assert deployment(workspace) == before
    assert say_label(workspace, "nut", image_sha256="a" * 64).outcome == "new"


def test_the_root_of_a_volume_is_no_place_and_a_folder_in_it_is_named(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a mount needs root")
    script = (
        'mount -t tmpfs tmpfs "$0" && exec "$1" -c "import sys; from pathlib import Path; '
        'from sortal.workspace.folder import create_workspace; create_workspace(Path(sys.argv[1]))" "$0"'
    )
    told = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(tmp_path), sys.executable], capture_output=True, text=True
    )
    assert told.returncode != 0
    assert f"name a folder in it that is not there yet: {tmp_path / 'line4'}" in told.stderr
