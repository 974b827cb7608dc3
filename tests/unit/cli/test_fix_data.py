"""`sortal fix` and `sortal data` as they are typed: exit codes, and that a look changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sortal.cli.app import run
from sortal.data.repair.plan import save_plan
from trees import make, picture, plan_of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make(tmp_path / "photos", {"cat": 8, "dog": 3, "猫": 1})


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    actions = (
        {"do": "quarantine", "image": "cat/0.png", "why": "dark"},
        {"do": "relabel", "image": "cat/1.png", "from": "cat", "to": "dog"},
        {"do": "merge", "classes": ["cat", "猫"], "to": "cat"},
        {"do": "drop", "image": "cat/2.png", "apply": False},
    )
    save_plan(plan_of(*actions).plan, tmp_path / "plan.yaml")
    return tmp_path / "plan.yaml"


def test_from_a_look_to_the_undo(photos: Path, plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = picture(photos)
    assert run(["fix", str(photos), "--plan", str(plan)]) == 0
    said = capsys.readouterr().out
    assert "Nothing was changed" in said
    assert "--apply" in said
    assert picture(photos) == before
    assert not (photos / ".sortal").exists()
    assert run(["fix", str(photos), "--plan", str(plan), "--apply"]) == 0
    assert "sortal fix --undo" in capsys.readouterr().out
    assert run(["fix", str(photos), "--status"]) == 0
    assert "applied" in capsys.readouterr().out
    assert run(["fix", str(photos), "--plan", str(plan)]) == 2
    assert "there is no such image" in capsys.readouterr().err
    assert run(["fix", "--undo", str(photos)]) == 0
    assert picture(photos) != before
    assert run(["fix", "--undo", str(photos), "--apply"]) == 0
    assert picture(photos) == before
    assert run(["fix", "--undo", str(photos), "--apply"]) == 2


def test_the_classes_that_training_would_see_are_told(
    photos: Path, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fix", str(photos), "--plan", str(plan), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    rows = {row[0]: row[1:] for row in report["tables"]["Classes"]["rows"]}
    assert rows == {"cat": [8, 7, -1], "dog": [3, 4, 1], "猫": [1, 0, -1], "all 3 classes": [12, 11, -1]}
    assert report["metrics"]["not applied"]["value"] == 1
    assert report["kind"] == "repair-preview"


def test_what_a_user_changed_ends_an_undo_with_one(photos: Path, plan: Path) -> None:
    assert run(["fix", str(photos), "--plan", str(plan), "--apply"]) == 0
    (photos / "dog/1-2.png").write_bytes(b"cropped")
    assert run(["fix", "--undo", str(photos)]) == 1
    assert run(["fix", "--undo", str(photos), "--apply"]) == 1
    assert (photos / "cat/0.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["fix", "photos"],
        ["fix", "--plan", "plan.yaml"],
        ["fix", "photos", "--plan", "none.yaml", "--status"],
        ["fix", "photos", "--resume"],
        ["fix", "--undo", "photos"],
        ["data", "merge", "photos"],
        ["data", "diff", "photos"],
        ["data", "digest", "nowhere"],
        ["data", "add", "photos"],
    ],
)
def test_what_cannot_be_meant_ends_with_two(
    photos: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    assert run(arguments) == 2
    assert not (photos / ".sortal").exists()


def test_a_difference_ends_with_one(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    assert run(["data", "diff", str(photos), str(other)]) == 0
    assert "Equal." in capsys.readouterr().out
    (other / "cat/0.png").rename(other / "dog/0-2.png")
    assert run(["data", "diff", str(photos), str(other), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["metrics"]["relabeled"]["value"] == 1
    assert report["body"] == {"equal": False, "content_compared": True}


def test_digests_are_those_of_the_table(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sortal.data.open import images

    assert run(["data", "digest", str(photos), "--no-content", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["provenance"] == {"listing_digest": images(photos).listing_digest, "content_digest": None}
