"""What the frontier tries, when it stops, and what it takes: numbers in, choices out."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.compress.frontier.clock import MARGIN, Clock
from sortal.compress.frontier.pick import Point, pareto, pick, standard_error
from sortal.compress.frontier.wish import Wish, cuts_to_try, sides_to_try, size_at


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        (224, (), (224, 192, 160)),
        (128, (), (128, 112, 96)),
        (96, (), (96, 80, 72)),
        (32, (), (32, 28, 24)),
        (16, (), (16,)),
        (224, (96, 224, 128), (224, 128, 96)),
        (128, (160,), (128, 160)),
    ],
)
def test_sides_begin_with_the_own_one_and_go_down(own: int, asked: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert sides_to_try(own, asked) == expected


def test_a_side_keeps_the_proportions() -> None:
    assert size_at((224, 224), 160) == (160, 160)
    assert size_at((96, 192), 48) == (48, 96)
    assert size_at((192, 96), 72) == (144, 72)


def test_shares_to_cut() -> None:
    assert cuts_to_try(0.0) == (0.25, 0.5)
    assert cuts_to_try(0.4) == (0.2, 0.4)


def test_names_and_parents_of_candidates() -> None:
    one = Wish(side=96, cut=0.25, precision="int8")
    assert (one.name, one.folder, one.kind) == ("96 px, 25 % cut, int8", "96px-cut25-int8", "int8")
    assert one.parent == Wish(side=96, cut=0.25)
    assert one.parent.kind == "cut"
    assert one.parent.parent == Wish(side=96)
    assert Wish(side=96, cut=0.125).folder == "96px-cut12p5-float32"


def test_time_is_estimated_from_the_nearest_step_of_the_same_kind() -> None:
    clock = Clock(budget_s=None)
    assert clock.estimate_s(Wish(side=224)) is None
    assert clock.forbids(Wish(side=224)) == ""
    clock.learn(Wish(side=224), 100.0)
    clock.learn(Wish(side=112), 40.0)
    assert clock.estimate_s(Wish(side=224)) == pytest.approx(100.0)
    assert 10.0 < clock.estimate_s(Wish(side=96)) < 40.0
    assert clock.estimate_s(Wish(side=224, precision="int8")) > 100.0
    clock.learn(Wish(side=224, precision="int8"), 30.0)
    assert clock.estimate_s(Wish(side=224, precision="int8")) == pytest.approx(30.0)


def test_what_cannot_finish_is_not_begun() -> None:
    clock = Clock(budget_s=100.0)
    clock.learn(Wish(side=224), 100.0 / MARGIN - 5)
    assert clock.forbids(Wish(side=224)) == ""
    clock.learn(Wish(side=112, cut=0.5), 500.0)
    assert "would take about" in clock.forbids(Wish(side=112, cut=0.5))
    assert Clock(budget_s=None, _seen=[(Wish(side=112), 1e9)]).forbids(Wish(side=112)) == ""


def point(accuracy: float, ms: float, size: int, *, keeps: bool = True, steady: bool = True, **more: bool) -> Point:
    return Point(accuracy=accuracy, ms=ms, size_bytes=size, keeps=keeps, steady=steady, **more)


def test_what_another_beats_in_everything_is_not_worth_it() -> None:
    points = [point(0.9, 10, 100), point(0.9, 8, 100), point(0.8, 9, 100), point(0.8, 9, 50), point(0.9, 8, 100)]
    assert pareto(points) == (False, True, False, True, True)


def test_the_smallest_that_keeps_what_is_asked_is_taken() -> None:
    own = point(0.9, 10, 100, original=True)
    assert pick([own]) is None
    assert pick([own, point(0.7, 2, 10, keeps=False)]) is None
    found = pick([own, point(0.9, 5, 50), point(0.89, 4, 30), point(0.7, 2, 10, keeps=False)])
    assert found is not None
    assert (found.place, found.steady) == (2, True)


def test_of_files_about_as_small_the_fastest_is_taken() -> None:
    own = point(0.9, 10, 1000, original=True)
    found = pick([own, point(0.9, 6, 300), point(0.9, 3, 310), point(0.9, 1, 330)])
    assert found is not None
    assert found.place == 2


def test_a_standard_error_to_spare_goes_before_size_and_is_done_without_where_none_has_it() -> None:
    own = point(0.9, 10, 100, original=True)
    close, safe = point(0.9, 1, 10, steady=False), point(0.9, 5, 50)
    preferred, alone = pick([own, close, safe]), pick([own, close])
    assert preferred is not None
    assert alone is not None
    assert (preferred.place, preferred.steady) == (2, True)
    assert (alone.place, alone.steady) == (1, False)


def test_standard_error_is_that_of_a_mean_and_grows_where_images_belong_together() -> None:
    random = np.random.default_rng(0)
    lost = random.choice([-1, 0, 0, 0, 1], 400).astype(np.int64)
    alone = standard_error(lost, None)
    assert alone == pytest.approx(100 * lost.std(ddof=1) / np.sqrt(400))
    together = np.repeat(np.arange(40), 10)
    assert standard_error(np.repeat(lost[:40], 10), together) > 2 * standard_error(np.repeat(lost[:40], 10), None)
    assert standard_error(np.zeros(50, np.int64), None) == 0.0
    assert standard_error(np.ones(1, np.int64), None) == 0.0
