"""Who answers: one commit moves it, nobody sees it half done, and going back goes back in time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, Event

import pytest

from sortal.core.bundle import Bundle, attach, open_bundle
from sortal.core.errors import BundleError, ConflictError, InputError, NotFoundError
from sortal.workspace.bundles import add_bundle, full_id, size_bytes, stored_bundle, stored_ids
from sortal.workspace.deployment import Deployment, clear, deployment, journal, pin, promote, rollback, withdraw
from sortal.workspace.folder import BUNDLES, Settings, Workspace, change_settings, open_workspace

Maker = Callable[..., Bundle]


def test_nothing_is_live_at_first(workspace: Workspace) -> None:
    assert deployment(workspace) == Deployment()
    assert journal(workspace) == []
    with pytest.raises(NotFoundError, match="nothing is live"):
        rollback(workspace)
    with pytest.raises(InputError, match="neither a canary nor a shadow"):
        withdraw(workspace)


def test_what_is_promoted_is_copied_whole_and_outlives_its_source(workspace: Workspace, make: Maker) -> None:
    bundle = make(1)
    state = promote(workspace, bundle, by="Ada", note="first")
    shutil.rmtree(bundle.path)
    assert (state.generation, state.live) == (1, bundle.id)
    assert deployment(workspace) == state
    copy = stored_bundle(workspace, bundle.id[:8])
    assert copy.id == bundle.id
    assert (copy.artifact("onnx") / "model.onnx").read_bytes() == b"graph" * 50
    [entry] = journal(workspace)
    assert (entry.action, entry.by, entry.note, entry.bundle) == ("promote", "Ada", "first", bundle.id)


def test_a_bundle_that_was_altered_is_not_promoted(workspace: Workspace, make: Maker) -> None:
    bundle = make(1)
    (bundle.path / "artifacts" / "onnx" / "model.onnx").write_bytes(b"other" * 50)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        promote(workspace, bundle)
    assert deployment(workspace).live is None
    assert stored_ids(workspace) == []


def test_artifacts_that_a_bundle_got_since_are_added(workspace: Workspace, make: Maker) -> None:
    bundle = make(1)
    promote(workspace, bundle)
    promote(workspace, make(2))
    attach(bundle.path, "artifacts/openvino", lambda folder: (folder / "model.xml").write_bytes(b"<net/>"))
    promote(workspace, open_bundle(bundle.path))
    assert stored_bundle(workspace, bundle.id).artifacts() == ["onnx", "openvino"]


def test_canary_and_shadow_stand_beside_what_is_live(workspace: Workspace, make: Maker) -> None:
    one, two, three = make(1), make(2), make(3)
    with pytest.raises(InputError, match="nothing is live"):
        promote(workspace, two, canary=0.1)
    promote(workspace, one)
    promote(workspace, two, canary=0.1)
    state = promote(workspace, three, shadow=True)
    assert (state.live, state.canary, state.canary_share, state.shadow) == (one.id, two.id, 0.1, three.id)
    assert promote(workspace, two) == Deployment(generation=4, live=two.id)
    assert [entry.action for entry in journal(workspace)] == ["promote", "shadow", "canary", "promote"]
    promote(workspace, three, canary=0.5)
    assert withdraw(workspace).bundles == (two.id,)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 10.0])
def test_a_share_is_a_part(workspace: Workspace, make: Maker, share: float) -> None:
    promote(workspace, make(1))
    with pytest.raises(InputError, match="share"):
        promote(workspace, make(2), canary=share)


def test_what_is_live_is_not_promoted_beside_itself(workspace: Workspace, make: Maker) -> None:
    one = make(1)
    promote(workspace, one)
    for options in ({}, {"canary": 0.2}, {"shadow": True}):
        with pytest.raises(InputError, match="live already"):
            promote(workspace, one, **options)  # type: ignore[arg-type]
    assert deployment(workspace).generation == 1


def test_other_classes_have_to_be_meant(workspace: Workspace, make: Maker) -> None:
    promote(workspace, make(1))
    other = make(2, ("nut", "Schraube", "rivet"))
    with pytest.raises(InputError, match="classes are not those") as refused:
        promote(workspace, other)
    assert "without 垫圈; with rivet" in str(refused.value)
    assert promote(workspace, other, other_classes=True).live == other.id


def test_a_bundle_that_cannot_run_is_refused(workspace: Workspace, make: Maker) -> None:
    with pytest.raises(InputError, match="nothing that can be run"):
        promote(workspace, make(1, runnable=False))


def test_going_back_passes_over_what_was_left(workspace: Workspace, make: Maker) -> None:
    one, two, three = make(1), make(2), make(3)
    for bundle in (one, two, three):
        promote(workspace, bundle)
    assert rollback(workspace).live == two.id
    assert rollback(workspace).live == one.id
    with pytest.raises(NotFoundError, match="nothing was live before"):
        rollback(workspace)
    promote(workspace, three)
    assert rollback(workspace).live == one.id
    assert rollback(workspace, to=two.id[:10]).live == two.id
    assert rollback(workspace).live == one.id
    with pytest.raises(InputError, match="live already"):
        rollback(workspace, to=one.id)


def test_a_bundle_that_came_twice_is_gone_back_to_where_it_was_last(workspace: Workspace, make: Maker) -> None:
    one, two, three = make(1), make(2), make(3)
    for bundle in (one, two, one, three):
        promote(workspace, bundle)
    assert [rollback(workspace).live for _ in range(3)] == [one.id, two.id, one.id]


def test_somebody_else_was_first(workspace: Workspace, make: Maker) -> None:
    first = promote(workspace, make(1))
    promote(workspace, make(2))
    for change in (promote, lambda space, _, expected: rollback(space, expected=expected)):
        with pytest.raises(ConflictError, match="changed meanwhile"):
            change(workspace, make(3) if change is promote else None, expected=first.generation)  # type: ignore[operator]
    assert len(journal(workspace)) == 2


def test_ids_may_be_shortened_but_not_guessed(workspace: Workspace, make: Maker) -> None:
    bundle = make(1)
    promote(workspace, bundle)
    assert full_id(workspace, bundle.id[:4]) == bundle.id
    for name in (bundle.id[:3], "zzzz", ""):
        with pytest.raises(NotFoundError, match="no such bundle"):
            full_id(workspace, name)


def test_clearing_keeps_what_is_needed(workspace: Workspace, make: Maker) -> None:
    workspace = change_settings(workspace, Settings(bundles=2))
    bundles = [make(number) for number in range(6)]
    for bundle in bundles[:4]:
        promote(workspace, bundle)
    pin(workspace, bundles[0].id)
    promote(workspace, bundles[4], canary=0.1)
    promote(workspace, bundles[5], shadow=True)
    assert clear(workspace) == [bundles[1].id]
    kept = {bundles[number].id for number in (0, 2, 3, 4, 5)}
    assert set(stored_ids(workspace)) == kept
    pin(workspace, bundles[0].id, keep=False)
    withdraw(workspace)
    clear(workspace)
    assert set(stored_ids(workspace)) == {bundles[2].id, bundles[3].id}
    assert not [path for path in (workspace.path / BUNDLES).iterdir() if path.name.startswith(".")]


def test_a_clearing_that_died_is_finished_and_never_mends_into_a_half_bundle(workspace: Workspace, make: Maker) -> None:
    one, two = make(1), make(2)
    promote(workspace, one)
    promote(workspace, two)
    half = workspace.path / BUNDLES / f".gone-{one.id}-00000000"
    (workspace.path / BUNDLES / one.id).rename(half)
    (half / "labels.json").unlink()
    assert stored_ids(workspace) == [two.id]
    with pytest.raises(NotFoundError, match="not kept any more"):
        rollback(workspace)
    assert promote(workspace, one).live == one.id
    assert stored_bundle(workspace, one.id).labels == one.labels
    clear(workspace)
    assert not half.exists()


def test_what_is_left_of_a_bundle_that_was_cleared_away_is_in_nobodys_way(workspace: Workspace, make: Maker) -> None:
    one = make(1)
    rest = workspace.path / BUNDLES / one.id / "artifacts" / "onnx"
    rest.mkdir(parents=True)
    (rest / "model.onnx").write_bytes(b"added while the bundle went")
    assert promote(workspace, one).live == one.id
    assert stored_bundle(workspace, one.id).attachment("artifacts/onnx")


def test_several_who_add_the_same_bundle_at_once_all_have_it(workspace: Workspace, make: Maker) -> None:
    bundle, together = make(1), Barrier(4)

    def one(_: int) -> str:
        together.wait()
        return add_bundle(workspace, bundle).id

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            assert set(pool.map(one, range(4))) == {bundle.id}
            shutil.rmtree(workspace.path / BUNDLES / bundle.id)


def test_sizes_are_told_while_bundles_go(workspace: Workspace, make: Maker) -> None:
    bundle = make(1)
    folder = add_bundle(workspace, bundle).path
    whole, done = size_bytes(folder), Event()

    def comes_and_goes() -> None:
        while not done.is_set():
            shutil.rmtree(folder)
            add_bundle(workspace, bundle)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(comes_and_goes)
        try:
            assert all(0 <= size_bytes(workspace.path / BUNDLES) <= 3 * whole for _ in range(300))
        finally:
            done.set()
        other.result()


def test_many_promote_at_once_and_every_change_is_one_entry(workspace: Workspace, make: Maker) -> None:
    bundles = [make(number) for number in range(6)]

    def one(number: int) -> None:
        with open_workspace(workspace.path) as mine:
            promote(mine, bundles[number % 6], by=str(number))

    def attempts(start: int) -> int:
        done = 0
        for number in range(start, start + 12, 3):
            with suppress(InputError):  # another thread made the same bundle live a moment ago
                one(number)
                done += 1
        return done

    with ThreadPoolExecutor(3) as pool:
        done = sum(pool.map(attempts, range(3)))
    entries = journal(workspace)
    assert [entry.state.generation for entry in entries] == list(range(done, 0, -1))
    assert all(entry.state.live == entry.bundle for entry in entries)


def test_others_are_told_that_something_changed(workspace: Workspace, make: Maker) -> None:
    with open_workspace(workspace.path) as other:
        before = other.database.version()
        assert other.database.version() == before
        promote(workspace, make(1))
        assert other.database.version() != before
        assert deployment(other).generation == 1


def test_a_name_outside_is_no_bundle(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("../../etc", "....", str(tmp_path)):
        with pytest.raises(NotFoundError):
            stored_bundle(workspace, name)
