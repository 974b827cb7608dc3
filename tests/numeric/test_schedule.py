"""The learning rate against its formulas and against torch."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.core.sections import ScheduleSection
from sortal.train.schedule import Pace, cycle_at, patience_epochs, rate_at, schedule_notes

NAMES = get_args(ScheduleSection.model_fields["name"].annotation)


def section(name: str = "cosine", **settings: object) -> ScheduleSection:
    return ScheduleSection.model_validate({"name": name, "warmup": 0.0, **settings})


def by_torch(make: object, epochs: int, lr: float) -> list[float]:
    """Rates of a torch scheduler at the start of each epoch, and at the end."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)  # type: ignore[operator]
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(epochs):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def ours(shape: ScheduleSection, epochs: int, lr: float, *, last: bool = False) -> list[float]:
    return [rate_at(epoch / epochs, shape, base=lr, epochs=epochs) for epoch in range(epochs + last)]


def test_cosine_from_1e_3_to_1e_6_in_50_epochs_is_that_of_torch() -> None:
    rates = ours(section(), 50, 1e-3, last=True)
    expected = by_torch(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=50, eta_min=1e-6), 50, 1e-3)
    assert rates == pytest.approx(expected, rel=1e-9)
    assert rates[0] == 1e-3
    assert rates[-1] == pytest.approx(1e-6)
    assert rate_at(1.5, section(), base=1e-3, epochs=50) == pytest.approx(1e-6)  # it never climbs back


@pytest.mark.parametrize(("factor", "restarts"), [(2.0, [5, 15, 35, 75]), (1.0, list(range(5, 80, 5)))])
def test_restarts_come_where_sgdr_has_them_and_rates_are_those_of_torch(factor: float, restarts: list[int]) -> None:
    shape = section("cosine_restarts", period=5, period_factor=factor, floor=1e-4)
    rates = ours(shape, 80, 0.01)
    assert [epoch for epoch in range(1, 80) if rates[epoch] > rates[epoch - 1]] == restarts
    assert all(rates[epoch] == pytest.approx(0.01, rel=1e-12) for epoch in (0, *restarts))
    expected = by_torch(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=5, T_mult=int(factor), eta_min=1e-6),
        80,
        0.01,
    )
    assert rates == pytest.approx(expected[:80], rel=1e-6)
    just_before = rate_at((restarts[0] - 1e-6) / 80, shape, base=0.01, epochs=80)
    assert just_before == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("epochs", [7, 50, 90, 128])
