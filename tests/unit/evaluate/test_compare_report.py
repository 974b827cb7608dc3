"""What a comparison says in words and tables, from made-up answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.evaluate.compare.bootstrap import Answers
from sortal.evaluate.compare.changes import Pair, all_changes, by_class, table_csv
from sortal.evaluate.compare.report import compare_pair, many_report, pair_report
from sortal.evaluate.compare.sides import common_answers, common_classes, contenders


def pair(better: int, worse: int, n: int = 400, groups: np.ndarray | None = None) -> Pair:
    """The first wrong on `better` images of 甲, the second on `worse` images of 乙; both wrong on one image."""
    labels = np.array([0] * (n // 2) + [1] * (n // 2))
    first, second = labels.copy(), labels.copy()
    first[:better] = 1
    second[n // 2 : n // 2 + worse] = 0
    first[-1] = second[-1] = 0
    sure = np.linspace(0.5, 1.0, n)
    return Pair(
        labels=labels,
        first=Answers(index=first, probability=sure),
        second=Answers(index=second, probability=sure),
        classes=("甲", "乙"),
        images=tuple(f"{row}.jpg" for row in range(n)),
        groups=groups,
    )


def test_a_better_model_is_named_with_images_points_and_p() -> None:
    compared = compare_pair(pair(25, 2), ("old", "new"), confidence=0.95)
    assert compared.sentence.startswith("new is better: 23 images fewer wrong of 400 (5.8 points of accuracy, 95% ")
    report = pair_report(compared, subject="holdout", confidence=0.95, slices={"line": ["x", "y"] * 200})
    assert report.body["better"] == "new"
    assert report.metrics["p"].value < 1e-5
    assert next(one.code for one in report.findings if one.severity == "info") == "class_better"
    assert "甲" in report.findings[0].message
    assert {"classes", "by line", "changed"} <= set(report.tables)
    back = compare_pair(pair(2, 25), ("old", "new"), confidence=0.95)
    assert back.sentence.startswith("old is better: 23 images")
    assert pair_report(back, subject="holdout", confidence=0.95).body["better"] == "old"


def test_no_difference_says_how_many_images_would_show_one() -> None:
    compared = compare_pair(pair(6, 4), ("old", "new"), confidence=0.95)
    assert compared.sentence.startswith("No difference that this many images could show: old got 7 wrong, new 5 of 400")
    assert "would show a gap of 1 point" in compared.sentence
    gap = compared.metrics["accuracy_difference"]
    assert gap.low < 0 < gap.high
    same = compare_pair(pair(0, 0), ("old", "new"), confidence=0.95)
    assert same.test.p == 1.0
    assert same.metrics["accuracy_difference"].low < 0


def test_images_of_one_part_do_not_make_a_difference() -> None:
    part = np.concatenate([np.zeros(40), np.arange(1, 361)]).astype(np.int64)
    assert "is better" in compare_pair(pair(25, 0), ("old", "new"), confidence=0.95).sentence
    alike = [
        compare_pair(pair(0, 0, groups=given), ("a", "b"), confidence=0.95) for given in (None, np.arange(400) // 20)
    ]
    wide, wider = (one.metrics["accuracy_difference"] for one in alike)
    assert wider.low < wide.low < 0 < wide.high < wider.high
    assert "No difference" in compare_pair(pair(25, 0, groups=part), ("old", "new"), confidence=0.95).sentence


def test_classes_and_changes() -> None:
    made = pair(3, 2)
    table = by_class(made)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert (rows["甲"]["better"], rows["甲"]["worse"]) == (3, 0)
    assert rows["甲"]["p"] == pytest.approx(0.25)
    assert (rows["乙"]["better"], rows["乙"]["worse"]) == (0, 2)
    assert all(row["p_holm"] >= row["p"] for row in rows.values())
    changes = all_changes(made)
    assert [row[0] for row in changes.rows] == ["worse"] * 2 + ["better"] * 3
    assert "0.jpg" in table_csv(changes).decode()
    assert table_csv(all_changes(pair(0, 0))).decode().startswith("change,image")


def test_three_models_are_corrected_for_being_several() -> None:
    compared = [
        compare_pair(pair(25, 2), ("a", "b"), confidence=0.95),
        compare_pair(pair(6, 4), ("a", "c"), confidence=0.95),
    ]
    report = many_report(compared, subject="holdout", confidence=0.95)
    assert "b is better" in report.body["summary"][0]
    assert "c is" not in report.body["summary"][0]
    rows = report.tables["against_the_first"].rows
    assert rows[0][7] == pytest.approx(2 * rows[0][6])


def test_common_classes_and_answers_among_them(make_predictions) -> None:  # type: ignore[no-untyped-def]
    predictions, _ = make_predictions(["a", "b", "c"], errors={0: ("corrupt", "cut off")})
    common = common_classes([LabelSet(names=("c", "a")), predictions.labels])
    assert common.names == ("c", "a")
    answers, moved = common_answers(predictions, common)
    assert answers.index[0] == -1
    assert moved == int((predictions.index[1:] == 1).sum())
    chances = predictions.probabilities[1:][:, [2, 0]]
    assert np.array_equal(answers.index[1:], chances.argmax(axis=1))
    assert answers.probability[1:] == pytest.approx(chances.max(axis=1) / chances.sum(axis=1), rel=1e-5)
    with pytest.raises(DataError, match="no class in common"):
        common_classes([LabelSet(names=("x",)), predictions.labels])


def test_models_get_names_that_tell_them_apart() -> None:
    names = [side.name for side in contenders([Path("runs/a-1"), Path("runs/a-2/bundle")])]
    assert names == ["runs/a-1", "a-2/bundle"] or len(set(names)) == 2
    assert [side.name for side in contenders([Path("old/a-1"), Path("new/a-1")])] == ["old/a-1", "new/a-1"]
