"""The last step of a run: the exported classifier is measured on images it has not seen, drawn and written down."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.metadata import version
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.core.bundle import open_bundle, write_card
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.report import Cell, Finding, Report
from sortal.core.run import RunFolder
from sortal.data.table import ImageTable
from sortal.decide import FittedDecision
from sortal.evaluate.study import measure, write_study
from sortal.memory import data_version
from sortal.models.catalog import count_macs
from sortal.optimism import with_optimism
from sortal.pictures import draw_run, run_pictures
from sortal.runtime.classifier import open_classifier
from sortal.train.fit import FitResult

NO_TEST = "no_test_split"


def final_report(
    run: RunFolder, recipe: Recipe, table: ImageTable, fitted: FitResult, decided: FittedDecision, told: Listener
) -> Report:
    """Evaluate the exported classifier on the test split, or on validation where there is none, and draw."""
    name = evaluated_split(table)
    told_here = tuple(found for found in table.findings if found.code != NO_TEST)
    if name == "test":
        run.log_test_read("final evaluation of sortal train")
    with open_classifier(run.bundle) as classifier:
        study = measure(
            classifier,
            replace(table, findings=told_here).select(table.split_rows(name)),
            listener=told,
            settings=recipe.evaluate,
            contract=recipe.contract,
            split=name,
            train_counts=_counts(table),
            facts=_facts(run, fitted),
            findings=[*_stop_findings(fitted), *_split_findings(name), *fitted.findings],
        )
    measured = decided.on(with_optimism(study.report, study.predictions, study.labels, study.table))
    study = replace(study, report=_with_remedies(_with_provenance(measured, run, recipe, fitted), fitted))
    draw_run(run, table, fitted)
    report = write_study(study, run.path, pictures=run_pictures(run, images=recipe.evaluate.thumbnails))
    write_card(run.bundle, report.to_markdown(max_rows=60))
    return report


def evaluated_split(table: ImageTable) -> str:
    """The split whose numbers a run reports: test, else validation, else train."""
    return next((split for split in ("test", "val", "train") if len(table.split_rows(split))), "train")


def _counts(table: ImageTable) -> NDArray[np.int64]:
    labels = table.label_array()[table.split_rows("train")]
    return np.bincount(labels[labels >= 0], minlength=len(table.labels)).astype(np.int64)


def _facts(run: RunFolder, fitted: FitResult) -> dict[str, Cell]:
    """What the model costs, counted on the network and measured on its files."""
    network, bundle = fitted.network, open_bundle(run.bundle)
    files = [path for name in bundle.artifacts() for path in bundle.artifact(name).iterdir()]
    return {
        "architecture": network.architecture,
        "parameters": network.parameter_count,
        "multiply-accumulates an image": count_macs(network, torch.zeros(1, fitted.spec.channels, *fitted.spec.size)),
        "exported files, MB": round(sum(path.stat().st_size for path in files) / 1e6, 2),
        "licence of the weights": bundle.manifest.weights_licence,
    }


def _stop_findings(fitted: FitResult) -> list[Finding]:
    if fitted.stopped != "interrupted":
        return []
    message = "Training was stopped on request, before it had finished; this is the best state until then."
    return [Finding(code="interrupted", severity="warning", message=message, hint=" ".join(fitted.notes) or None)]


def _split_findings(name: str) -> list[Finding]:
    if name == "test":
        return []
    severity: Literal["warning", "error"] = "warning" if name == "val" else "error"
    what = "chose the best epoch or the strength of the head" if name == "val" else "the classifier was trained on"
    message = f"There is no test split: these numbers are of the {name} images, which {what}, so they flatter."
    hint = "set data.split.test, or evaluate on images of your own: sortal evaluate"
    return [Finding(code=NO_TEST, severity=severity, message=message, hint=hint)]


def _with_remedies(report: Report, fitted: FitResult) -> Report:
    """The table of what was tried against unequal class sizes, where something was."""
    if fitted.remedy is None or fitted.remedy.table is None:
        return report
    return report.model_copy(update={"tables": {**report.tables, "remedies": fitted.remedy.table}})


def _with_provenance(report: Report, run: RunFolder, recipe: Recipe, fitted: FitResult) -> Report:
    more = {
        "run": run.name,
        "recipe_digest": recipe.digest,
        "seed": recipe.seed,
        "stopped": fitted.stopped,
        "best_epoch": fitted.best_epoch,
        "test_reads": len(run.test_reads()),
        "data_version": data_version(run),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("sortal", "torch", "timm", "onnxruntime", "pillow", "numpy")},
    }
    return report.model_copy(update={"provenance": {**report.provenance, **more}})
