"""The parts of an audit that no flow shows: order of findings and actions, samples, answers of a run, budgets."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import sortal
from sortal import audit_pictures, audit_sight
from sortal.audit import compose, in_order, run_checks
from sortal.audit_actions import worth_doing
from sortal.audit_pictures import evidence, map_of
from sortal.audit_sight import Sight, see
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.predictions import predictions_from_logits
from sortal.core.progress import Silent
from sortal.core.report import Finding, Report
from sortal.data.checks import readable
from sortal.data.checks.material import ISSUES, Material, Outcome, issues
from sortal.data.open import images
from sortal.data.survey import survey
from sortal.data.table import ImageTable
from sortal.evaluate.pages.audit_view import pick

SILENT = Silent()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Sixty noisy pictures of two classes with features that tell them apart."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir()
        for number in range(30):
            pixels = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:02d}.png")
    table, found = survey(images(folder))
    features = random.normal(0, 0.1, (60, 8)) + np.eye(2, 8)[table.label_array()]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return Material(table=table, survey=found, features=features.astype(np.float32))


def test_errors_come_first_then_the_order_of_checks_then_the_surest() -> None:
    mixed = pl.concat(
        [
            issues("dark", "warning", ["d1", "d2"], score=[0.2, 0.9]),
            issues("gps_position", "info", ["g"]),
            issues("unreadable", "error", ["u"]),
            issues("blurry", "warning", ["b1", "b2"], score=[None, 0.5]),
        ]
    )
    assert in_order(mixed)["name"].to_list() == ["u", "d2", "d1", "b2", "b1", "g"]


def test_findings_are_sorted_and_counted(material: Material) -> None:
    outcomes = {
        "groups": Outcome(findings=(Finding(code="group_proposed", severity="info", message="x"),)),
        "readable": Outcome(
            findings=(Finding(code="unreadable", severity="error", message="y"),),
            issues=issues("unreadable", "error", ["a/x.png"], do="quarantine"),
        ),
    }
    report, found = compose(material, outcomes, Sight(by="none"), subject="photos")
    assert [one.severity for one in report.findings][:1] == ["error"]
    assert report.metrics["severe"].value == 1
    assert found.height == 1
    assert report.body["actions"][0]["command"].startswith("sortal fix ")


def test_what_is_certainly_wrong_is_done_before_what_is_likely(material: Material) -> None:
    names = material.table.names()
    leaks = pl.concat(
        [
            issues("burst_across_splits", "warning", names[:50], other=names[1:51]),
            issues("near_duplicates_across_splits", "error", names[50:52], other=names[52:54]),
        ]
    )
    outcomes = {"leaks": Outcome(issues=leaks), "exposure": Outcome(issues=issues("dark", "warning", names[:59]))}
    first, second = worth_doing([], leaks, material.table, outcomes)
    assert "2 images in one split are" in first.text
    assert "50 images look as if" in first.text
    assert "dark images (59)" in second.text
    rare = Finding(code="rare_class", severity="warning", message="", rows=("b", "a"))
    (collect,) = worth_doing([rare], leaks.clear(), material.table, {})
    assert "a (30), b (30)" in collect.text or "b (30), a (30)" in collect.text
    assert collect.command == ""


def test_what_a_person_has_to_bring_comes_first(material: Material) -> None:
    none = material.table.with_columns({"label": [-1] * 60})
    (label,) = worth_doing([], pl.DataFrame(schema=ISSUES), none, {})
    assert label.text.startswith("Give the images labels: none of them has one")
    alone = material.table.with_columns({"label": [0] * 60})
    rare = Finding(code="rare_class", severity="warning", message="", rows=("a",))
    another, _ = worth_doing([rare], pl.DataFrame(schema=ISSUES), alone, {})
    assert another.text.startswith("Add images of another class: there is a only")


def test_rows_that_a_reader_left_out_are_something_to_correct(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (40, 40), (9, 99, ord(name))).save(tmp_path / f"{name}.png")
    (tmp_path / "list.csv").write_text("path,label\na.png,a\nb.png,b\ngone.png,b\n", encoding="utf-8")
    scanned, found = survey(images(tmp_path / "list.csv"))
    outcome = readable.check(Material(table=scanned, survey=found))
    first, *_ = worth_doing(outcome.findings, outcome.issues, scanned, {"readable": outcome})
    assert "1 row was left out (there is no such file; gone.png)" in first.text


def test_what_is_wrong_with_all_images_is_no_all_clear(material: Material) -> None:
    one = Finding(code="one_class", severity="error", message="there is one class only: a")
    report, _ = compose(material, {"balance": Outcome(findings=(one,))}, Sight(by="none"), subject="photos")
    assert "something is wrong with them as a whole" in report.body["summary"][0]


def test_checks_that_need_features_look_at_the_sample_alone(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = dict[str, Material]()

    class Spy:
        def __init__(self, name: str) -> None:
            self.name = name

        def check(self, given: Material) -> Outcome:
            seen[self.name] = given
            return Outcome()

    class Checks:
        def get(self, name: str) -> Spy:
            return Spy(name)

    monkeypatch.setattr(sys.modules["sortal.audit"], "CHECKS", Checks())  # `sortal.audit` is the verb
    assert material.features is not None
    features = material.features.copy()
    features[10:] = np.nan
    sampled = Material(table=material.table, survey=material.survey, features=features)
    run_checks(["duplicates", "outliers"], sampled, SILENT)
    assert (len(seen["outliers"].table), len(seen["duplicates"].table)) == (10, 60)
    assert seen["duplicates"].features is None
    assert np.isfinite(seen["outliers"].features).all()  # type: ignore[arg-type]
    assert len(seen["outliers"].survey) == 10


def test_without_a_network_it_says_so(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_sight, "find_spec", lambda name: None)
    sight = see(material.table, model=None, features="auto", listener=SILENT)
    assert sight.features is None
    assert [found.code for found in sight.findings] == ["not_looked_for"]
    assert 'pip install "sortal[train]"' in str(sight.findings[0].hint)


def test_no_weights_at_hand_are_no_error(material: Material, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SORTAL_ZOO", str(tmp_path))
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path))
    sight = see(material.table, model=None, features="auto", listener=SILENT)
    assert "SORTAL_ZOO" in str(sight.findings[0].hint)


def test_a_sample_is_seen_of_very_many_images(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_sight, "MOST_IMAGES", 25)
    rows, told = audit_sight._sample(material.table)
    assert len(np.unique(rows)) == 25
    assert told[0].code == "sampled"


def test_answers_are_those_of_the_same_classes_only() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1]], np.float32))
    known = LabelSet(names=("a", "b", "c"))
    given = predictions_from_logits(logits, names=["x"], labels=known, decision=DecisionSpec(), bundle_id="", errors={})
    found = audit_sight._answers(given, known, LabelSet(names=("c", "a")))
    assert np.allclose(found, [[0.125, 0.875]], atol=1e-6)  # type: ignore[arg-type]
    assert audit_sight._answers(given, known, LabelSet(names=("a", "z"))) is None


def test_own_answers_replace_only_rows_that_have_them() -> None:
    own = np.array([[np.nan, np.nan], [0.9, 0.1]], np.float32)
    sight = Sight(by="m", answers=own)
    assert sight.with_own_answers(np.full((2, 2), 0.5, np.float32)).tolist() == [[0.5, 0.5], pytest.approx([0.9, 0.1])]


def test_thumbnails_stop_at_their_budget_and_every_section_has_some(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = material.table.names()
    picked = pick(pl.concat([issues("dark", "warning", names[:30]), issues("blurry", "warning", names[30:])]))
    everything = evidence(material.table, picked, SILENT)
    assert len(everything) == 60
    budget = sum(map(len, everything.values())) // 3
    monkeypatch.setattr(audit_pictures, "EVIDENCE_BYTES", budget)
    some = evidence(material.table, picked, SILENT)
    assert 10 < len(some) < 30
    assert sum(map(len, some.values())) <= budget
    for one in picked:
        assert sum(item.names[0] in some for item in one.items) >= len(some) // 2 - 1


def test_the_map_has_a_picture_for_every_point_within_its_budget(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: ImageTable = material.table
    flagged = issues("dark", "warning", [table.name(3)])
    sight = Sight(by="card", features=material.features)
    plane = map_of(material, flagged, sight, SILENT, pictures=True)
    assert plane is not None
    assert plane.points == 60 == len(plane.data["x"])
    assert [name for name, issue in zip(plane.data["name"], plane.data["issue"], strict=True) if issue >= 0] == [
        table.name(3)
    ]
    assert len(plane.sheets) == 1
    full = len(plane.sheets[0])
    monkeypatch.setattr(audit_pictures, "SHEET_BYTES", full // 2)
    monkeypatch.setattr(audit_pictures, "POINTS", 20)
    smaller = map_of(material, flagged, sight, SILENT, pictures=True)
    assert smaller is not None
    assert smaller.points == 20
    assert table.name(3) in smaller.data["name"]
    assert sum(map(len, smaller.sheets)) <= full // 2
    bare = map_of(material, flagged, sight, SILENT, pictures=False)
    assert bare is not None
    assert (bare.sheets, bare.data["columns"]) == ([], 0)


class _Stops(Silent):
    """Ctrl-C at the beginning of a stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage == self.stage:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["looking at images", "comparing images", "checking", "writing the page"])
def test_interrupted_it_leaves_nothing_behind(
    material: Material, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        sortal.audit(material.table, features="none", listener=_Stops(stage))
    with pytest.raises(KeyboardInterrupt):
        sortal.audit(material.table, features="none", out="here", listener=_Stops(stage))
    assert list(tmp_path.iterdir()) == []


def test_in_a_folder_with_other_things_only_its_own_files_are_replaced(material: Material, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "audit.json").write_text("old")
    report = sortal.audit(material.table, features="none", out=tmp_path, only=["readable"])
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert Report.from_json((tmp_path / "audit.json").read_bytes()) == report
    assert len(list(tmp_path.iterdir())) == 5
