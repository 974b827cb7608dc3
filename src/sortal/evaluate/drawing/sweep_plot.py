"""The picture of a sweep: what each setting reaches, and what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sortal.core.publish import publish_file
from sortal.core.report import Report
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, dress, new_figure, png
from sortal.evaluate.drawing.fonts import lettering


def draw_sweep(report: Report, path: Path) -> Path:
    """Left: the metric of every run by setting, best first. Right: its mean against latency. The knee is green."""
    metric, knee = str(report.provenance["metric"]), str(report.provenance["knee"])
    settings = [str(row[0]) for row in report.tables["settings"].rows]
    columns = report.tables["runs"].columns
    runs = [dict(zip(columns, row, strict=True)) for row in report.tables["runs"].rows]
    letters = lettering(settings, longest=48)
    figure = new_figure(13.0, max(3.2, 1.6 + 0.38 * len(settings)))
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
    for place, setting in enumerate(settings):
        mine = [run for run in runs if run["setting"] == setting]
        values = [float(str(run[metric])) for run in mine]
        latency_ms = float(np.mean([float(str(run["latency_1_ms"])) for run in mine]))
        color = RIGHT if setting == knee else NEUTRAL
        left.plot(values, [place] * len(values), "o", color=color, markersize=5, alpha=0.6)
        left.plot([np.mean(values)], [place], "|", color=color, markersize=16, markeredgewidth=2)
        right.plot([latency_ms], [np.mean(values)], "o", color=color, markersize=7)
        right.annotate(
            f"{place + 1}", (latency_ms, float(np.mean(values))), textcoords="offset points", xytext=(6, 4), fontsize=8
        )
    named = [f"{text}  ({place + 1})" for place, text in enumerate(letters.texts)]
    left.set_yticks(range(len(settings)), named, fontsize=8, family=list(letters.families), parse_math=False)
    left.set_ylim(len(settings) - 0.5, -0.5)
    dress(left, "every run (dots) and the mean (bars)", f"{metric} on validation images")
    right.margins(0.12)
    dress(right, "what it costs", "latency of one image, ms (ONNX Runtime)", metric)
    publish_file(path, png(figure, dpi=130))
    return path
