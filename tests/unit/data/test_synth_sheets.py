"""Scratched and dented sheet metal: grades, places, and pictures in which the marks really are where the table says."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sortal.core.errors import InputError
from sortal.data.open import images
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.marks import SCRATCH_GRADES, Mark, box_px, carve, draw_marks, near
from sortal.data.synth.options import SynthOptions, check
from sortal.data.synth.plan import make_plan
from sortal.data.synth.render import extent_mm, marks_of, picture
from sortal.data.synth.sheets import SHEET_COUNT, sheet_part

EXTENT = (31.0, 31.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def options(**changes: object) -> SynthOptions:
    settings: dict = {"task": "scratches", "classes": 3, "images": 24, "size_px": 48, "seed": 5} | changes
    return SynthOptions(**settings)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def line(*points: tuple[float, float], width: float = 1.0) -> Mark:
    return Mark(kind="scratch", grade="light", points=points, width_mm=width, depth_mm=0.1, bare=0.5)


def draw(number: int, what: str, size: tuple[int, int] = (128, 128), part: int = 3) -> np.ndarray:
    drawn = picture(sheet_part(part), seed=2, specimen=number, frame=number, grade=what, drift=0.0, size_px=size)
    return drawn.astype(float).mean(axis=2)


def test_a_worse_grade_is_longer_wider_and_deeper() -> None:
    drawn = {grade: [draw_marks(grade, EXTENT, rng(n))[0] for n in range(200)] for grade in SCRATCH_GRADES}
    for measure in ("length_mm", "width_mm", "depth_mm", "bare"):
        light, medium, severe = (np.mean([getattr(mark, measure) for mark in drawn[grade]]) for grade in SCRATCH_GRADES)
        assert light < medium < severe, measure
    assert all(mark.grade == grade for grade, marks in drawn.items() for mark in marks)


def test_lesser_scratches_may_lie_beside_the_one_that_counts_and_never_worse_ones() -> None:
    grades = [[mark.grade for mark in draw_marks("severe", EXTENT, rng(n))] for n in range(100)]
    assert all(found[0] == "severe" and "severe" not in found[1:] for found in grades)
    assert {len(found) for found in grades} == {1, 2, 3}
    assert all(len(draw_marks("light", EXTENT, rng(n))) == 1 for n in range(20))
    assert draw_marks("none", EXTENT, rng()) == ()


def test_a_box_holds_the_line_and_its_width_in_pixels() -> None:
    mark = line((-5.0, -2.0), (5.0, 3.0))
    assert mark.length_mm == pytest.approx(np.hypot(10, 5))
    assert box_px(mark, (20.0, 10.0), (200, 100)) == (45, 25, 155, 85)
    beyond = line((-50.0, 4.0), (50.0, 4.0))
    assert box_px(beyond, (20.0, 10.0), (200, 100)) == (0, 85, 200, 95)


def test_a_groove_is_deepest_on_its_line_and_has_burrs_beside_it() -> None:
    axis = (np.arange(200, dtype=np.float32) - 99.5) * 0.05
    x, y = np.meshgrid(axis, axis)
    depth, bare = carve(x, y, line((-3.0, 0.0), (3.0, 0.0)))
    assert depth[99, 100] == pytest.approx(0.1, rel=0.05)
    assert depth[:, 100].min() < -0.01  # a burr
    assert abs(depth[60, 100]) < 1e-4
    assert bare[99, 100] == 0.5
    place = near(x, y, line((-3.0, 0.0), (3.0, 0.0)))
    elsewhere = depth.copy()
    elsewhere[place] = 0
    assert np.abs(elsewhere).max() < 1e-4  # nothing is lost by looking at that part alone


@pytest.mark.parametrize("what", ["severe", "scratch", "dent"])
def test_the_picture_changes_inside_the_boxes(what: str) -> None:
    size = (128, 96)
    for number in range(4):
        change = np.abs(draw(number, what, size) - draw(number, "none", size))
        inside = np.zeros(change.shape, bool)
        for mark in marks_of(sheet_part(3), seed=2, specimen=number, what=what, size_px=size):
            left, top, right, bottom = box_px(mark, extent_mm(size), size)
            assert change[top:bottom, left:right].max() > 8
            inside[max(0, top - 4) : bottom + 4, max(0, left - 4) : right + 4] = True
        assert change[~inside].max() < 4


def test_scratches_of_a_worse_grade_change_more_pixels() -> None:
    size = (72, 72)
    clean = [draw(n, "none", size, part=n) for n in range(SHEET_COUNT)]

    def changed(grade: str) -> float:
        return float(np.mean([np.abs(draw(n, grade, size, part=n) - clean[n]).mean() for n in range(SHEET_COUNT)]))

    light, medium, severe = map(changed, SCRATCH_GRADES)
    assert 0.03 < light < 0.7 * medium < 0.5 * severe


def test_the_pair_that_is_easily_confused_differs_in_width_and_not_in_length() -> None:
    drawn = {what: [draw_marks(what, EXTENT, rng(n))[0] for n in range(300)] for what in ("scratch", "dent")}
    length = {what: np.mean([mark.length_mm for mark in marks]) for what, marks in drawn.items()}
    assert length["scratch"] == pytest.approx(length["dent"], rel=0.1)
    assert max(mark.width_mm for mark in drawn["scratch"]) < min(mark.width_mm for mark in drawn["dent"])


def test_grade_and_place_travel_together(tmp_path: Path) -> None:
    result = synthesize(tmp_path / "scratches", options(size_px=(64, 48)))
    truth = {row["path"]: row for row in rows(result.path / "truth.csv")}
    marks = rows(result.path / "marks.csv")
    worst: dict[str, str] = {}
    for row in marks:
        left, top, right, bottom = (int(row[key]) for key in ("left", "top", "right", "bottom"))
        assert 0 <= left < right <= 64
        assert 0 <= top < bottom <= 48
        assert row["true_label"] == truth[row["path"]]["true_label"]
        worst.setdefault(row["path"], row["grade"])
    assert worst == {path: row["label"] for path, row in truth.items() if row["label"] != "ok"}
    assert {row["defect"] for row in truth.values() if row["label"] == "ok"} == {"none"}


def test_the_folder_is_read_as_its_grades_and_ok(tmp_path: Path) -> None:
    folder = synthesize(tmp_path / "scratches", options()).path
    table = images(folder)
    assert table.labels.names == ("light", "medium", "ok", "severe")
    assert len(table) == 24


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    every = options(label_noise=0.1, exact_duplicates=0.1, near_duplicates=0.1, bursts=0.3, corrupt=0.1)
    one, two = synthesize(tmp_path / "one", every), synthesize(tmp_path / "two", every)
    assert one.digest == two.digest
    for name in ("truth.csv", "marks.csv", "synth.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    assert synthesize(tmp_path / "three", options(seed=6)).digest != one.digest


@pytest.mark.parametrize(
    ("share", "counts"),
    [
        (None, {"ok": 30, "light": 30, "medium": 30, "severe": 30}),
        (1.0, {"light": 40, "medium": 40, "severe": 40}),
        (0.3, {"ok": 84, "light": 12, "medium": 12, "severe": 12}),
    ],
)
def test_how_many_are_ok_is_asked_for_and_one_leaves_that_class_out(
    share: float | None, counts: dict[str, int]
) -> None:
    plan = make_plan(options(images=120, defects=share))
    assert Counter(shot.label for shot in plan) == counts
    assert all(shot.grade == ("none" if shot.label == "ok" else shot.label) for shot in plan)
    assert {shot.part.index for shot in plan} == {sheet_part(number).index for number in range(3)}


def test_a_long_tail_makes_severe_scratches_rare() -> None:
    found = Counter(shot.label for shot in make_plan(options(images=400, long_tail=10)))
    assert found["light"] > found["medium"] > found["severe"]
    assert found["light"] / found["severe"] == pytest.approx(10, rel=0.1)


def test_the_pair_has_two_classes() -> None:
    found = Counter(shot.label for shot in make_plan(options(task="scratch-dent", images=40)))
    assert found == {"scratch": 20, "dent": 20}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"classes": SHEET_COUNT + 1}, f"1 to {SHEET_COUNT}"),
        ({"images": 11}, "12 to"),
        ({"defects": 0.0}, "fewer than 3"),
        ({"defects": 0.99, "images": 100}, "leaves out the class ok"),
        ({"new_class": 1}, "fixed labels"),
        ({"task": "scratch-dent", "defects": 0.5}, "tasks kind and scratches"),
        ({"task": "scratch-dent", "images": 5}, "6 to"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        check(options(**wrong))
    assert says in str(caught.value)
