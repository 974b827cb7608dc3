"""`sortal calibrate`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.app import NEGATIVE
from sortal.cli.output import finish, listener


def calibrate(
    model: Path = typer.Argument(..., help="A run or a bundle."),
    source: str = typer.Argument(..., help="Labelled images that the classifier has not seen."),
    contract: Path = typer.Option(None, "--contract", help="Fit thresholds for this contract, not for the bundle's."),
    out: Path = typer.Option(None, "--out", help="Where the new run folder is made; default: beside the run."),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Fit anew how probabilities are calibrated and from which on answers are given, on images of their own.

    \b
    sortal calibrate runs/photos-1 calibration-photos/ --contract contract.yaml

    The network stays; the old bundle is never touched. Ends with exit code 1 where the contract cannot be met.
    """
    from sortal import api
    from sortal.cli.tables import draw

    report = api.calibrate(model, source, contract=contract, out=out, listener=listener())
    if "contract" in report.tables and not as_json:
        draw("contract", report.tables["contract"])
    run = Path(report.paths["bundle"]).parent
    finish(
        report,
        as_json=as_json,
        results=[run, report.paths["report"]],
        following=[f"sortal certify {run} path/to/hold-out", f"sortal predict {run} path/to/images"],
    )
    if any(finding.code == "contract_unmet" for finding in report.findings):
        raise typer.Exit(NEGATIVE)
