from __future__ import annotations

import pytest

from gratings import recipe
from sortal.core.errors import RecipeError
from sortal.train.phases import Phase, cost_ahead, make_phases, phase_at


def shapes(*settings: str, frozen: bool = False, tuned: bool = True) -> list[tuple[float, int, int | None]]:
    found = make_phases(recipe(*settings), (224, 224), frozen=frozen, tuned=tuned)
    assert sum(phase.share for phase in found) == pytest.approx(1.0)
    return [(round(phase.share, 3), phase.size[0], phase.keep_last) for phase in found]


def test_without_wishes_there_is_one_phase() -> None:
    assert shapes(tuned=False) == [(1.0, 224, None)]
    assert shapes() == [(1.0, 192, None)]  # fine-tuning: production sees the larger input
    assert shapes(frozen=True) == [(1.0, 224, 0)]
    assert shapes("train.unfreeze=3") == [(1.0, 192, 3)]


def test_sizes_divide_the_steps_and_unfreezing_is_laid_over_them() -> None:
    assert shapes("train.sizes=[128,160,224]") == [(0.333, 128, None), (0.333, 160, None), (0.333, 224, None)]
    assert shapes("train.unfreeze=gradual") == [(0.1, 192, 0), (0.2, 192, 2), (0.7, 192, None)]
    both = shapes("train.unfreeze=gradual", "train.sizes=[128,224]")
    assert both == [(0.1, 128, 0), (0.2, 128, 2), (0.2, 128, None), (0.5, 224, None)]
    assert shapes("train.unfreeze=gradual", tuned=False) == [(1.0, 224, None)]  # from scratch all layers learn


def test_inputs_that_are_not_square_keep_their_shape() -> None:
    found = make_phases(recipe("train.sizes=[128,192]"), (192, 384), frozen=False, tuned=True)
    assert [phase.size for phase in found] == [(128, 256), (192, 384)]


@pytest.mark.parametrize("sizes", ["[224,128]", "[]"])
def test_sizes_that_fall_are_refused(sizes: str) -> None:
    with pytest.raises(RecipeError, match=r"train\.sizes"):
        make_phases(recipe(f"train.sizes={sizes}"), (224, 224), frozen=False, tuned=True)


def test_which_phase_it_is_and_what_lies_ahead() -> None:
    phases = [Phase(share=0.25, size=(16, 16)), Phase(share=0.75, size=(32, 32))]
    assert [phase_at(phases, progress) for progress in (0.0, 0.2499, 0.25, 0.9, 1.0)] == [0, 0, 1, 1, 1]
    assert cost_ahead(phases, 0.0, [1.0, 4.0]) == pytest.approx(0.25 * 1 + 0.75 * 4)
    assert cost_ahead(phases, 0.5, [1.0, 4.0]) == 4.0
    assert cost_ahead(phases, 1.0, [1.0, 4.0]) == 4.0


def test_frozen_stages_and_small_images_cost_less() -> None:
    whole = Phase(share=1.0, size=(64, 64)).cost
    assert Phase(share=1.0, size=(32, 32)).cost == whole / 4
    assert Phase(share=1.0, size=(64, 64), keep_last=0).cost < Phase(share=1.0, size=(64, 64), keep_last=2).cost < whole
