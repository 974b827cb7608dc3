"""When a canary is ended: seldom by chance, whatever it is looked at, and soon where it does worse."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from sortal.serve.rollout.guard import BETWEEN, TAILS, Guard, Limits, Seen, exceeds, slower, upper_bound
from sortal.serve.rollout.routing import place

LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How one of two classifiers behaves."""

    errors: float = 0.01
    abstained: float = 0.1
    slowness: float = 1.0


def rollout(canary: Arm, live: Arm, *, share: float, requests: int, seed: int, disagreed: float = 0.1) -> int | None:
    """The number of requests after which the canary was ended; None where it was not."""
    random, guard = np.random.default_rng(seed), Guard(LIMITS)
    drawn = random.random((requests, 4))
    times = random.lognormal(-3.0, 0.5, requests)
    for number, ((who, error, doubt, differ), seconds) in enumerate(zip(drawn.tolist(), times.tolist(), strict=True)):
        is_canary = who < share
        arm = canary if is_canary else live
        guard.note(
            Seen(
                canary=is_canary,
                failed=error < arm.errors,
                seconds=seconds * arm.slowness,
                abstained=doubt < arm.abstained,
            )
        )
        if is_canary:
            guard.compare(same=differ >= disagreed)
        if guard.reason() is not None:
            return number + 1
    return None


def test_a_canary_that_is_as_good_is_not_ended_by_chance() -> None:
    ended = [rollout(Arm(), Arm(), share=0.2, requests=2_000, seed=seed) for seed in range(40)]
    assert [one for one in ended if one is not None] == []


@pytest.mark.parametrize("runs", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_at_the_very_limits_one_in_a_hundred_is_ended_at_most(runs: int) -> None:
    """All four limits are just kept: the hardest case that the stated chance has to hold for."""
    at_the_limit = Arm(errors=0.01 + LIMITS.errors, abstained=0.1 + LIMITS.abstained, slowness=LIMITS.latency)
    ended = [
        rollout(at_the_limit, Arm(), share=0.5, requests=1_500, seed=seed, disagreed=LIMITS.disagreed)
        for seed in range(runs)
    ]
    assert sum(one is not None for one in ended) <= runs * LIMITS.chance


@pytest.mark.parametrize(
    ("canary", "disagreed", "within"),
    [
        (Arm(errors=1.0), 0.1, 60),
        (Arm(errors=0.4), 0.1, 400),
        (Arm(abstained=1.0), 0.1, 100),
        (Arm(slowness=8.0), 0.1, 200),
        (Arm(), 0.9, 100),
    ],
)
def test_a_canary_that_does_worse_is_ended_soon(canary: Arm, disagreed: float, within: int) -> None:
    for seed in range(5):
        ended = rollout(canary, Arm(), share=0.5, requests=4_000, seed=seed, disagreed=disagreed)
        assert ended is not None
        assert LIMITS.requests <= ended <= within


def test_a_canary_that_begins_to_fail_late_is_ended_too() -> None:
    guard = Guard(LIMITS)
    for number in range(20_000):
        guard.note(Seen(canary=number % 10 == 0, failed=False, seconds=0.01))
        assert guard.reason() is None
    for number in range(20_000, 20_600):
        guard.note(Seen(canary=number % 10 == 0, failed=number % 10 == 0, seconds=0.01))
        reason = guard.reason()
        if reason is not None:
            break
    assert reason is not None
    assert reason.startswith("it failed")


def test_what_befalls_both_ends_nobody() -> None:
    guard = Guard(LIMITS)
    for number in range(4_000):
        bad = number > 2_000
        guard.note(Seen(canary=number % 5 == 0, failed=bad and number % 3 == 0, seconds=1.0 if bad else 0.01))
        assert guard.reason() is None


def test_it_says_nothing_before_it_has_seen_enough() -> None:
    guard = Guard(LIMITS)
    for _ in range(LIMITS.requests - 1):
        guard.note(Seen(canary=True, failed=True))
        guard.note(Seen(canary=False, failed=False))
        assert guard.reason() is None
    for _ in range(BETWEEN):
        guard.note(Seen(canary=True, failed=True))
    assert (
        guard.reason()
        == f"it failed {LIMITS.requests - 1 + BETWEEN} of {LIMITS.requests - 1 + BETWEEN} requests, "
        + (f"the live one 0 of {LIMITS.requests - 1}")
    )


def test_bounds_hold_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    above = [
        exceeds((int(a), 200), (int(b), 1_000), 0.0, 0.05) for a, b in random.binomial((200, 1_000), 0.1, (2_000, 2))
    ]
    assert np.mean(above) <= 0.05
    for tail in TAILS.values():
        true = float(np.quantile(np.random.default_rng(4).exponential(size=1_000_000), 1 - tail))
        drawn = [upper_bound(random.exponential(size=800), 0.05, tail=tail) for _ in range(400)]
        assert 0.0 < np.mean([one is not None and one < true for one in drawn]) <= 0.07
        late = [
            slower(2 * random.exponential(size=200), random.exponential(size=800), 2.0, 0.05, tail=tail)
            for _ in range(200)
        ]
        assert np.mean(late) <= 0.05
    assert upper_bound(random.exponential(size=200), 0.01, tail=0.01) is None


def test_a_slow_tail_is_found_where_the_median_is_as_it_was() -> None:
    random, guard = np.random.default_rng(5), Guard(LIMITS)
    for number in range(20_000):
        canary, slow = number % 4 == 0, random.random() < 0.05
        guard.note(Seen(canary=canary, failed=False, seconds=0.5 if canary and slow else 0.01 + 0.01 * random.random()))
        reason = guard.reason()
        if reason is not None:
            break
    assert reason is not None
    assert reason.startswith("its 99th percentile is 500 ms, that of the live one")


def test_places_are_even_sticky_and_new_for_each_rollout() -> None:
    keys = [f"part-{number}" for number in range(20_000)]
    places = np.array([place(key, "one") for key in keys])
    assert abs(np.mean(places < 0.1) - 0.1) < 0.01
    counts = np.histogram(places, bins=20, range=(0.0, 1.0))[0]
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 43.8  # chi-square with 19 degrees of freedom, 0.1 %
    assert places.tolist() == [place(key, "one") for key in keys]
    other = np.array([place(key, "two") for key in keys])
    assert abs(np.corrcoef(places, other)[0, 1]) < 0.03
    assert Counter(np.sign(places - other).tolist())[0.0] == 0
    assert place("\ud800", "one") != place("a\n", "one")
