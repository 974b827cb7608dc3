"""The images behind an evaluation: which are named, in what order, and which get a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.evaluate import gallery as module
from sortal.evaluate.gallery import gallery, gallery_data, pair_pictures
from sortal.evaluate.orders import by_confusion, class_orders

Maker = Callable[..., tuple[Predictions, np.ndarray]]
NAMES = ("bolt", "nut", "washer")


def black(rows: list[int]) -> list[np.ndarray | None]:
    return [np.zeros((10, 10, 3), np.uint8) for _ in rows]


def answered(rows: list[tuple[int, int, float]], threshold: float = 0.0) -> tuple[Predictions, np.ndarray]:
    """Of (true, answered, probability)."""
    logits = np.zeros((len(rows), 3), np.float32)
    for row, (_, answer, probability) in enumerate(rows):
        logits[row, answer] = np.log(2 * probability / (1 - probability))
    found = predictions_from_logits(
        logits,
        names=[f"{row}.jpg" for row in range(len(rows))],
        labels=LabelSet(names=NAMES),
        decision=DecisionSpec(threshold=threshold),
        bundle_id="",
    )
    return found, np.array([true for true, _, _ in rows])


def test_given_mistakes_come_first_then_those_held_back_then_doubtful_right_ones() -> None:
    predictions, labels = answered(
        [(0, 0, 0.9), (0, 1, 0.6), (1, 2, 0.95), (1, 1, 0.7), (2, 0, 0.45), (2, 2, 0.4)], threshold=0.5
    )
    found = gallery(predictions, labels, predictions.names)
    assert found.names == ("2.jpg", "1.jpg", "4.jpg", "5.jpg", "3.jpg", "0.jpg")
    assert found.abstained.tolist() == [False, False, True, True, False, False]
    assert found.probability[0] == pytest.approx(0.95, abs=1e-5)
    assert found.chance_of_true[0] == pytest.approx(0.025, abs=1e-5)
    assert found.pictures == {}


def test_images_without_a_known_label_or_an_answer_are_not_listed(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(NAMES, n=30, errors={4: ("empty", "zero bytes")})
    labels[7] = -1
    assert len(gallery(predictions, labels, predictions.names).names) == 28


def test_every_cell_with_a_mistake_has_a_picture_before_any_has_many() -> None:
    many = [(0, 1, 0.9)] * 50 + [(1, 2, 0.4), (2, 0, 0.5)] + [(0, 0, 0.8)] * 50
    predictions, labels = answered(many)
    found = gallery(predictions, labels, predictions.names, show=black, most=20)
    assert len(found.pictures) == 20
    cells = {(int(found.true[place]), int(found.answered[place])) for place in found.pictures}
    assert {(0, 1), (1, 2), (2, 0), (0, 0)} <= cells
    assert set(pair_pictures(found, NAMES)) == {("bolt", "nut"), ("nut", "washer"), ("washer", "bolt")}
    assert len(pair_pictures(found, NAMES)[("bolt", "nut")]) == 3


def test_an_image_that_cannot_be_read_any_more_is_named_without_a_picture() -> None:
    predictions, labels = answered([(0, 1, 0.9), (1, 1, 0.9)])
    found = gallery(predictions, labels, predictions.names, show=lambda rows: [None] * len(rows))
    assert found.names == ("0.jpg", "1.jpg")
    assert found.pictures == {}


def test_of_very_many_images_no_mistake_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTED", 10)
    predictions, labels = answered([(0, 0, 0.9)] * 40 + [(0, 1, 0.5)] * 7)
    found = gallery(predictions, labels, predictions.names)
    assert (len(found.names), found.left_out) == (10, 37)
    assert int((found.true != found.answered).sum()) == 7


def test_the_data_of_the_page_are_plain_and_small() -> None:
    predictions, labels = answered([(0, 1, 0.9), (1, 1, 0.756)])
    data = gallery_data(gallery(predictions, labels, predictions.names, show=black))
    assert data["p"] == [900, 756]
    assert data["true"] == [0, 1]
    assert set(data["thumb"]) == {"0", "1"}


def test_classes_that_are_mistaken_for_each_other_stand_side_by_side() -> None:
    matrix = np.diag([50] * 6)
    matrix[0, 4], matrix[4, 2], matrix[1, 5] = 9, 4, 6
    order = by_confusion(matrix).tolist()
    assert sorted(order) == list(range(6))
    assert abs(order.index(4) - order.index(0)) == 1
    assert abs(order.index(1) - order.index(5)) == 1
    assert by_confusion(np.diag([3, 3, 3])).tolist() == [0, 1, 2]


def test_orders_by_recall_by_images_by_name_and_by_family() -> None:
    matrix = np.array([[5, 5, 0], [0, 20, 0], [0, 0, 0]])
    labels = LabelSet(names=("b", "A", "c"), parents=("y", "x", "x"))
    orders = class_orders(matrix, labels)
    assert orders["weakest"] == [0, 1, 2]  # a class without images has no recall and comes last
    assert orders["images"] == [1, 0, 2]
    assert orders["name"] == [1, 0, 2]
    assert orders["families"] == [1, 2, 0]
    assert "families" not in class_orders(matrix, LabelSet(names=("a", "b", "c")))
