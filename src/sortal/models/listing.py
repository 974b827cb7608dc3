"""`sortal models` as a Report: weights at hand first, then recommended architectures."""

from __future__ import annotations

from sortal.core.report import Cell, Report, Table
from sortal.models.cards import zoo_folders
from sortal.models.catalog import ModelRow, list_models


def models_report() -> Report:
    """Two tables: `weights at hand` (cards of the zoo, with licence and hash) and `architectures`."""
    rows = list_models()
    zoo = tuple(_zoo_cells(row) for row in rows if row.path is not None)
    known = tuple(_cells(row) for row in rows if row.path is None)
    tables = {
        "weights at hand": Table(columns=("name", "params, M", "GMACs", "licence", "sha256", "card"), rows=zoo),
        "architectures": Table(
            columns=("name", "family", "params, M", "without head, M", "GMACs", "top-1 %", "licence"),
            rows=known,
        ),
    }
    if not zoo:
        del tables["weights at hand"]
    folders = ", ".join(map(str, zoo_folders())) or "SORTAL_ZOO is not set"
    return Report(kind="models", subject="networks to choose from", tables=tables, provenance={"zoo": folders})


def _zoo_cells(row: ModelRow) -> tuple[Cell, ...]:
    cost, short_hash = row.cost, (row.sha256 or "")[:12]
    return row.name, _millions(cost.parameters), _giga(cost.macs), row.licence, short_hash, row.path


def _cells(row: ModelRow) -> tuple[Cell, ...]:
    cost = row.cost
    sizes = _millions(cost.parameters), _millions(cost.parameters_without_head), _giga(cost.macs)
    return row.name, row.family, *sizes, row.top1_percent, row.licence


def _millions(count: int) -> float:
    return round(count / 1e6, 2)


def _giga(count: int) -> float:
    return round(count / 1e9, 3)
