"""The pictures of a run: training curves, what the network saw, and what it answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels
from sortal.core.run import RunFolder
from sortal.data.table import ImageTable
from sortal.evaluate.drawing.plots import answer_captions, mosaic, results
from sortal.train.fit import FitResult
from sortal.train.store import read_image

SHOWN = 25


def draw_run(run: RunFolder, table: ImageTable, fitted: FitResult) -> None:
    """Draw `results.png`, `train_batch.jpg` and `val_predictions.jpg`. Raises MachineError when the disk refuses."""
    names = table.labels.names
    results(fitted.history, run.results_path)
    images, labels = fitted.train_batch
    mosaic(_bytes(images), answer_captions(names, labels.tolist(), labels.tolist()), run.train_batch_path)
    _draw_answers(run, table, fitted)


def run_pictures(run: RunFolder, *, images: bool = True) -> dict[str, Path]:
    """The drawn pictures under the titles that the page gives them; without `images` those that show none."""
    titles = {"training": run.results_path}
    if images:
        titles["training images as the network sees them"] = run.train_batch_path
        titles["validation images with answers"] = run.val_predictions_path
    return {title: path for title, path in titles.items() if path.is_file()}


def _draw_answers(run: RunFolder, table: ImageTable, fitted: FitResult) -> None:
    """Validation images with answers, half of them wrong ones where there are; nothing without validation images."""
    if not len(fitted.val_rows):
        return
    answers = fitted.val_logits.argmax(axis=1)
    chosen = _mixed(answers != fitted.val_labels)
    images = [read_image(table, int(row), fitted.spec) for row in fitted.val_rows[chosen]]
    labels, answered = fitted.val_labels[chosen].tolist(), answers[chosen].tolist()
    right = [label == answer for label, answer in zip(labels, answered, strict=True)]
    captions = answer_captions(table.labels.names, labels, answered)
    mosaic(_bytes(np.stack(images)), captions, run.val_predictions_path, correct=right)


def _mixed(wrong: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Up to 25 positions, spread evenly: wrong ones first, at most half of them."""
    some_wrong = _spread(np.flatnonzero(wrong), SHOWN // 2)
    return np.concatenate([some_wrong, _spread(np.flatnonzero(~wrong), SHOWN - len(some_wrong))])


def _spread(positions: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return positions[np.unique(np.linspace(0, len(positions) - 1, min(len(positions), count)).astype(np.int64))]


def _bytes(images: Pixels) -> list[NDArray[np.uint8]]:
    return [(image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8) for image in images]
