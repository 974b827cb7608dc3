"""`sortal models` as a Report: the weights cards at hand, the recommended architectures, and what suits which target."""

from __future__ import annotations

from typing import get_args

from sortal.core.report import Cell, Report, Table
from sortal.models.catalog import ModelRow, list_models
from sortal.models.hub import is_offline
from sortal.models.recommended import PUBLISHED_IN, Target, suggest

COST_COLUMNS = ("parameters_m", "without_head_m", "macs_m", "at_px", "float32_mb")


def models_report() -> Report:
    """Tables `weights at hand`, `architectures` and `suggestions`. Raises WeightsError for a broken weights card."""
    rows = list_models()
    cards = tuple(_card_cells(row) for row in rows if row.sha256)
    known = tuple(_architecture_cells(row) for row in rows if not row.sha256)
    return Report(
        kind="models",
        subject="models",
        tables={
            "weights at hand": Table(
                columns=("name", *COST_COLUMNS, "licence", "sha256", "card", "source"), rows=cards
            ),
            "architectures": Table(
                columns=("name", "family", *COST_COLUMNS, "published_top1_percent", "licence", "why"), rows=known
            ),
            "suggestions": Table(columns=("target", "name", "why"), rows=_suggestions()),
        },
        provenance={"published_top1_percent": PUBLISHED_IN, "downloads": "off" if is_offline() else "allowed"},
    )


def _cost_cells(row: ModelRow) -> tuple[Cell, ...]:
    cost = row.cost
    counts = (cost.parameters, cost.parameters_without_head, cost.macs)
    return (*(round(count / 1e6, 2) for count in counts), cost.size[0], round(cost.size_mb, 1))


def _card_cells(row: ModelRow) -> tuple[Cell, ...]:
    return (row.name, *_cost_cells(row), row.licence, row.sha256, row.path, row.published)


def _architecture_cells(row: ModelRow) -> tuple[Cell, ...]:
    return (row.name, row.family, *_cost_cells(row), row.top1_percent, row.licence, row.why)


def _suggestions() -> tuple[tuple[Cell, ...], ...]:
    return tuple((target, item.name, item.why) for target in get_args(Target) for item in suggest(target))
