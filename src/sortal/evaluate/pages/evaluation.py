"""The page of an evaluation: the frame of every page with a confusion matrix one can walk about in, and the images
behind every cell, bin and point. One file that fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.labels import LabelSet
from sortal.core.report import Report, Table
from sortal.evaluate.gallery import Gallery, gallery_data, pair_pictures
from sortal.evaluate.orders import class_orders
from sortal.evaluate.pages.page import Picture, data_uri, figure_uris, fill, inside_script, own
from sortal.evaluate.pages.view import page_view
from sortal.evaluate.trust.confidence import TITLES

Ints = NDArray[np.int64]

ROWS = 1_000
"""Of a table; the whole is in report.json."""
_DRAWN = ("reliability", "risk_coverage")
_CURVES = (*_DRAWN, "reliability_before")
"""Tables that this page draws itself; their numbers are folded beneath."""


def render_evaluation(
    report: Report,
    matrix: Ints,
    labels: LabelSet,
    images: Gallery,
    *,
    pictures: Mapping[str, Picture] | None = None,
) -> str:
    """The page; `matrix` (C, C) has the true class in rows. `pictures` become figures titled by their keys."""
    tables = {name: Table(columns=table.columns, rows=table.rows[:ROWS]) for name, table in report.tables.items()}
    pairs = {
        pair: [data_uri("jpeg", one) for one in shown] for pair, shown in pair_pictures(images, labels.names).items()
    }
    view = page_view(report.model_copy(update={"tables": tables}), pairs)
    curves = {name: curve for name in _CURVES if (curve := _curve(report.tables.get(name))) is not None}
    drawn = {name for name in _DRAWN if name in curves}
    own_titles = {TITLES[name] for name in drawn}
    data = {
        "classes": list(labels.names),
        "families": list(labels.parents or ()),
        "orders": class_orders(matrix, labels),
        "cells": [
            [int(row), int(column), int(matrix[row, column])] for row, column in zip(*np.nonzero(matrix), strict=True)
        ],
        "images": gallery_data(images),
        "curves": curves,
        "chosen": _chosen(report),
        "limits": report.body.get("contract") or {},
    }
    return fill(
        "evaluation.html.jinja",
        view=view,
        figures=figure_uris({name: one for name, one in (pictures or {}).items() if name not in own_titles}),
        anchors={},
        drawn=drawn,
        pictures=bool(images.pictures),
        left_out=images.left_out,
        data=inside_script(data),
        evaluation_style=own("evaluation.css"),
        evaluation_script=own("evaluation.js"),
    )


def _curve(table: Table | None) -> dict[str, list[Any]] | None:
    """A table by columns."""
    if table is None or not table.rows:
        return None
    return {name: [row[place] for row in table.rows] for place, name in enumerate(table.columns)}


def _chosen(report: Report) -> list[float] | None:
    """Coverage and error of the decision as it is, where it leaves something to a person."""
    coverage, right = report.metrics.get("coverage"), report.metrics.get("answered_accuracy")
    if coverage is None or right is None or coverage.value is None or right.value is None:
        return None
    return [coverage.value, 1.0 - right.value]
