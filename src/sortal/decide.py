"""How a classifier comes to decide: from logits of calibration images to the DecisionSpec of its bundle.

Calibration first, then thresholds for the contract where there is one; both live in `evaluate`. Here they are put
together for a run, whose calibration images are its validation images, and for `sortal calibrate`, which has its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.contract import IMAGE, Contract
from sortal.core.decision import DecisionSpec, probabilities
from sortal.core.errors import RecipeError, nearest
from sortal.core.labels import LabelSet
from sortal.core.report import Finding, Report
from sortal.data.table import ImageTable
from sortal.data.units import units
from sortal.evaluate.trust.attainable import Attained, attained, attained_findings
from sortal.evaluate.trust.calibration import Calibration, calibrate
from sortal.evaluate.trust.selection import Sighted, costs_of, fit_thresholds

if TYPE_CHECKING:
    from sortal.core.recipe import Recipe
    from sortal.train.fit import FitResult
    from sortal.train.plan import Plan

Ints = NDArray[np.int64]

FEW_IMAGES = 100
"""Below so many calibration images the temperature says little."""
UNMET = "contract_unmet"
"""The code of the finding after which a command ends with a negative verdict."""


@dataclass(frozen=True, kw_only=True)
class FittedDecision:
    """A decision, what it was fitted on, and what it came to."""

    decision: DecisionSpec
    calibration: Calibration
    attained: Attained | None = None
    """None without a contract, or without images."""
    findings: tuple[Finding, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)

    def on(self, report: Report) -> Report:
        """The report with the findings, and the table of clauses where there is a contract."""
        tables = {} if self.attained is None else {"contract": self.attained.table()}
        return report.model_copy(
            update={
                "findings": (*self.findings, *report.findings),
                "tables": {**report.tables, **tables},
                "body": {**report.body, "calibration": self.body},
            }
        )

    def sentences(self) -> list[str]:
        """What was fitted, for a person who watches."""
        if not self.calibration.images:
            return []
        spec = self.decision
        bias = ", with a bias for each class" if spec.bias is not None else ""
        found = [f"calibrated on {self.calibration.images:,} images: temperature {spec.temperature:.3f}{bias}"]
        if self.attained is not None:
            found.append(
                f"thresholds for the contract: {self.attained.coverage:.1%} of the calibration images answered, "
                f"{self.attained.error:.2%} of the answers wrong ({self.attained.state})"
            )
        return found


def fit_decision(
    logits: NDArray[np.float32],
    labels: Ints,
    known: LabelSet,
    *,
    contract: Contract | None,
    groups: Ints | None = None,
    unit: Ints | None = None,
    with_bias: bool = True,
) -> FittedDecision:
    """From logits (N, C) and labels (N,), 0..C-1, of images that the network never saw.

    `groups` (N,) number what belongs together, None where images are independent. `unit` (N,) numbers what one decision
    is made for, where that is not an image: thresholds are then those of mean probabilities.

    With a contract there is no bias: its many numbers would fit the images whose mistakes the tests count (so made,
    promises of 2 % on Grocery Store were broken 13 of 15 times). A temperature is one number and hardly changes who is
    surer than whom.
    """
    calibration = calibrate(logits, labels, units=groups, with_bias=with_bias and contract is None)
    decision = calibration.decision()
    if contract is None:
        return FittedDecision(
            decision=decision, calibration=calibration, findings=_few(len(labels)), body=_body(calibration)
        )
    decision = decision.model_copy(update={"costs": costs_of(contract, known)})
    if not len(labels):
        return FittedDecision(decision=decision, calibration=calibration, body=_body(calibration))
    images = Sighted(chances=probabilities(decision, logits), labels=labels, groups=groups)
    images = images if unit is None else _by_unit(images, unit)
    thresholds = fit_thresholds(contract, decision, images, known)
    found = attained(contract, thresholds, images, known)
    return FittedDecision(
        decision=thresholds.decision,
        calibration=calibration,
        attained=found,
        findings=(*attained_findings(found, contract), *_few(len(labels))),
        body=_body(calibration) | {"contract": found.state, "level": thresholds.level},
    )


def decision_of_run(recipe: Recipe, table: ImageTable, plan: Plan, fitted: FitResult) -> FittedDecision:
    """The decision of a finished training: fitted on validation images by logits of a network that never saw them."""
    rows, contract = fitted.val_rows, recipe.contract
    judged = fitted.val_labels >= 0
    part = table.select(rows[judged])
    leaning = fitted.remedy is not None and fitted.remedy.name != "none"
    found = fit_decision(
        fitted.val_logits[judged],
        fitted.val_labels[judged],
        table.labels,
        contract=contract,
        groups=groups_of(part),
        unit=unit_numbers(part, contract),
        with_bias=not leaning and recipe.loss.imbalance in ("auto", "none"),
    )
    return FittedDecision(
        decision=found.decision,
        calibration=found.calibration,
        attained=found.attained,
        findings=(*found.findings, *_about_run(contract, found, refitted=plan.refit)),
        body=found.body | {"images": "validation"},
    )


def groups_of(table: ImageTable) -> Ints | None:
    """(N,) numbers of what belongs together: copies, bursts, groups; None where every image stands alone."""
    numbers = units(table) if len(table) else np.zeros(0, np.int64)
    return None if len(np.unique(numbers)) == len(numbers) else numbers


def unit_numbers(table: ImageTable, contract: Contract | None) -> Ints | None:
    """(N,) numbers of the contract's units, an image without one being its own; None where every image is decided on
    its own. Raises RecipeError where the images lack that column."""
    if contract is None or contract.unit == IMAGE or not len(table):
        return None
    if contract.unit not in table.frame.columns:
        hint = nearest(contract.unit, [name for name in table.frame.columns if not name.startswith("_")])
        raise RecipeError("the images have no such column", where="contract.unit", received=contract.unit, hint=hint)
    numbers = table.frame[contract.unit].cast(pl.String).rank("dense").cast(pl.Int64)
    return numbers.fill_null(numbers.len() + pl.int_range(numbers.len(), eager=True)).to_numpy()


def _by_unit(images: Sighted, unit: Ints) -> Sighted:
    """Mean probabilities of each unit, with the label and the group of most of its images."""
    _, place = np.unique(unit, return_inverse=True)
    sizes = np.bincount(place)
    chances = np.zeros((len(sizes), images.chances.shape[1]))
    np.add.at(chances, place, images.chances.astype(np.float64))
    votes = np.zeros(chances.shape, np.int64)
    np.add.at(votes, (place, images.labels), 1)
    return Sighted(chances=(chances / sizes[:, None]).astype(np.float32), labels=votes.argmax(axis=1))


def _body(calibration: Calibration) -> dict[str, Any]:
    return {
        "calibration_images": calibration.images,
        "temperature": calibration.temperature,
        "bias": calibration.bias is not None,
        "bias_gain": calibration.gain,
        "bias_gain_error": calibration.gain_error,
    }


def _few(images: int) -> tuple[Finding, ...]:
    if images >= FEW_IMAGES or not images:
        return ()
    message = f"Probabilities were calibrated on {images:,} images only; they may still be off by some percent."
    hint = "sortal calibrate RUN IMAGES fits them anew on more images"
    return (Finding(code="few_calibration_images", severity="info", message=message, hint=hint),)


def _about_run(contract: Contract | None, found: FittedDecision, *, refitted: bool) -> list[Finding]:
    told = []
    if not found.calibration.images:
        told.append(_not_calibrated(contract))
    elif contract is not None:
        message = (
            "The images that thresholds were fitted on are the validation images, which have also chosen the best "
            "state of the network or the strength of its head: the thresholds may be a little too generous."
        )
        hint = "sortal calibrate RUN IMAGES fits them anew on images of their own; sortal certify says what holds"
        told.append(Finding(code="calibrated_on_validation", severity="info", message=message, hint=hint))
    if contract is not None and found.calibration.images and refitted:
        message = "After the thresholds were chosen, the head was fitted again with the validation images."
        hint = "leave data.refit at auto: with a contract the network that was calibrated is the one that answers"
        told.append(Finding(code="thresholds_of_another_head", severity="warning", message=message, hint=hint))
    return told


def _not_calibrated(contract: Contract | None) -> Finding:
    message = "There are no validation images, so probabilities are not calibrated"
    message += " and no threshold was fitted for the contract." if contract is not None else "."
    return Finding(
        code="not_calibrated",
        severity="info" if contract is None else "warning",
        message=message,
        hint="set data.split.val, or fit the decision later: sortal calibrate RUN IMAGES",
    )
