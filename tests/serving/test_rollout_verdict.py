"""`sortal rollout`: what canary and shadow are said to be, from made-up events and labels whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colors import color_bundle
from sortal.core.bundle import Bundle, open_bundle
from sortal.core.events import Event, Role
from sortal.evaluate.compare.arms import Arm, labels_needed, slower, unpaired_difference, verdict
from sortal.evaluate.compare.verdict import rounded
from sortal.rollout import rollout
from sortal.runtime.classifier import open_classifier
from sortal.runtime.locate import bundle_at
from sortal.workspace.arms import SHADOWED
from sortal.workspace.deployment import promote, withdraw
from sortal.workspace.events import append_events
from sortal.workspace.feedback import say_label
from sortal.workspace.folder import Workspace, create_workspace
from worlds import class_folders, refused, sortal

NAMES = ("red", "green", "blue")


@pytest.fixture
def line(bundles: tuple[Path, Path], tmp_path: Path) -> Iterator[Workspace]:
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, open_bundle(bundles[0]))
        yield workspace


def image(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def events(
    bundle: Bundle, role: Role, answers: list[tuple[int, str]], *, milliseconds: float = 20.0, abstained: float = 0.1
) -> list[Event]:
    """Answers (image, class) to requests `r<image>`."""
    random = np.random.default_rng(len(answers))
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return [
        Event(
            time=now,
            request_id=f"r{number}" + (SHADOWED if role == "shadow" else ""),
            bundle_id=bundle.id,
            image_sha256=image(number),
            top=((label, 0.9),),
            abstained=random.random() < abstained,
            latency_ms=milliseconds * random.lognormal(0, 0.3),
            role=role,
        )
        for number, label in answers
    ]


def answers(numbers: range, accuracy: float, seed: int) -> list[tuple[int, str]]:
    """Right with a chance of `accuracy`; the true class of an image is its number modulo three."""
    random = np.random.default_rng(seed)
    return [(number, NAMES[(number + (random.random() >= accuracy)) % 3]) for number in numbers]


def label(workspace: Workspace, numbers: range) -> None:
    for number in numbers:
        say_label(workspace, NAMES[number % 3], image_sha256=image(number))


def text(report: Any) -> str:
    return "\n".join(report.body["summary"])


def test_a_shadow_is_held_against_the_live_one_on_the_same_images(bundles: tuple[Path, Path], line: Workspace) -> None:
    live, other = (open_bundle(path) for path in bundles)
    promote(line, other, shadow=True)
    append_events(line, events(live, "live", answers(range(300), 0.7, seed=1)))
    append_events(line, events(other, "shadow", answers(range(300), 0.95, seed=2), milliseconds=400))
    before = rollout(line.path)
    assert before.body["verdicts"] == {"shadow": "undecided"}
    assert "Nobody has said yet" in text(before)
    assert before.metrics["shadow_agreement"].n == 300
    label(line, range(120))
    say_label(line, "red", image_sha256=image(1))  # somebody disagrees
    report = rollout(line.path)
    assert report.body["verdicts"] == {"shadow": "better"}
    assert report.metrics["shadow_accuracy_difference"].n == 119
    assert report.metrics["shadow_accuracy_difference"].value == pytest.approx(0.25, abs=0.12)
    assert report.metrics["shadow_p"].value == pytest.approx(0.0, abs=1e-3)
    assert [finding.code for finding in report.findings] == ["disputed_labels"]
    assert report.body["next"] == [f"sortal promote {line.path / 'bundles' / other.id} {line.path}"]
    rows = report.tables["arms"].rows
    assert [(row[0], row[2], row[6]) for row in rows] == [("live", 300, 119), ("shadow", 300, 119)]


def test_a_request_id_that_was_used_for_two_images_tells_of_neither(
    bundles: tuple[Path, Path], line: Workspace
) -> None:
    """Events are told apart by their request ids, and what each of both kept was about another image."""
    live, other = (open_bundle(path) for path in bundles)
    promote(line, other, shadow=True)
    append_events(line, events(live, "live", [(1, "red"), (2, "green")]))
    [beside] = events(other, "shadow", [(3, "red")])
    append_events(line, [beside.model_copy(update={"request_id": f"r2{SHADOWED}"})])
    append_events(line, events(other, "shadow", [(1, "red")]))
    report = rollout(line.path)
    assert report.metrics["shadow_agreement"].n == 1


def test_a_canary_is_told_by_its_own_images_and_also_after_it_ended(
    bundles: tuple[Path, Path], line: Workspace
) -> None:
    live, other = (open_bundle(path) for path in bundles)
    append_events(line, events(live, "live", answers(range(5_000, 5_200), 0.0, seed=9)))  # before it stood there
    promote(line, other, canary=0.3)
    append_events(line, events(other, "canary", answers(range(150), 0.6, seed=3)))
    append_events(line, events(live, "live", answers(range(150, 500), 0.95, seed=4)))
    label(line, range(500))
    report = rollout(line.path)
    assert report.body["verdicts"] == {"canary": "worse"}
    assert report.body["next"] == [f"sortal rollback {line.path}"]
    assert [row[6] for row in report.tables["arms"].rows] == [350, 150]
    assert report.metrics["canary_accuracy_difference"].value == pytest.approx(-0.35, abs=0.08)
    withdraw(line, note="it failed")
    again = rollout(line.path)
    assert again.body["verdicts"] == {"canary": "worse"}
    assert again.body["next"] == [f"sortal journal {line.path}"]
    assert "UTC: it failed." in text(again)


def test_what_is_not_known_yet_is_undecided_with_the_labels_it_takes(
    bundles: tuple[Path, Path], line: Workspace
) -> None:
    live, other = (open_bundle(path) for path in bundles)
    promote(line, other, canary=0.5)
    append_events(line, events(other, "canary", answers(range(200), 0.9, seed=5)))
    append_events(line, events(live, "live", answers(range(200, 400), 0.9, seed=6)))
    label(line, range(400))
    report = rollout(line.path, margin=0.02)
    assert report.body["verdicts"] == {"canary": "undecided"}
    needed = report.metrics["canary_labels_needed"].value
    assert needed == pytest.approx(2 * (1.96 + 0.8416) ** 2 * 2 * 0.9 * 0.1 / 0.02**2 - 400, rel=0.25)
    assert f"{rounded(int(needed)):,} more labelled images would very likely show a gap of 2 points" in text(report)
    wide = rollout(line.path, margin=0.2)
    assert wide.body["verdicts"] == {"canary": "as good"}


def test_a_slow_canary_is_worse_whatever_it_knows(bundles: tuple[Path, Path], line: Workspace) -> None:
    live, other = (open_bundle(path) for path in bundles)
    promote(line, other, canary=0.5)
    append_events(line, events(other, "canary", answers(range(100), 1.0, seed=7), milliseconds=90))
    append_events(line, events(live, "live", answers(range(100, 200), 0.5, seed=8), milliseconds=20))
    label(line, range(200))
    report = rollout(line.path)
    assert report.body["verdicts"] == {"canary": "worse"}
    assert "Its p50 is surely more than 2 times that of the live one." in text(report)


def test_labels_of_one_arm_alone_are_told(bundles: tuple[Path, Path], line: Workspace) -> None:
    live, other = (open_bundle(path) for path in bundles)
    promote(line, other, canary=0.5)
    append_events(line, events(other, "canary", answers(range(300), 0.9, seed=5)))
    append_events(line, events(live, "live", answers(range(300, 600), 0.9, seed=6)))
    label(line, range(270, 600))
    assert [finding.code for finding in rollout(line.path).findings] == ["uneven_labels"]


def test_the_command(bundles: tuple[Path, Path], line: Workspace, tmp_path: Path) -> None:
    refused(sortal(tmp_path, "rollout", "line4"), "there was never a canary or shadow", "--canary 10%")
    other = open_bundle(bundles[1])
    promote(line, other, shadow=True)
    append_events(line, events(other, "shadow", answers(range(30), 0.9, seed=5)))
    done = sortal(tmp_path, "rollout", "line4", "--margin", "2%")
    assert done.code == 0, done.err
    assert "Undecided about the shadow." in done.out
    assert "sortal rollout line4   # again, with more labels" in done.out
    told = json.loads(sortal(tmp_path, "rollout", "line4", "--json").out)
    assert (told["kind"], told["body"]["bundles"]["shadow"]) == ("rollout", other.id)
    promote(line, open_bundle(color_bundle(tmp_path / "third", temperature=1.7)), canary=0.5)
    both = sortal(tmp_path, "rollout", "line4").out
    assert ("about the canary." in both, "about the shadow." in both) == (True, True)
    assert both.count("again, with more labels") == 1, "the same command is not told twice"
    refused(sortal(tmp_path, "rollout", "line4", "--margin", "much"), "a share is a percentage", "--margin 1%")
    refused(sortal(tmp_path, "rollout", "line4", "--margin", "0"), "the margin lies between 0 and 1")


def test_a_workspace_opens_as_its_live_bundle(bundles: tuple[Path, Path], line: Workspace, tmp_path: Path) -> None:
    live = open_bundle(bundles[0])
    with open_classifier(line.path) as classifier:
        assert classifier.bundle_id == live.id
    found = bundle_at(line.path)
    assert found is not None
    assert found[0].path == line.path / "bundles" / live.id
    with create_workspace(tmp_path / "line5"):
        pass
    class_folders(tmp_path / "photos", {"red": 2})
    for command, out in (("predict", "answers.csv"), ("evaluate", "evaluation")):
        done = sortal(tmp_path, command, "line4", "photos", "--out", out)
        assert done.code == 0, done.err
    refused(sortal(tmp_path, "predict", "line5", "photos"), "nothing is live in this workspace")
    other = open_bundle(color_bundle(tmp_path / "third", temperature=3.0))
    promote(line, other)
    with open_classifier(line.path) as classifier:
        assert classifier.bundle_id == other.id


def arm(hits: int, count: int, milliseconds: float = 10.0) -> Arm:
    times = milliseconds * np.random.default_rng(count).lognormal(0, 0.3, count)
    return Arm(answers=count, answered=count, milliseconds=times, right=np.arange(count) < hits)


def test_the_unpaired_interval_is_newcombes() -> None:
    """His table II, 56/70 against 48/80, method 10: 0.0524 to 0.3339."""
    gap, (low, high) = unpaired_difference(arm(48, 80), arm(56, 70), 0.95)
    assert (gap, low, high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert unpaired_difference(arm(0, 0), arm(1, 2), 0.95) == (0.0, (-1.0, 1.0))


def test_the_number_of_labels_shows_the_gap_as_often_as_it_says() -> None:
    needed = labels_needed(arm(80, 100), arm(80, 100), 0.1, confidence=0.95)
    assert needed[0] == needed[1]
    random = np.random.default_rng(1)
    shown = 0
    for _ in range(400):
        hits = random.binomial(needed[1], (0.75, 0.85))
        interval = unpaired_difference(arm(int(hits[0]), needed[0]), arm(int(hits[1]), needed[1]), 0.95)[1]
        shown += verdict(interval, margin=0.1, slow=False) == "better"
    assert shown / 400 == pytest.approx(0.8, abs=0.06)
    few, many = labels_needed(arm(900, 1_000), arm(90, 100), 0.05, confidence=0.95)
    assert few / many == pytest.approx(1_001 / 101, rel=0.01)


def test_a_latency_is_slower_only_where_bounds_say_so() -> None:
    assert slower(arm(0, 400, 10), arm(0, 400, 18), 2.0, 0.95) is None
    assert slower(arm(0, 400, 10), arm(0, 400, 30), 2.0, 0.95) == "p50"
    assert slower(arm(0, 0), arm(0, 400, 30), 2.0, 0.95) is None
