"""What a contract adds to an evaluation: the mean cost of an image, and shares at the prevalence it states.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.core.contract import Contract
from sortal.core.labels import LabelSet
from sortal.core.report import Metric
from sortal.evaluate.measure.costs import cost_matrix, cost_metric, image_costs
from sortal.evaluate.measure.grouped import Bools
from sortal.evaluate.measure.measures import Evaluated
from sortal.evaluate.measure.metrics import hits_at
from sortal.evaluate.measure.prevalence import Mix, class_mix, image_weights, mixed_share
from sortal.evaluate.task import Task

Ints = NDArray[np.int64]

SUFFIX = "_at_prevalence"


def mix_of(contract: Contract | None, labels: LabelSet, true: Ints) -> Mix | None:
    """The mix of classes that the contract states, over images of classes `true` (N,); None where it states none."""
    if contract is None or not contract.prevalence:
        return None
    return class_mix(contract.prevalence, labels, np.bincount(true, minlength=len(labels)))


def contract_metrics(
    data: Evaluated, labels: LabelSet, contract: Contract | None, mix: Mix | None, task: Task, top_k: Sequence[int]
) -> dict[str, Metric]:
    """`mean_cost` where there are costs; and, where there is a prevalence, what is a share over several classes once
    more, with `_at_prevalence` after its name."""
    found: dict[str, Metric] = {}
    if contract is not None and contract.costs:
        matrix = cost_matrix(contract.costs, labels)
        costs, largest = image_costs(matrix, data.labels, data.index, data.abstained), float(matrix.max())
        found["mean_cost"] = cost_metric(data.sample, costs, largest)
        if mix is not None:
            weights = image_weights(mix, data.labels)
            found[f"mean_cost{SUFFIX}"] = cost_metric(data.sample, costs, largest, weights)
    return found if mix is None else found | _shares(data, mix, task, top_k)


def _shares(data: Evaluated, mix: Mix, task: Task, top_k: Sequence[int]) -> dict[str, Metric]:
    right, weights = data.labels == data.index, image_weights(mix, data.labels)
    wanted: dict[str, tuple[Bools, Bools | None]] = {"accuracy": (right, None), "coverage": (~data.abstained, None)}
    if data.abstained.any():
        wanted["answered_accuracy"] = (right, ~data.abstained)
    if data.parents is not None:
        parents = np.asarray(data.parents)
        wanted["coarse_accuracy"] = (parents[data.labels] == parents[data.index], None)
    for k in top_k:
        if 1 < k < len(data.names):
            wanted[f"top_{k}"] = (hits_at(data.probabilities, data.labels, k), None)
    if task.detects:
        own, reported = task.defective(data.labels), task.defective(data.index)
        wanted |= {"miss_rate": (~reported, own), "false_detection_rate": (reported, ~own)}
    found = {
        f"{name}{SUFFIX}": mixed_share(data.sample, mix, data.labels, hits, members, weights)
        for name, (hits, members) in wanted.items()
    }
    return {name: metric for name, metric in found.items() if metric.value is not None}
