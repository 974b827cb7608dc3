"""The mean rank over log-odds, Mahalanobis distance and nearest neighbors: how strange an image is by each, told as
its place among known images that were not trained on. Beyond the strangest of those a rank goes on along a line.

Combining by ranks needs no common unit and no strange images to weigh by. Of the logits the odds take part and not the
energy: on classes left out of Grocery Store and X-SDD the mean ranks with odds separate better.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.unknown import knn, mahalanobis, odds
from sortal.evaluate.unknown.training import Floats, Graph, Parameters, Training

PARTS: dict[str, ModuleType] = {"odds": odds, "mahalanobis": mahalanobis, "knn": knn}
KNOTS = 32
"""Quantiles by which a distribution of known scores is kept, at most."""

_SHARED = ("mean", "axes", "scale")


def fit(training: Training) -> Parameters:
    """The parameters of the parts, as `knn.neighbors`, and for each the `low`, `width` and `tail` of its ranks."""
    found: Parameters = {}
    for name, part in PARTS.items():
        own = part.fit(training)
        found |= {key if key in _SHARED else f"{name}.{key}": value for key, value in own.items()}
        known = part.score(own, training.known_embeddings, training.known_logits)
        found |= {f"{name}.{key}": value for key, value in _ranks(known).items()}
    return found


def score(parameters: Parameters, embeddings: NDArray[np.float32], logits: NDArray[np.float32]) -> Floats:
    """(N,) 0 like the least strange known image, 1 like the strangest one, more beyond."""
    total = np.zeros(len(logits))
    for name, part in PARTS.items():
        own = _own(parameters, name)
        values = part.score(own, embeddings, logits)
        inside = np.clip((values[:, None] - own["low"].astype(np.float64)) / own["width"].astype(np.float64), 0.0, 1.0)
        beyond = np.maximum(values - float(own["tail"][0]), 0.0) * float(own["tail"][1])
        total += inside.mean(axis=1) + beyond
    return total / len(PARTS)


def emit(graph: Graph, parameters: Parameters, embedding: str, logits: str) -> str:
    """As `score`; the coordinates are computed for each part, which runtimes join again."""
    ranks = [_emit_rank(graph, part, _own(parameters, name), embedding, logits) for name, part in PARTS.items()]
    total = ranks[0]
    for rank in ranks[1:]:
        total = graph.node("Add", total, rank)
    return graph.node("Mul", total, graph.constant(np.array([1.0 / len(ranks)], np.float32)))


def _emit_rank(graph: Graph, part: Any, own: Parameters, embedding: str, logits: str) -> str:
    values = part.emit(graph, own, embedding, logits)
    column = graph.node("Unsqueeze", values, graph.axes(1))
    steps = graph.node("Div", graph.node("Sub", column, graph.constant(own["low"])), graph.constant(own["width"]))
    zero, one = (graph.constant(np.array(value, np.float32)) for value in (0.0, 1.0))
    inside = graph.node("ReduceMean", graph.node("Clip", steps, zero, one), graph.axes(1), keepdims=0)
    over = graph.node("Max", graph.node("Sub", values, graph.constant(own["tail"][:1])), zero)
    return graph.node("Add", inside, graph.node("Mul", over, graph.constant(own["tail"][1:])))


def _own(parameters: Parameters, name: str) -> Parameters:
    own = {key.removeprefix(f"{name}."): value for key, value in parameters.items() if key.startswith(f"{name}.")}
    return own | {key: parameters[key] for key in _SHARED if key in parameters}


def _ranks(known: Floats) -> Parameters:
    """Steps between quantiles: `low` and `width` (K,); `tail` (2,): where the line beyond begins and how steep it is.

    It rises as steeply as ranks do on average over the upper half.
    """
    knots = np.quantile(known, np.linspace(0.0, 1.0, min(KNOTS, len(known)) + 1))
    least = max(float(np.ptp(known)), abs(float(known.max())), 1e-6) * 1e-6
    width = np.maximum(np.diff(knots), least)
    upper = max(float(knots[-1] - np.median(known)), least)
    tail = np.array([knots[-1], 0.5 / upper])
    return {
        "low": knots[:-1].astype(np.float32),
        "width": width.astype(np.float32),
        "tail": tail.astype(np.float32),
    }