def test_steps_are_the_power_of_the_drops(epochs: int) -> None:
    rates = ours(section("step", step=10, factor=0.1), epochs, 0.01)
    assert rates == pytest.approx([0.01 * 0.1 ** (epoch // 10) for epoch in range(epochs)], rel=1e-9)


def test_one_cycle_is_that_of_torch() -> None:
    steps, up = 200, 0.3
    shape = section("one_cycle", warmup=up, floor=1e-3)
    rates = ours(shape, steps, 0.5, last=True)
    pct = (up * steps + 1) / (steps + 1)
    expected = by_torch(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.5, total_steps=steps + 1, pct_start=pct, div_factor=25, final_div_factor=1e3 / 25, cycle_momentum=False
        ),
        steps,
        0.5,
    )
    assert rates == pytest.approx(expected, rel=1e-6)
    assert (rates[0], max(rates), rates[-1]) == pytest.approx((0.5 / 25, 0.5, 0.5e-3))


def test_triangle_is_two_straight_lines() -> None:
    rates = ours(section("triangle", warmup=0.25, floor=0.1), 40, 1.0, last=True)
    assert (rates[0], rates[10], rates[-1]) == pytest.approx((0.01, 1.0, 0.1))
    for part in (rates[:11], rates[10:]):
        steps = [b - a for a, b in pairwise(part)]
        assert steps == pytest.approx([steps[0]] * len(steps))


def test_constant_stays() -> None:
    assert set(ours(section("constant"), 30, 0.3, last=True)) == {0.3}


@pytest.mark.parametrize("steps", [10, 50, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3])
def test_cosine_rises_linearly_then_never_again(steps: int, warmup: float) -> None:
    rates = ours(section(warmup=warmup), steps, 1.0, last=True)
    top = max(range(len(rates)), key=rates.__getitem__)
    rising = [b - a for a, b in pairwise(rates[:top])]
    assert all(step == pytest.approx(rising[0], rel=1e-6) for step in rising)
    assert all(b <= a for a, b in pairwise(rates[top:]))
    assert rates[-1] == pytest.approx(1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_warm_up_hands_over_to_every_shape_at_the_base_rate(name: str) -> None:
    shape = section(name, warmup=0.05)
    assert rate_at(0.05, shape, base=2.0, epochs=40) == pytest.approx(2.0)
    assert rate_at(0.05 - 1e-9, shape, base=2.0, epochs=40) == pytest.approx(2.0, rel=1e-6)
    assert rate_at(0.0, shape, base=2.0, epochs=40) == pytest.approx(2 / 25 if name == "one_cycle" else 0.02)
    assert rate_at(1.0, section(warmup=1.0), base=2.0, epochs=40) == pytest.approx(2e-3)


def test_restarts_stay_where_they_are_with_a_warm_up() -> None:
    rates = ours(section("cosine_restarts", warmup=0.05), 40, 1.0)  # two epochs of warm-up
    assert [epoch for epoch in range(3, 40) if rates[epoch] > rates[epoch - 1]] == [5, 15, 35]
    assert rates[2] == pytest.approx(1.0)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    warmup=st.floats(0, 1),
    floor=st.floats(0, 1),
    period=st.floats(0.1, 20),
    factor=st.floats(1, 3),
    epochs=st.integers(1, 400),
    progress=st.floats(0, 1),
)
def test_rates_stay_between_nothing_and_base(
    name: str, warmup: float, floor: float, period: float, factor: float, epochs: int, progress: float
) -> None:
    shape = section(name, warmup=warmup, floor=floor, period=period, period_factor=factor)
    rate = rate_at(progress, shape, base=0.5, epochs=epochs)
    assert 0.0 <= rate <= 0.5 * (1 + 1e-12)


def test_early_stopping_waits_for_the_end_of_a_cycle_that_brought_nothing() -> None:
    shape = section("cosine_restarts", period=5, period_factor=2)

    def stops(best_epoch: int) -> int:
        epochs = range(best_epoch + 1, 200)
        return next(epoch for epoch in epochs if epoch - best_epoch >= patience_epochs(shape, epoch, 10))

    assert stops(4) == 15  # the first cycle ends at 5, the second, which brought nothing, at 15
    assert stops(5) == 15
    assert stops(6) == 35  # the second brought something
    assert stops(34) == 75
    assert [patience_epochs(section(), epoch, 10) for epoch in (1, 15, 40)] == [10, 10, 10]
    assert cycle_at(shape, 34.9) == (15, 20)


def test_notes_say_when_a_schedule_ends_too_soon_or_within_a_cycle() -> None:
    (note,) = schedule_notes(section("step", step=10, factor=0.1), 50)
    assert "last 20 of 50 epochs" in note
    assert not schedule_notes(section("step", step=20, factor=0.1), 50)
    assert not schedule_notes(section("step", step=10, factor=1.0), 50)
    within, impatient = schedule_notes(section("cosine_restarts"), 50, patience=10)
    assert "train.epochs=35 or 75" in within
    assert "shorter than a cycle of 40" in impatient
    assert not schedule_notes(section("cosine_restarts"), 35, patience=20)
    assert "warm-up" in schedule_notes(section("cosine_restarts", warmup=0.5), 35)[0]
    assert not schedule_notes(section("cosine"), 50, patience=1)


def test_pace_without_a_budget_is_the_share_of_steps() -> None:
    pace = Pace(total=40)
    assert [pace.at(step) for step in (0, 10, 40, 50)] == [0.0, 0.25, 1.0, 1.0]
    assert Pace(total=0).at(0) == 1.0


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 300)), max_size=8))
def test_progress_never_falls_however_often_the_budget_changes_the_steps(changes: list[tuple[int, int]]) -> None:
    pace, step, seen = Pace(total=100), 0, [0.0]
    for ahead, total in changes:
        step += ahead
        before = pace.at(step)
        pace = pace.refit(step, total)
        if step < total:
            assert pace.at(step) == pytest.approx(before)
        seen.append(pace.at(step))
    assert all(b >= a - 1e-12 for a, b in pairwise(seen))
    assert pace.at(pace.total) == pytest.approx(1.0)
