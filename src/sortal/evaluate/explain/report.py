"""From explanations to a Report: what was answered, what the maps are worth, what the images are like."""

from __future__ import annotations

from collections.abc import Sequence

from sortal.core.report import Cell, Finding, Report, Table
from sortal.evaluate.explain.explanation import TITLES, CheckedMap, Explanation
from sortal.evaluate.explain.neighbors import likeness


def explanation_report(told: Sequence[Explanation], *, subject: str, findings: Sequence[Finding]) -> Report:
    """One row an image in `answers`, one a map in `maps`, one a training image in `nearest`."""
    answers = ("image", "answer", "probability", "abstained", "runner_up", "runner_up_probability", "explained")
    maps = ("image", "map", "score_lost", "score_lost_at_random", "faithful", "random_weights", "changed", "score_held")
    tables = {"answers": Table(columns=answers, rows=tuple(map(_answer, told)))}
    tables["maps"] = Table(columns=maps, rows=tuple(_map(one.name, each) for one in told for each in one.maps))
    rows = tuple(
        (one.name, rank, neighbor.name, neighbor.label, round(neighbor.distance, 4))
        for one in told
        for rank, neighbor in enumerate(one.neighbors, start=1)
    )
    if rows:
        tables["nearest"] = Table(columns=("image", "rank", "training_image", "label", "distance"), rows=rows)
    return Report(
        kind="explanation",
        subject=subject,
        tables=tables,
        findings=(*findings, *map_findings(told)),
        body={"summary": [sentence for one in told for sentence in sentences(one)]},
    )


def sentences(one: Explanation) -> list[str]:
    """Answer, likeness and trust, each in a sentence."""
    said = f"{one.name}: answered “{one.answer}” ({one.probability:.1%})"
    said += "" if one.runner_up is None else f", then “{one.runner_up}” ({one.runner_up_probability:.1%})"
    said += "; it belongs to a person" if one.abstained else ""
    told = [f"{said}."]
    if one.target != one.answer:
        told.append(f"The maps show what speaks for “{one.target}” ({one.target_probability:.1%}).")
    if one.neighbors:
        told.append(likeness(one.neighbors, one.answer))
    trusted = [
        TITLES.get(each.kind, each.kind) for each in one.maps if each.deletion.faithful and each.changed is not False
    ]
    if trusted:
        told.append(
            f"What these maps mark matters more than any of several random choices, and depends on what was learned: "
            f"{', '.join(trusted)}."
        )
    return told


def map_findings(told: Sequence[Explanation]) -> list[Finding]:
    """Warnings for maps that random weights do not change, and infos for maps that mark nothing that matters."""
    pairs = [(one, each) for one in told for each in one.maps]
    same = [f"{one.name}: {TITLES.get(each.kind, each.kind)}" for one, each in pairs if each.changed is False]
    weak = [f"{one.name}: {TITLES.get(each.kind, each.kind)}" for one, each in pairs if not each.deletion.faithful]
    found = []
    if same:
        message = (
            f"{len(same)} of {len(pairs)} maps hardly change with random weights: they show the image, not the model."
        )
        hint = "do not read them as reasons; other maps of the same image may be sound"
        found.append(_finding("map_unchanged_by_random_weights", "warning", message, same, hint))
    if weak:
        message = f"{len(weak)} of {len(pairs)} maps mark places that matter no more than random ones."
        found.append(_finding("map_not_faithful", "info", message, weak, "trust the maps that passed, if any"))
    return found


def _finding(code: str, severity: str, message: str, rows: Sequence[str], hint: str) -> Finding:
    fields = {"code": code, "severity": severity, "message": message, "rows": tuple(rows[:1000]), "hint": hint}
    return Finding.model_validate(fields)


def _answer(one: Explanation) -> tuple[Cell, ...]:
    chances = (round(one.probability, 4), one.abstained, one.runner_up, round(one.runner_up_probability, 4))
    return one.name, one.answer, *chances, one.target


def _map(name: str, one: CheckedMap) -> tuple[Cell, ...]:
    fall = one.deletion
    numbers = (round(fall.salient, 3), round(fall.random, 3), fall.faithful)
    correlation = None if one.random_weights is None else round(one.random_weights, 3)
    return name, one.kind, *numbers, correlation, one.changed, None if one.share is None else round(one.share, 3)
