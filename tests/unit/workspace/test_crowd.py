"""Processes that promote, roll back and clear one workspace at once, and are killed at it: nothing is half done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

from sortal.core.bundle import Bundle
from sortal.workspace.bundles import stored_bundle, stored_ids
from sortal.workspace.deployment import Entry, deployment, journal, promote
from sortal.workspace.folder import Workspace

Maker = Callable[..., Bundle]

_PROCESSES, _KILLS, _CHANGES = 4, 8, 3
"""Each is killed after so many changes of its own, so many times in all."""
_CHILD = """
import random, sys
from pathlib import Path
from sortal import production
from sortal.core.errors import ConflictError, InputError, NotFoundError

seed, line, *bundles = sys.argv[1:]
choose = random.Random(int(seed))
while True:
    try:
        what = choose.random()
        if what < 0.4:
            production.promote(choose.choice(bundles), line)
        elif what < 0.6:
            production.promote(choose.choice(bundles), line, canary=choose.choice((0.1, 0.5)))
        elif what < 0.85:
            production.rollback(line)
        else:
            production.tend(line, tidy=True, settings={"bundles": choose.choice((1, 2))})
    except InputError as error:
        if type(error) not in (InputError, ConflictError, NotFoundError) or "already exists" in error.what:
            raise
        continue
    print("done", flush=True)
"""


def begun(number: int, workspace: Workspace, bundles: list[Bundle]) -> subprocess.Popen[str]:
    words = [str(number), str(workspace.path), *(str(one.path) for one in bundles)]
    return subprocess.Popen([sys.executable, "-c", _CHILD, *words], stdout=subprocess.PIPE, text=True)


def test_the_journal_is_true_whoever_is_killed(workspace: Workspace, make: Maker) -> None:
    bundles = [make(number) for number in range(3)]
    promote(workspace, bundles[0])
    others = [begun(number, workspace, bundles) for number in range(_PROCESSES)]
    try:
        for kill in range(_KILLS):
            place = kill % _PROCESSES
            for _ in range(_CHANGES):
                assert others[place].stdout is not None
                assert others[place].stdout.readline() == "done\n"
                assert_whole(workspace)
            others[place].kill()
            others[place].communicate()
            others[place] = begun(100 + kill, workspace, bundles)
    finally:
        for one in others:
            one.kill()
            one.communicate()
    entries = journal(workspace)[::-1]
    assert [entry.state.generation for entry in entries] == list(range(1, len(entries) + 1))
    for before, entry in pairwise(entries):
        assert_follows(
            before, entry, {one.state.live for one in entries if one.state.generation < before.state.generation}
        )
    assert workspace.database.one("pragma integrity_check") == ("ok",)
    assert set(deployment(workspace).bundles) <= set(stored_ids(workspace))


def assert_whole(workspace: Workspace) -> None:
    """What answers now can be opened, file by file, unless it does not answer any more."""
    for one in deployment(workspace).bundles:
        try:
            stored_bundle(workspace, one).attachment("artifacts/onnx")
        except Exception:
            assert one not in deployment(workspace).bundles
            continue


def assert_follows(before: Entry, entry: Entry, lives: set[str | None]) -> None:
    """An entry leads from the state before it to its own, as its action says."""
    state = entry.state
    if entry.action == "promote":
        assert (state.live, state.canary, state.shadow) == (entry.bundle, None, None)
    elif entry.action == "canary":
        assert (state.live, state.canary) == (before.state.live, entry.bundle)
    elif entry.action == "withdraw":
        assert before.state.canary is not None
        assert (state.live, state.canary) == (before.state.live, None)
    else:
        assert entry.action == "rollback"
        assert state.live == entry.bundle != before.state.live
        assert state.live in lives
