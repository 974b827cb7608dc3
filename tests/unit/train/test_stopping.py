from __future__ import annotations

import signal
import threading

import pytest

from sortal.train import stopping
from sortal.train.phases import Phase, phase_at
from sortal.train.schedule import Pace
from sortal.train.stopping import MAX_EPOCHS, Budget, stop_on_signals


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


ONE = (Phase(share=1.0, size=(32, 32)),)


def simulate(
    *, deadline_s: float | None, step_s: float, eval_s: float, epoch: int, wanted: int | None, slower_from: int = 10**9
) -> tuple[float, int, list[float]]:
    """The loop's use of a budget with a fake clock: (end of training, steps, progress at every step)."""
    clock = Clock()
    budget = Budget(deadline_s=deadline_s, steps_per_epoch=epoch, phases=ONE, wanted=wanted, clock=clock)
    pace, step, progress = Pace(total=wanted or 10 * epoch), 0, []
    while step < pace.total:
        progress.append(pace.at(step))
        spent_s = step_s * (3.0 if step == 0 else 1.0) * (2.0 if step >= slower_from else 1.0)
        clock.now_s += spent_s
        budget.add(spent_s, 0)
        step += 1
        if step == 3 or step % 20 == 0:
            pace = budget.refit(pace, step)
        if step % epoch == 0 or step >= pace.total:
            clock.now_s += eval_s
            budget.eval_s = eval_s
            pace = budget.refit(pace, step)
    return clock.now_s, step, progress


@pytest.mark.parametrize("epoch", [5, 26, 400])
@pytest.mark.parametrize(("deadline_s", "step_s"), [(60.0, 0.1), (600.0, 0.4)])
def test_training_fills_the_time_and_no_more(epoch: int, deadline_s: float, step_s: float) -> None:
    ended_s, _, progress = simulate(deadline_s=deadline_s, step_s=step_s, eval_s=1.0, epoch=epoch, wanted=None)
    assert 0.9 * deadline_s <= ended_s <= 1.02 * deadline_s
    assert progress == sorted(progress)
    assert progress[-1] > 0.95  # the cosine has come to its end


def test_a_machine_that_gets_slower_still_keeps_the_time() -> None:
    ended_s, _, progress = simulate(deadline_s=100.0, step_s=0.1, eval_s=0.5, epoch=50, wanted=None, slower_from=200)
    assert 85 <= ended_s <= 103
    assert progress[-1] > 0.95


def test_epochs_that_were_asked_for_are_an_upper_limit() -> None:
    _, steps, _ = simulate(deadline_s=1000.0, step_s=0.1, eval_s=0.1, epoch=10, wanted=40)
    assert steps == 40
    ended_s, steps, _ = simulate(deadline_s=10.0, step_s=0.1, eval_s=0.1, epoch=10, wanted=4000)
    assert steps < 4000
    assert ended_s <= 10.2


def test_without_a_deadline_the_steps_stay_as_they_are() -> None:
    assert simulate(deadline_s=None, step_s=9.0, eval_s=9.0, epoch=7, wanted=21)[1] == 21


def test_a_long_budget_has_a_limit_and_a_spent_one_ends_at_once() -> None:
    assert simulate(deadline_s=1e9, step_s=0.01, eval_s=0.0, epoch=2, wanted=None)[1] == 2 * MAX_EPOCHS
    assert simulate(deadline_s=0.0, step_s=1.0, eval_s=0.0, epoch=100, wanted=None)[1] == 3


def test_the_second_signal_acts_as_it_did_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_SAME_S", 1e9)
    with stop_on_signals() as flag:
        assert not flag.requested
        signal.raise_signal(signal.SIGINT)
        assert flag.requested
        assert not flag.urgent
        signal.raise_signal(signal.SIGINT)  # passed on by torchrun a moment later: the same one
        monkeypatch.setattr(stopping, "_SAME_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with stop_on_signals() as flag:
            seen.append((flag.requested, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


def test_small_images_first_still_fill_the_time() -> None:
    """A step of the second phase takes four times as long; the budget knows before it has seen one."""
    phases = (Phase(share=0.5, size=(16, 16)), Phase(share=0.5, size=(32, 32)))
    clock = Clock()
    budget = Budget(deadline_s=300.0, steps_per_epoch=20, phases=phases, wanted=None, clock=clock)
    pace, step, sizes = Pace(total=200), 0, []
    while step < pace.total:
        number = phase_at(phases, pace.at(step - step % 20))
        sizes.append(number)
        clock.now_s += 0.1 * (4 if number else 1)
        budget.add(0.1 * (4 if number else 1), number)
        step += 1
        if step == 3 or step % 20 == 0:
            pace = budget.refit(pace, step)
    assert 285 <= clock.now_s <= 305
    assert 0.45 <= sizes.count(0) / len(sizes) <= 0.55
    assert abs(budget.left_s(Pace(total=step + 10), step) - 4.0) < 0.01
