"""`sortal models` as a Report: weights at hand first, then recommended architectures, or a choice among them."""

from __future__ import annotations

from collections.abc import Sequence

from sortal.core.report import Cell, Finding, Report, Table
from sortal.models.cards import zoo_folders
from sortal.models.catalog import ModelRow, list_models
from sortal.models.recommended import PUBLISHED_IN
from sortal.models.selection import DETECTOR_NOTE, Ranked, Wanted


def models_report() -> Report:
    """Two tables: `weights at hand` (cards of the zoo, with licence and hash) and `architectures`."""
    rows = list_models()
    zoo = tuple(_zoo_cells(row) for row in rows if row.path is not None)
    known = tuple(_cells(row) for row in rows if row.path is None)
    tables = {
        "weights at hand": Table(columns=("name", "params, M", "GMACs", "licence", "sha256", "card"), rows=zoo),
        "architectures": Table(
            columns=(
                *("name", "family", "params, M", "without head, M", "GMACs"),
                *("depth", "normalization", "skip", "depthwise"),
                *("ImageNet top-1 %, float32", "of weights", "licence"),
            ),
            rows=known,
        ),
    }
    if not zoo:
        del tables["weights at hand"]
    folders = ", ".join(map(str, zoo_folders())) or "SORTAL_ZOO is not set"
    facts = {"zoo": folders, "top-1": f"ImageNet-1k validation images, float32; {PUBLISHED_IN}"}
    return Report(kind="models", subject="networks to choose from", tables=tables, provenance=facts)


def selection_report(wanted: Wanted, ranked: Sequence[Ranked], *, machine: str) -> Report:
    """One table, best first, with reasons. `machine` names the processor on which latencies were measured, if any."""
    rows = tuple(
        (
            number,
            choice.item.name,
            choice.item.family,
            _millions(choice.cost.parameters),
            _giga(choice.cost.macs),
            None if choice.latency_ms is None else round(choice.latency_ms, 1),
            {True: "yes", False: "no", None: "not measured"}[choice.fits],
            " ".join(choice.reasons),
        )
        for number, choice in enumerate(ranked, start=1)
    )
    columns = ("rank", "name", "family", "params, M", "GMACs", "latency, ms", "within budget", "why")
    notes = []
    if wanted.goal == "real-time":
        notes.append(Finding(code="classification_only", severity="info", message=DETECTOR_NOTE))
    if any(choice.latency_ms is not None for choice in ranked):
        message = f"latency: one image, float32, PyTorch, on {machine}; an exported artifact is usually faster"
        notes.append(Finding(code="measured_here", severity="info", message=message))
    return Report(
        kind="models",
        subject=f"networks for {wanted.hardware}",
        tables={"ranking": Table(columns=columns, rows=rows)},
        findings=tuple(notes),
    )


def _zoo_cells(row: ModelRow) -> tuple[Cell, ...]:
    cost, short_hash = row.cost, (row.sha256 or "")[:12]
    return row.name, _millions(cost.parameters), _giga(cost.macs), row.licence, short_hash, row.path


def _cells(row: ModelRow) -> tuple[Cell, ...]:
    cost = row.cost
    sizes = _millions(cost.parameters), _millions(cost.parameters_without_head), _giga(cost.macs)
    build = cost.anatomy.depth, cost.anatomy.normalization, cost.anatomy.skip, cost.anatomy.depthwise
    return row.name, row.family, *sizes, *build, row.top1_percent, row.weights, row.licence


def _millions(count: int) -> float:
    return round(count / 1e6, 2)


def _giga(count: int) -> float:
    return round(count / 1e9, 3)
