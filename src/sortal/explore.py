"""The verbs that help to decide before a run: which network, which settings, are there enough images, what is slow.

Each returns a Report. All need the extra `train`, but for `cache`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortal.asked import need, recipe_of, subject_of, table_for
from sortal.core.progress import Listener, Silent

if TYPE_CHECKING:
    from sortal.core.report import Report
    from sortal.data.table import ImageTable
    from sortal.models.selection import Wanted

    Source = str | Path | Sequence[str | Path] | ImageTable


def learning_curve(
    source: Source,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    out: str | Path = "runs",
    listener: Listener | None = None,
) -> Report:
    """Accuracy against images a class, and what more images would bring, overall and for each class.

    From heads on frozen features, judged on validation images; the test split is not touched. Raises DataError where
    there are no validation images or no pretrained weights.
    """
    resolved = recipe_of(recipe, overrides)
    need("torch", "train")
    from sortal.curve import learning_curve as story

    table = table_for(source, resolved)
    return story(table, resolved, out=Path(out), subject=subject_of(source), listener=listener or Silent())


def sweep(
    source: Source,
    *,
    vary: Sequence[str],
    seeds: int = 1,
    metric: str = "accuracy",
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    out: str | Path = "runs",
    listener: Listener | None = None,
) -> Report:
    """Train under every combination of settings and seeds and compare them on validation images.

    `vary` holds texts like `input.size=128,160`; `metric` is `accuracy` or `macro_f1`. Finished runs of an earlier call
    with the same images and recipes are taken over. Raises RecipeError for a wrong setting, before anything is trained.
    """
    need("torch", "train")
    from sortal.sweep import combinations
    from sortal.sweep import sweep as story

    chosen = [
        (
            _setting(setting),
            recipe_of(recipe, [*overrides, *(f"{key}={value}" for key, value in setting.items()), f"seed={seed}"]),
        )
        for setting in combinations(vary)
        for seed in range(seeds)
    ]
    table = table_for(source, chosen[0][1])
    told = listener or Silent()
    report = story(table, chosen, out=Path(out), subject=subject_of(source), metric=metric, listener=told)
    named = {_setting(one): [f"{key}={value}" for key, value in one.items()] for one in combinations(vary)}
    more = {"knee_settings": named[report.provenance["knee"]]}
    return report.model_copy(update={"provenance": {**report.provenance, **more}})


def preview_augmentation(
    source: Source,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    listener: Listener | None = None,
) -> Report:
    """A picture of what the recipe's augmentation does to some training images, one row for each family.

    It goes into `out`, by default `runs/<subject>-augment-N`. Raises RecipeError for an unknown policy.
    """
    resolved = recipe_of(recipe, overrides)
    need("torch", "train")
    from sortal.trials import preview

    return preview(
        table_for(source, resolved), resolved, out=_place(out), subject=subject_of(source), listener=listener
    )


def find_rate(
    source: Source,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    steps: int = 100,
    out: str | Path | None = None,
    listener: Listener | None = None,
) -> Report:
    """A learning-rate range test on the recipe's own network, batches and loss: the rate to train with, and a picture.

    `steps` is at least 10. Raises RecipeError where the loss is no number even at the lowest rate.
    """
    resolved = recipe_of(recipe, overrides)
    need("torch", "train")
    from sortal.trials import range_test

    return range_test(
        table_for(source, resolved),
        resolved,
        steps=steps,
        out=_place(out),
        subject=subject_of(source),
        listener=listener,
    )


def profile(
    source: Source,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    steps: int = 20,
    out: str | Path | None = None,
    command: Sequence[str] = (),
    listener: Listener | None = None,
) -> Report:
    """Where the time of a training step goes: shares of its stages, the most expensive operators, a trace.

    `command` is what a person typed, for hints about NVIDIA's tools.
    """
    resolved = recipe_of(recipe, overrides)
    need("torch", "train")
    from sortal.trials import profile_steps

    return profile_steps(
        table_for(source, resolved),
        resolved,
        steps=steps,
        out=_place(out),
        subject=subject_of(source),
        command=command,
        listener=listener,
    )


def models(wanted: Wanted | None = None, *, measure: bool = False) -> Report:
    """Networks to choose from and the weights at hand, with licences; for `wanted`, a ranking with reasons.

    `measure` times each network of the ranking on this machine. Raises InputError for a wish that makes no sense.
    """
    need("timm", "train")
    from sortal.models.listing import models_report, selection_report

    if wanted is None:
        return models_report()
    from sortal.memory import this_machine
    from sortal.models.catalog import measure_latency_ms
    from sortal.models.selection import select

    ranked = select(wanted, measure_ms=measure_latency_ms if measure else None)
    return selection_report(wanted, ranked, machine=this_machine()["processor"])


def cache(*, clear: bool = False) -> Report:
    """What the cache of prepared images and features holds; `clear` empties it first."""
    from sortal.data.cache_report import cache_report

    return cache_report(clear=clear)


def _place(out: str | Path | None) -> Path | None:
    return None if out is None else Path(out)


def _setting(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())
