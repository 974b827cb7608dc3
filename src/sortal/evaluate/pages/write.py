"""A report as two files of a folder: the page for people, the JSON for programs; both know where the other is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sortal.core.publish import publish_file
from sortal.core.report import Report
from sortal.evaluate.pages.page import Picture, render_page


def write_report(report: Report, folder: Path, pictures: Mapping[str, Picture] | None = None) -> Report:
    """Put `report.html` and `report.json` into `folder`, made where it is not; `pictures` by title.

    Returns the report with the paths of both beside those it has. Raises MachineError where the machine refuses.
    """
    paths = {"report": str(folder / "report.html"), "json": str(folder / "report.json")}
    report = report.model_copy(update={"paths": {**report.paths, **paths}})
    publish_file(folder / "report.html", render_page(report, pictures).encode())
    publish_file(folder / "report.json", report.to_json().encode())
    return report
