"""`sortal certify`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def certify(
    model: Path = typer.Argument(..., help="A run, a bundle or an exported artifact."),
    holdout: str = typer.Argument(..., help="Labelled images that the model never saw."),
    contract: Path = typer.Option(None, "--contract", help="Default: the contract that the model was trained for."),
    group: str = typer.Option(None, "--group", help="A column or pattern: which images belong together."),
    engine: str = typer.Option("auto", "--engine", help="onnxruntime or openvino."),
    out: Path = typer.Option(None, "--out", help="Folder of the certificate; default: <run>/certificates/<holdout>-N."),
    attach: bool = typer.Option(False, "--attach", help="Put the certificate into the bundle's reports too."),
    as_json: bool = typer.Option(False, "--json", help="Print the certificate as JSON, and nothing else."),
) -> None:
    """Say whether a contract is kept, clause by clause; exit 1 unless it is.

    \b
    sortal certify runs/parts-1 holdout/
    sortal certify runs/parts-1 holdout/ --contract contract.yaml --attach
    """
    from sortal import api
    from sortal.cli.tables import draw

    report = api.certify(
        model,
        holdout,
        contract=contract,
        group=group,
        engine=engine,
        out=out,
        attach=attach,
        listener=listener(),
    )
    if not as_json:
        draw(f"{report.body['verdict'].upper()}: {report.subject}", report.tables["clauses"])
    finish(
        report,
        as_json=as_json,
        results=list(report.paths.values()),
        following=[f"open {report.paths['report']} in a browser"],
    )
    if report.body["verdict"] != "kept":
        raise typer.Exit(1)
