"""The learning rate against its formula and against torch."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.train.schedule import Pace, rate_at


def test_cosine_from_1e_3_to_1e_6_in_50_epochs_is_that_of_torch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-6)
    for epoch in range(51):
        ours = rate_at(epoch / 50, base=1e-3, warmup=0.0)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        cosine.step()
    assert rate_at(0.0, base=1e-3, warmup=0.0) == 1e-3
    assert rate_at(1.0, base=1e-3, warmup=0.0) == pytest.approx(1e-6)


@pytest.mark.parametrize("steps", [10, 50, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3])
def test_the_rate_rises_linearly_then_never_again(steps: int, warmup: float) -> None:
    rates = [rate_at(step / steps, base=1.0, warmup=warmup) for step in range(steps + 1)]
    top = max(range(len(rates)), key=rates.__getitem__)
    rising = [b - a for a, b in pairwise(rates[:top])]
    assert all(step == pytest.approx(rising[0], rel=1e-6) for step in rising)
    assert all(b <= a for a, b in pairwise(rates[top:]))
    assert rates[-1] == pytest.approx(1e-3)


def test_warm_up_hands_over_at_the_base_rate() -> None:
    assert rate_at(0.05, base=2.0, warmup=0.05) == 2.0
    assert rate_at(0.05 - 1e-9, base=2.0, warmup=0.05) == pytest.approx(2.0, rel=1e-6)
    assert rate_at(1.0, base=2.0, warmup=1.0) == pytest.approx(2e-3)


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
