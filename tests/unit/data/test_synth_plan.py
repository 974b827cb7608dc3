"""The plan of a drawn data set: how many pictures, under which labels, repeating what."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from sortal.core.errors import InputError
from sortal.data.synth.catalog import catalog
from sortal.data.synth.nuts import NUTS
from sortal.data.synth.options import MIN_PER_CLASS, SynthOptions, check
from sortal.data.synth.plan import class_counts, make_plan
from sortal.data.synth.plates import PLATES
from sortal.data.synth.rods import RODS
from sortal.data.synth.surface import FINISHES


def test_the_catalog_names_every_class_once_and_can_draw_it():
    parts = catalog()
    assert len(parts) >= 300
    assert len({part.name.casefold() for part in parts}) == len(parts)
    assert {part.kind for part in parts} == set(RODS | NUTS | PLATES)
    assert {part.finish for part in parts} <= set(FINISHES)
    assert [part.index for part in parts] == list(range(len(parts)))
    assert len({part.kind for part in parts[:12]}) == 12


@pytest.mark.parametrize(
    ("images", "classes", "ratio"), [(6000, 200, 50.0), (1200, 12, 1.0), (100, 12, 8.0), (36, 12, 5.0)]
)
def test_class_counts_follow_the_long_tail(images, classes, ratio):
    counts = class_counts(images, classes, ratio)
    assert sum(counts) == images
    assert counts == sorted(counts, reverse=True)
    assert min(counts) >= MIN_PER_CLASS
    if min(counts) > MIN_PER_CLASS:
        assert counts[0] / counts[-1] == pytest.approx(ratio, rel=0.15)


def test_a_long_tail_is_exponential_in_the_middle():
    counts = np.array(class_counts(100_000, 50, 20.0))
    steps = np.diff(np.log(counts))
    assert np.allclose(steps, -np.log(20.0) / 49, atol=0.005)


def test_which_class_is_large_depends_on_the_seed():
    def sizes(seed):
        return Counter(shot.label for shot in make_plan(SynthOptions(images=300, long_tail=10, seed=seed)))

    assert sizes(1) == sizes(1)
    assert sizes(1) != sizes(2)
    assert sorted(sizes(1).values()) == sorted(sizes(2).values())


def test_numbers_run_through_and_do_not_follow_the_classes():
    plan = make_plan(SynthOptions(images=240))
    assert [shot.number for shot in plan] == list(range(240))
    changes = sum(one.label != two.label for one, two in pairwise(plan))
    assert changes > 180


def test_label_noise_moves_the_asked_share_to_other_known_labels():
    plan = make_plan(SynthOptions(images=400, label_noise=0.1, new_class=1))
    wrong = [shot for shot in plan if shot.label != shot.true_label]
    assert len(wrong) == 40
    assert {shot.label for shot in wrong} <= {part.name for part in catalog()[:12]}
    assert not any(shot.new_class for shot in wrong)
    assert len({(shot.true_label, shot.label) for shot in wrong}) > 20


def test_repeats_and_corrupt_files_have_their_shares_and_do_not_mix():
    plan = make_plan(SynthOptions(images=400, exact_duplicates=0.05, near_duplicates=0.1, corrupt=0.05))
    exact = [shot for shot in plan if shot.repeats is not None and not shot.near]
    near = [shot for shot in plan if shot.near]
    corrupt = [shot for shot in plan if shot.corruption]
    assert (len(exact), len(near), len(corrupt)) == (20, 40, 20)
    for shot in exact + near:
        source = plan[shot.repeats]
        assert source.repeats is None
        assert source.corruption == ""
        assert (source.group, source.true_label) == (shot.group, shot.true_label)
    assert not {shot.number for shot in corrupt} & {shot.number for shot in exact + near}
    assert {shot.corruption for shot in corrupt} == {"truncated", "empty", "garbage", "header", "text"}


def test_bursts_are_neighbors_of_one_object():
    plan = make_plan(SynthOptions(images=400, bursts=0.3))
    frames = [shot for shot in plan if shot.burst]
    assert abs(len(frames) - 120) <= 1
    for shot in frames:
        if shot.burst > 1:
            before = plan[shot.number - 1]
            assert (before.group, before.burst, before.grade) == (shot.group, shot.burst - 1, shot.grade)
    sizes = Counter(shot.group for shot in frames)
    assert set(sizes.values()) <= {2, 3, 4, 5}
    alone = Counter(shot.group for shot in plan if not shot.burst)
    assert set(alone.values()) == {1}
    assert not set(alone) & set(sizes)


def test_defects_come_in_three_equal_grades_and_belong_to_the_object():
    plan = make_plan(SynthOptions(images=300, defects=0.3))
    assert Counter(shot.grade for shot in plan) == {"none": 210, "light": 30, "medium": 30, "severe": 30}
    bursts = make_plan(SynthOptions(images=300, defects=0.5, bursts=1.0))
    assert all(len({shot.grade for shot in bursts if shot.group == group}) == 1 for group in {s.group for s in bursts})


def test_the_task_defect_labels_the_grade_over_all_parts():
    plan = make_plan(SynthOptions(task="defect", classes=5, images=200, long_tail=4))
    assert {shot.label for shot in plan} == {"none", "light", "medium", "severe"}
    assert all(shot.label == shot.grade for shot in plan)
    assert {shot.part.index for shot in plan} == set(range(5))
    assert len({shot.group for shot in plan}) == 200


def test_a_new_class_comes_on_top_and_changes_nothing_else():
    plain = make_plan(SynthOptions(images=240))
    more = make_plan(SynthOptions(images=240, new_class=2))
    on_top = [shot for shot in more if shot.new_class]
    assert Counter(shot.label for shot in on_top) == {catalog()[12].name: 20, catalog()[13].name: 20}
    assert {(s.group, s.frame) for s in plain} == {(s.group, s.frame) for s in more if not s.new_class}


@pytest.mark.parametrize("seed", range(4))
def test_everything_together_still_gives_every_class_and_number(seed):
    options = SynthOptions(
        classes=20, images=200, long_tail=20, seed=seed, label_noise=0.2, exact_duplicates=0.25, near_duplicates=0.25,
        bursts=0.5, corrupt=0.2, defects=0.5, new_class=1,
    )  # fmt: skip
    check(options)
    plan = make_plan(options)
    assert len(plan) == 210
    assert len({shot.path for shot in plan}) == 210
    assert len({shot.true_label for shot in plan}) == 21


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"classes": 1}, "2 to"),
        ({"classes": 100_000}, "2 to"),
        ({"classes": 50, "images": 149}, "150 to"),
        ({"images": 12.5}, "whole number"),
        ({"size_px": 8}, "32 to 2048"),
        ({"size_px": (128, 4096)}, "32 to 2048"),
        ({"size_px": (128, 128, 3)}, "width, height"),
        ({"long_tail": 0.5}, "1 to 1000"),
        ({"long_tail": float("nan")}, "1 to 1000"),
        ({"seed": -1}, "0 to"),
        ({"seed": 2**63}, "0 to"),
        ({"label_noise": 1.5}, "0 to 0.9"),
        ({"corrupt": "many"}, "0 to 0.5"),
        ({"drift": True}, "0 to 1"),
        ({"workers": -1}, "0 to 256"),
        ({"new_class": 5000}, "0 to"),
        ({"exact_duplicates": 0.5, "near_duplicates": 0.4}, "at most 0.75"),
        ({"task": "color"}, "one of kind, defect, scratches"),
        ({"task": "defect", "defects": 0.1}, "tasks kind"),
        ({"task": "defect", "new_class": 1}, "task kind"),
    ],
)
def test_options_out_of_range_are_refused_with_the_range(wrong, says):
    with pytest.raises(InputError) as caught:
        check(SynthOptions(**wrong))
    assert says in str(caught.value)
    assert any(name in str(caught.value.where) for name in wrong)
