"""The order of the frontier's steps, what stops them, and what a second command finds, with steps that cost nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smallgraph import LABELS, SPEC, small_images
from sortal.compress.frontier import ground as ground_module
from sortal.compress.frontier.candidate import ANSWERS, BUNDLE
from sortal.compress.frontier.clock import Clock
from sortal.compress.frontier.explore import Explored, Explorer
from sortal.compress.frontier.ground import Ground
from sortal.compress.frontier.measured import measure
from sortal.compress.frontier.report import Frontier, frontier_report
from sortal.compress.frontier.steps import Made, Refusal, Step
from sortal.compress.frontier.wish import Wish
from sortal.compress.images import Material
from sortal.compress.pricing import Budget
from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import BundleError
from sortal.core.progress import Silent
from sortal.core.recipe import Recipe
from sortal.data.open import images
from sortal.data.scan import scan


@pytest.fixture
def ground(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """A bundle of 16 x 16 pixels and 40 images that it has right."""
    judged = small_images(40, seed=1)
    material = Material(calibration=small_images(12), judged=judged, source="memory", digest="0" * 64, findings=())
    monkeypatch.setattr(ground_module, "gather_images", lambda *_, **__: material)
    bundle = open_bundle(bundle_path)
    folder = tmp_path_factory.mktemp("images")
    for name, pixels, label in zip(judged.names, judged.pixels, judged.labels, strict=True):
        (folder / LABELS.names[label]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / LABELS.names[label] / f"{Path(name).stem}.png")
    table = scan(images(folder))
    return Ground(bundle=bundle, run=None, table=table, recipe=Recipe(), notes=(), listener=Silent(), home=bundle_path)


class Steps:
    """Copies of the bundle, with a note of what was made; some wishes are refused, some interrupted."""

    def __init__(self, *, refused: tuple[Wish, ...] = (), interrupted: Wish | None = None):
        self.made: list[Wish] = []
        self.refused, self.interrupted = refused, interrupted

    def __call__(self, ground: Ground, wish: Wish, parent: Bundle, folder: Path) -> Made | Refusal:
        if wish == self.interrupted:
            raise KeyboardInterrupt
        self.made.append(wish)
        if wish in self.refused:
            (folder / "half").mkdir()
            return Refusal(why="cannot be done")
        shutil.copytree(parent.path, folder / BUNDLE)
        return Made(notes=("copied",))

    def table(self) -> dict[str, Step]:
        return dict.fromkeys(("size", "cut", "int8"), self)


def explore(
    ground: Ground, folder: Path, steps: Steps, *, wrong: dict[Wish, int] | None = None, **more: object
) -> Explored:
    """Sizes 16, 12 and 8, cuts of 25 and 50 %; `wrong` says how many of 40 answers of a candidate are changed."""
    explorer = Explorer(
        ground,
        folder,
        steps=steps.table(),
        sides=(16, 12, 8),
        cuts=(0.25, 0.5),
        budget=Budget(max_drop=6.0),
        clock=more.get("clock", Clock(budget_s=None)),  # type: ignore[arg-type]
    )
    plain = explorer._answers

    def answers(bundle: Bundle, made: Made) -> object:
        found, now = plain(bundle, made), steps.made[-1] if steps.made else Wish(side=16)
        index = found.index.copy()
        index[: (wrong or {}).get(now, 0)] ^= 1
        return replace(found, index=index)

    explorer._answers = answers  # type: ignore[method-assign, assignment]
    return explorer.run()


def test_cheap_steps_first_and_what_is_cut_is_followed_by_its_int8(ground: Ground, tmp_path: Path) -> None:
    steps = Steps()
    found = explore(ground, tmp_path, steps)
    names = [(wish.side, wish.cut, wish.precision) for wish in steps.made]
    assert names[:5] == [
        (12, 0.0, "float32"), (8, 0.0, "float32"), (8, 0.0, "int8"), (12, 0.0, "int8"), (16, 0.0, "int8"),
    ]  # fmt: skip
    assert names[5:9] == [(8, 0.25, "float32"), (8, 0.25, "int8"), (8, 0.5, "float32"), (8, 0.5, "int8")]
    assert len(names) == 17
    assert len(found.candidates) == 18
    assert found.candidates[0].wish == Wish(side=16)
    assert not found.skipped
    for one in found.candidates:
        assert found.prices[one.wish].drop == 0.0


def test_nothing_is_made_of_what_misses_the_budget(ground: Ground, tmp_path: Path) -> None:
    steps = Steps()
    wrong = {Wish(side=12): 3, Wish(side=12, cut=0.25): 1, Wish(side=16, cut=0.25): 3}
    found = explore(ground, tmp_path, steps, wrong=wrong)
    assert Wish(side=12) in found.prices
    assert Wish(side=12, precision="int8") not in found.prices
    assert Wish(side=12, cut=0.25) not in found.prices
    assert Wish(side=8, precision="int8") in found.prices  # 3 of 40 are too many, and no proof for the next size
    assert Wish(side=16, cut=0.5) not in found.prices
    assert Wish(side=16, cut=0.5) in [wish for wish, _ in found.skipped]


def test_sizes_end_where_one_loses_too_much_for_certain(ground: Ground, tmp_path: Path) -> None:
    found = explore(ground, tmp_path, Steps(), wrong={Wish(side=12): 20})
    assert Wish(side=8) not in found.prices
    wish, why = found.skipped[0]
    assert wish == Wish(side=8)
    assert "already" in why


def test_what_cannot_be_done_is_told_and_not_tried_again(ground: Ground, tmp_path: Path) -> None:
    steps = Steps(refused=(Wish(side=12), Wish(side=16, precision="int8")))
    found = explore(ground, tmp_path, steps)
    told = {one.wish: one.record.refused for one in found.candidates if not one.made}
    assert told == dict.fromkeys(steps.refused, "cannot be done")
    assert sorted(path.name for path in (tmp_path / "12px-float32").iterdir()) == ["candidate.json"]
    again = Steps()
    assert len(explore(ground, tmp_path, again).candidates) == len(found.candidates)
    assert again.made == []


def test_an_interruption_keeps_what_is_finished_and_the_next_command_goes_on(ground: Ground, tmp_path: Path) -> None:
    broken = Wish(side=8, precision="int8")
    found = explore(ground, tmp_path, Steps(interrupted=broken))
    assert found.interrupted
    assert [one.wish for one in found.candidates] == [Wish(side=16), Wish(side=12), Wish(side=8)]
    assert not (tmp_path / broken.folder).exists()
    steps = Steps()
    whole = explore(ground, tmp_path, steps)
    assert not whole.interrupted
    assert steps.made[0] == broken
    assert len(whole.candidates) == 18


def test_another_budget_begins_anew_and_more_time_does_not(ground: Ground, tmp_path: Path) -> None:
    explore(ground, tmp_path, Steps())
    ground.recipe = Recipe.model_validate({"compress": {"time": 600, "frontier": True}})
    steps = Steps()
    explore(ground, tmp_path, steps)
    assert steps.made == []
    ground.recipe = Recipe.model_validate({"compress": {"max_drop": 2.0}})
    explore(ground, tmp_path, steps)
    assert len(steps.made) == 17


def test_what_would_be_late_is_left_out(ground: Ground, tmp_path: Path) -> None:
    clock = Clock(budget_s=30.0)
    clock.learn(Wish(side=16), 10.0)
    clock.learn(Wish(side=16, cut=0.25), 1_000.0)
    found = explore(ground, tmp_path, Steps(), clock=clock)
    assert Wish(side=8, precision="int8") in found.prices
    assert all(wish.cut == 0.0 for wish in found.prices)
    assert all("would take" in why for wish, why in found.skipped if wish.cut == 0.25)


def test_damaged_answers_are_refused(ground: Ground, tmp_path: Path) -> None:
    explore(ground, tmp_path, Steps())
    (tmp_path / "8px-float32" / ANSWERS).write_bytes(b"no arrays")
    with pytest.raises(BundleError, match=r"npz|cannot be read"):
        explore(ground, tmp_path, Steps())


def test_candidates_are_timed_and_held_against_the_budget(ground: Ground, tmp_path: Path) -> None:
    found = explore(ground, tmp_path, Steps(), wrong={Wish(side=12): 3})
    found.candidates = found.candidates[:3]
    measured = measure(ground, found, Budget(max_drop=6.0))
    assert [one.original for one in measured] == [True, False, False]
    assert measured[0].ratio.value == 1.0
    assert all(one.ms > 0.0 and one.size_bytes > 0 and one.artifact_bytes > one.size_bytes for one in measured)
    assert measured[1].objection.startswith("loses")
    assert measured[1].error == pytest.approx(100 * np.sqrt(3 / 40 * 37 / 40 / 39))
    assert measured[2].objection == ""
    assert measured[2].steady


def test_the_network_itself_is_fitted_anew_for_another_contract(ground: Ground, tmp_path: Path) -> None:
    assert not ground.remade
    ground.recipe = Recipe.model_validate({"contract": {"max_error": 0.1}})
    assert ground.remade
    steps = Steps()
    found = explore(ground, tmp_path, steps)
    assert steps.made[0] == Wish(side=16)
    assert found.candidates[0].origin == tmp_path / "16px-float32" / BUNDLE
    assert found.prices[Wish(side=16)].drop == 0.0


def test_where_that_cannot_be_done_nothing_is_compared_with_it(ground: Ground, tmp_path: Path) -> None:
    ground.recipe = Recipe.model_validate({"contract": {"max_error": 0.1}})
    budget = Budget(max_drop=6.0)
    found = explore(ground, tmp_path, Steps(refused=(Wish(side=16),)))
    assert [one.made for one in found.candidates] == [False]
    assert measure(ground, found, budget) == ()
    report = frontier_report(Frontier(ground=ground, explored=found, measured=(), budget=budget), "photos-1")
    assert report.body["verdict"] == "refused"
    assert report.tables["candidates"].rows[0][-1] == "cannot be done"


def test_the_spec_of_a_size(ground: Ground) -> None:
    assert ground.spec(Wish(side=12)) == SPEC.model_copy(update={"size": (12, 12)})


@pytest.mark.parametrize("change", [{"teacher": "big-1"}, {"unlabelled": "more"}, {"weight_bits": 7}])
def test_candidates_made_with_other_settings_are_not_taken_for_these(ground: Ground, change: dict[str, object]) -> None:
    before = ground.shared_key()
    section = ground.recipe.compress.model_copy(update=change)
    ground.recipe = ground.recipe.model_copy(update={"compress": section})
    assert ground.shared_key() != before
