"""What each of several classifiers reaches and costs: accuracy, parameters, multiply-accumulates, size, latency."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from sortal.core.errors import SortalError
from sortal.core.report import Cell, Finding, Table
from sortal.evaluate.compare.sides import Contender
from sortal.runtime.locate import locate
from sortal.runtime.macs import count_graph_macs


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """One row of the table. Latencies are from bytes to decision, the median of a batch; None is not known."""

    model: str
    architecture: str | None
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    parameters: int | None
    macs: int | None
    """Multiply-accumulates of one image."""
    size_mb: float
    """Files of the artifact that runs, in 10^6 bytes."""
    latency_1_ms: float | None = None
    latency_1_p95_ms: float | None = None
    latency_32_ms: float | None = None
    images_per_s: float | None = None
    """In batches of 32, from bytes to decision."""


def costs_table(rows: list[ModelCost]) -> Table:
    """One row a model, in the order given; a column that nobody has a value for is left out."""
    names = [field.name for field in fields(ModelCost)]
    kept = [name for name in names if any(getattr(row, name) is not None for row in rows)]
    cells: list[tuple[Cell, ...]] = [tuple(getattr(row, name) for name in kept) for row in rows]
    return Table(columns=tuple(kept), rows=tuple(cells))


def measured_macs(side: Contender) -> tuple[int | None, list[Finding]]:
    """Multiply-accumulates of one image, counted on the exported graph; a finding says why where they cannot be."""
    model = locate(side.path).model
    if model.suffix != ".onnx":
        return None, [_uncounted(side, "only an ONNX graph can be counted")]
    try:
        return count_graph_macs(model), []
    except SortalError as error:
        return None, [_uncounted(side, str(error))]


def artifact_size_mb(side: Contender) -> float:
    """The model file and what lies beside it in its artifact; of a lone file, the file."""
    model = locate(side.path).model
    files = [path for path in model.parent.iterdir() if path.is_file()] if side.bundle else _parts(model)
    return round(sum(path.stat().st_size for path in files) / 1e6, 3)


def _parts(model: Path) -> list[Path]:
    weights = model.with_suffix(".bin")
    return [model, weights] if model.suffix == ".xml" and weights.is_file() else [model]


def _uncounted(side: Contender, reason: str) -> Finding:
    message = f"The multiply-accumulates of {side.name} are not known: {reason}"
    return Finding(code="macs_unknown", severity="info", message=message)
