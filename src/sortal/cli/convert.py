"""`sortal convert`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish


def convert(
    source: str = typer.Argument(..., help="Images or annotations in any format, or the URL of a remote folder."),
    to: str = typer.Option(..., "--to", help="folder, csv, coco, voc, yolo, cvat, labelstudio, manifest, imagefolder."),
    out: Path = typer.Option(..., "--out", help="The file or folder to write."),
    boxes: str = typer.Option("crops", "--boxes", help="Annotated boxes: crops, image (their class), or largest."),
    margin: float = typer.Option(0.0, "--margin", help="Grown around each crop, as a share of the box's side."),
    label: str = typer.Option("label", "--label", help="The column (or choice) that is the class."),
    level: str = typer.Option(None, "--level", help="fine or coarse, where there is a taxonomy."),
    source_format: str = typer.Option(None, "--from", help="The format of SOURCE; found by looking when not given."),
    copy: bool = typer.Option(False, "--copy", help="Copy the images; else they are linked or referred to."),
    replace: bool = typer.Option(False, "--replace", help="Replace what is at --out."),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Write images and their annotations in another format. Nothing is changed where they are read.

    \b
    sortal convert annotations.xml --to coco --out annotations.json
    sortal convert VOC2007/ --to folder --out crops/ --margin 0.1
    sortal convert photos/ --to imagefolder --out hub/ --copy
    """
    from sortal.cli.tables import draw
    from sortal.data.convert import convert as write
    from sortal.data.open import images

    table = images(source, label=label, level=level, format=source_format, boxes=boxes, margin=margin)
    report = write(table, to, out, images="copy" if copy else None, replace=replace)
    if not as_json:
        draw("Classes", report.tables["classes"])
        for name, count in report.metrics.items():
            print(f"{name:<22} {count.value or 0:>12,.0f}")
        report = report.model_copy(update={"metrics": {}})
    result = report.paths["result"]
    finish(report, as_json=as_json, results=[result], following=[f"sortal train {result}"])
