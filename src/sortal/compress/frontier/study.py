"""The story of `sortal compress compress.frontier=true`: explore, measure, choose, tell.

    compressions/photos-1-2/frontier.json candidates/<name>/ report.html report.json frontier.png

A folder belongs to one bundle, its images and what is asked; the same command finds it again and goes on there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sortal.compress.frontier.clock import Clock
from sortal.compress.frontier.cut import cut
from sortal.compress.frontier.explore import Explorer
from sortal.compress.frontier.ground import Ground, make_ground
from sortal.compress.frontier.measured import measure
from sortal.compress.frontier.picture import draw_frontier
from sortal.compress.frontier.precise import precise
from sortal.compress.frontier.report import Frontier, frontier_report
from sortal.compress.frontier.sized import sized
from sortal.compress.frontier.steps import Step
from sortal.compress.frontier.wish import cuts_to_try, sides_to_try
from sortal.compress.pricing import Budget
from sortal.compress.prune.teachers import check_teachers
from sortal.core.bundle import Bundle
from sortal.core.canonical import parse, pretty
from sortal.core.errors import InputError, SortalError
from sortal.core.progress import Listener
from sortal.core.publish import publish_file, publish_folder
from sortal.core.recipe import Recipe
from sortal.core.report import Report
from sortal.core.run import RunFolder, new_run, open_run
from sortal.data.table import ImageTable
from sortal.evaluate.pages.write import write_report

STATE = "frontier.json"
STEPS: Mapping[str, Step] = {"size": sized, "cut": cut, "int8": precise}
"""Kind of candidate -> what makes it."""


def explore_frontier(
    bundle: Bundle,
    run: RunFolder | None,
    source: str | Path | Sequence[str | Path] | ImageTable | None,
    *,
    name: str,
    recipe: Recipe,
    out: Path | None,
    listener: Listener,
) -> Report:
    """Try input sizes, cut networks and int8 of `bundle` within `recipe.compress.time`, and take the smallest that
    keeps `recipe.compress.max_drop` and the contract.

    Candidates stay in `compressions/<name>-N/candidates`; the one that was taken is copied to `out`, if that is given.
    An interruption ends the search, and the report is about what was finished. Raises InputError for sizes that make no
    sense and where there are no images, RecipeError for a teacher that cannot teach, BundleError where the bundle has
    no weights.
    """
    clock = Clock(budget_s=recipe.compress.time)
    section = recipe.compress
    own = min(bundle.preprocess.size)
    for side in section.sizes:
        if not 16 <= side <= 4 * own:
            hint = f"the network's own is {own}: compress.sizes=[{', '.join(map(str, sides_to_try(own, ())))}]"
            raise InputError("no such input size is tried", where="compress.sizes", received=str(side), hint=hint)
    ground = make_ground(bundle, run, source, recipe=recipe, listener=listener)
    check_teachers(recipe, ground.table, bundle.preprocess, listener)
    budget = Budget(max_drop=section.max_drop, contract=ground.contract)
    with _home(run, name, ground) as home:
        ground.home = home.path
        explorer = Explorer(
            ground,
            home.path / "candidates",
            steps=STEPS,
            sides=sides_to_try(own, section.sizes),
            cuts=cuts_to_try(section.prune),
            budget=budget,
            clock=clock,
        )
        explored = explorer.run()
        found = Frontier(ground=ground, explored=explored, measured=measure(ground, explored, budget), budget=budget)
        return _written(found, home.path, name, out)


def _home(run: RunFolder | None, name: str, ground: Ground) -> RunFolder:
    """The newest folder of the same bundle, images and wishes, else a new one."""
    root = Path("compressions") if run is None else run.path / "compressions"
    key = ground.shared_key()
    for state in sorted(root.glob(f"*/{STATE}"), key=lambda path: path.stat().st_mtime, reverse=True):
        if _key_of(state) == key:
            ground.listener.say(f"going on in {state.parent}")
            return open_run(state.parent, write=True)
    home = new_run(root, name)
    publish_file(home.path / STATE, pretty({"format": 1, "key": key, "bundle": ground.bundle.id}).encode())
    return home


def _key_of(state: Path) -> object:
    """None where the file is damaged: then the folder belongs to nobody."""
    try:
        known = parse(state.read_bytes(), where=str(state))
    except SortalError:
        return None
    return known.get("key") if isinstance(known, dict) else None


def _written(found: Frontier, folder: Path, name: str, out: Path | None) -> Report:
    report = frontier_report(found, name)
    paths = dict[str, str]()
    pictures = {}
    if found.measured:
        picture = draw_frontier(found, report, folder / "frontier.png")
        pictures["accuracy, time and size of every candidate"] = picture
        paths["picture"] = str(picture)
    taken = found.taken
    if taken is not None:
        bundle = taken.candidate.origin
        if out is not None:
            bundle = publish_folder(out, lambda made: _copied(taken.candidate.origin, made))
        paths["bundle"] = str(bundle / "artifacts" / taken.candidate.record.artifact)
    return write_report(report.model_copy(update={"paths": paths}), folder, pictures)


def _copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
