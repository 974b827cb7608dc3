"""Images with the highest loss: surest mistakes first, what has no label left out."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.core.report import Report
from sortal.evaluate.losses import with_highest_losses, worst_rows


def test_surest_mistakes_come_first(make_predictions) -> None:  # type: ignore[no-untyped-def]
    predictions, labels = make_predictions(["松木", "oak", "elm"], errors={3: ("corrupt", "cut off")})
    labels = labels.copy()
    labels[5] = -1
    rows = worst_rows(predictions, labels)
    chances = predictions.probabilities[rows, labels[rows]]
    assert not {3, 5} & set(rows.tolist())
    assert (np.diff(chances) >= 0).all()
    assert chances.max() < np.exp(-0.1)
    names = [f"{row}.jpg" for row in range(len(labels))]
    report = with_highest_losses(Report(kind="evaluation", subject="a"), predictions, labels, names)
    table = report.tables["highest_loss"]
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert first["image"] == names[rows[0]]
    assert first["loss"] == pytest.approx(-np.log(chances[0]), abs=1e-3)
    assert first["given"] == predictions.labels.names[labels[rows[0]]]


def test_without_losses_there_is_no_table(make_predictions) -> None:  # type: ignore[no-untyped-def]
    predictions, labels = make_predictions(["a", "b"], sharpness=40.0)
    report = with_highest_losses(Report(kind="evaluation", subject="a"), predictions, labels, ["x"] * len(labels))
    assert report.tables == {}
