"""`sortal benchmark`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener
from sortal.core.report import Cell, Table


def benchmark(
    model: Path = typer.Argument(..., help="A run or a bundle."),
    data: list[str] = typer.Option([], "--data", help="Labelled images; default: the run's own validation images."),
    only: list[str] = typer.Option([], "--only", help="Only this artifact, such as onnx-int8. Repeatable."),
    engine: list[str] = typer.Option([], "--engine", help="Only this engine, such as onnxruntime:xnnpack. Repeatable."),
    threads: int = typer.Option(None, "--threads", min=1, help="Of every engine; default: the CPUs allowed."),
    seconds: float = typer.Option(6.0, "--seconds", min=0.3, help="For the times of each row, about."),
    time_limit: float = typer.Option(120.0, "--time-limit", min=1.0, help="Seconds for each step of a row."),
    contract: str = typer.Option(None, "--contract", help="A contract of latency and size; default: the bundle's."),
    out: Path = typer.Option(None, "--out", help="Folder of the report; default: <run>/benchmarks/<run>-N."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Measure every artifact of a bundle on every engine: size, time, memory, accuracy, flipped decisions.

    \b
    sortal benchmark runs/photos-1
    sortal benchmark runs/photos-1 --data holdout/ --only onnx --only onnx-int8
    sortal benchmark runs/photos-1 --engine onnxruntime --engine openvino --threads 1
    """
    from sortal import api
    from sortal.benchmark.study import Asked
    from sortal.cli.tables import draw

    asked = Asked(
        data=None if not data else data[0] if len(data) == 1 else data,
        only=only,
        engines=engine,
        threads=threads,
        seconds=seconds,
        limit_s=time_limit,
        contract=contract,
        out=out,
    )
    report = api.benchmark(model, asked=asked, listener=listener())
    if not as_json:
        draw("artifacts", _narrow(report.tables["artifacts"]))
        for name in ("contract", "not_measured"):
            if name in report.tables:
                draw(name.replace("_", " "), report.tables[name])
        for sentence in report.body["summary"]:
            print(sentence)
    ran = [row[0] for row in report.tables["artifacts"].rows if row[-1] == "ok"]
    following = [f"open {report.paths['report']} in a browser"]
    following += [f"sortal predict {model} path/to/images --precision fastest --measure"] if ran else []
    finish(report, as_json=as_json, results=list(report.paths.values()), following=following)


_SHOWN = {
    "artifact": "artifact",
    "engine": "engine",
    "size_mb": "MB",
    "ms": "ms",
    "ms_p99": "p99",
    "images_per_s": "img/s",
    "peak_mb": "RAM MB",
    "accuracy": "acc",
    "flips": "flips",
    "status": "status",
}


def _narrow(table: Table) -> Table:
    """What fits on 100 columns; the rest is in the report."""
    places = [table.columns.index(name) for name in _SHOWN]
    rows = tuple(tuple(_short(row[place]) for place in places) for row in table.rows)
    return Table(columns=tuple(_SHOWN.values()), rows=rows)


def _short(cell: Cell) -> Cell:
    return round(cell) if isinstance(cell, float) and cell >= 1000 else cell
