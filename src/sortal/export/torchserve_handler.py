"""What TorchServe runs of an archive of Sortal: encoded images in, answers out, with Sortal's own preprocessing.

This file is copied into the archive as `handler.py`; TorchServe makes one `Handler` in each of its workers, whose
Python has to have Sortal (`pip install sortal`). TorchServe is archived by its makers: see docs/deploy.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sortal.core.predictions import Predictions
from sortal.runtime.classifier import Classifier, open_classifier

MODEL = "model.onnx"
_TOP = 5


class Handler:
    """One classifier in one worker."""

    initialized = False
    _model: Classifier | None = None

    def initialize(self, context: Any) -> None:
        """Open what the archive holds; called once, by TorchServe."""
        self._model = open_classifier(Path(context.system_properties["model_dir"]) / MODEL, threads=1)
        self.initialized = True

    def handle(self, data: Sequence[Mapping[str, Any]], _: Any) -> list[dict[str, Any]]:
        """An answer for each request of a batch; each brings one encoded image as its body or as `data` of a form."""
        if self._model is None:
            raise RuntimeError("the handler was not initialized")
        images = [bytes(row.get("data") or row.get("body") or b"") for row in data]
        predictions = self._model.predict(images, batch=len(images))
        return [_answer(self._model, predictions, row) for row in range(len(images))]


def _answer(model: Classifier, predictions: Predictions, row: int) -> dict[str, Any]:
    """One answer; one that cannot be given says why, and spoils no other of its batch."""
    if row in predictions.errors:
        code, message = predictions.errors[row]
        return {"code": code, "error": message}
    indices, chances = predictions.top_k(_TOP)
    names = model.labels.names
    told: dict[str, Any] = {
        "label": names[predictions.index[row]],
        "probability": float(predictions.probability[row]),
        "abstained": bool(predictions.abstained[row]),
        "top": [
            {"label": names[index], "probability": float(chance)}
            for index, chance in zip(indices[row], chances[row], strict=True)
        ],
    }
    if predictions.unknown is not None:
        told["unknown"] = bool(predictions.unknown[row])
    return told
