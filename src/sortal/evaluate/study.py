"""Evaluate a classifier on labelled images: read, answer, compare, write. The story of `sortal evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import Bundle
from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.errors import DataError, InputError, nearest
from sortal.core.labels import LabelSet
from sortal.core.manifest import MANIFEST
from sortal.core.predictions import Predictions
from sortal.core.progress import Listener
from sortal.core.report import Cell, Finding, Report
from sortal.core.run import RunFolder, new_run
from sortal.core.sections import EvaluateSection
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import SPLITS, ImageTable
from sortal.evaluate.asked import asked_recipe, check_classes, group_numbers, with_asked_group
from sortal.evaluate.compare.sides import bundle_of, run_of
from sortal.evaluate.drawing.strangers_plot import draw_unknown
from sortal.evaluate.evaluation import evaluate_predictions
from sortal.evaluate.files import write_evaluation
from sortal.evaluate.gallery import shown_from
from sortal.evaluate.losses import draw_losses, with_highest_losses
from sortal.evaluate.measure.references import with_references
from sortal.evaluate.measure.slices import slicings, with_slices
from sortal.evaluate.pages.page import Picture
from sortal.evaluate.robustness.added import draw_robust, with_robustness
from sortal.evaluate.seen import seen_findings, split_rows
from sortal.evaluate.timed import with_latency
from sortal.evaluate.trust.confidence import draw_confidence, with_confidence
from sortal.evaluate.trust.strangers import with_unknown
from sortal.runtime.classifier import Classifier, open_classifier

_UNSEEN = "evaluate on images that it did not see"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What one evaluation came to: the report (with its paths), the answers, and the labels they were held against."""

    report: Report
    predictions: Predictions
    labels: NDArray[np.int64]
    table: ImageTable
    decision: DecisionSpec
    contract: Contract | None = None
    thumbnails: bool = True
    """Whether the page may show the images."""


def evaluate_source(
    model: Classifier | Path,
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    out: Path | None,
    split: str | None,
    engine: str,
    listener: Listener,
    by: Sequence[str] = (),
    group: str | None = None,
    settings: Sequence[str] = (),
) -> Report:
    """Measure `model` on `source` and write the files of the report into `out`, or into a numbered folder.

    `by` are columns of the source (camera, line): then the report has a table that measures each of their values, and
    of every two together, apart. `group` is a column or a pattern as in `data.group`, which it replaces: intervals then
    count groups. `settings` are `evaluate.key=value` and `contract=...`, over those of the model's recipe.
    Reading a test split is logged in the run. Images that the run was trained on are a finding of severity error.
    """
    where = None if isinstance(model, Classifier) else model
    bundle, run = (None, None) if where is None else (bundle_of(where), run_of(where))
    recipe = asked_recipe(None if bundle is None else bundle.recipe, settings)
    asked = recipe.data
    if out is not None:
        _check_out(out)
    table = (
        source
        if isinstance(source, ImageTable)
        else images(source, label=asked.label, level=asked.level, boxes=asked.boxes, margin=asked.margin)
    )
    chosen, name = _choose(with_asked_group(table, group, asked.group), split)
    slicings(chosen, by)  # a wrong name is refused before anything is done
    scanned = scan(chosen, progress=lambda done, all: listener.progress("reading", done, all))
    with _opened(model, engine) as classifier:
        _check_labels(classifier, scanned)
        check_classes(recipe, classifier.labels)
        if run is not None and name == "test":
            run.log_test_read(f"sortal evaluate on {table.source}")
        study = measure(
            classifier,
            scanned,
            settings=recipe.evaluate,
            contract=recipe.contract,
            split=name,
            train_counts=_training_counts(run, classifier.labels),
            facts=_facts(bundle),
            listener=listener,
            findings=seen_findings(scanned, bundle, run, name="this model", hint=_UNSEEN),
        )
        if by:
            report = with_slices(study.report, study.predictions, study.labels, study.table, by)
            study = replace(study, report=report)
        with _folder(out, run, table.source) as folder:
            return write_study(study, folder)


def measure(
    classifier: Classifier,
    table: ImageTable,
    *,
    listener: Listener,
    settings: EvaluateSection | None = None,
    contract: Contract | None = None,
    split: str | None = None,
    train_counts: NDArray[np.int64] | None = None,
    facts: dict[str, Cell] | None = None,
    findings: Sequence[Finding] = (),
) -> Study:
    """Answer the images of a scanned table and compare with its labels. Nothing is written."""
    rules = settings or EvaluateSection()
    predictions, embeddings = classifier.predict_outputs(
        table, progress=lambda done, all: listener.progress("evaluating", done, all)
    )
    mapping = np.array([*classifier.labels.mapping_from(table.labels), -1], dtype=np.int64)
    labels = mapping[table.label_array()]
    report = evaluate_predictions(
        predictions,
        labels,
        subject=table.source,
        data_digest=table.content_digest,
        rules=rules,
        contract=contract,
        groups=group_numbers(table),
        train_counts=train_counts,
        embeddings=embeddings,
        split=split,
        model=facts,
    )
    report = with_confidence(report, predictions, labels, classifier.decision, group_numbers(table))
    foreign = (table.label_array() >= 0) & (labels < 0)
    report = with_unknown(report, predictions, labels, foreign, confidence=rules.confidence)
    if rules.robustness:
        report = with_robustness(report, classifier, table, labels, rules.robustness, listener)
    if rules.latency:
        report = with_references(with_latency(report, classifier, table, rules.latency), rules.reference)
    report = report.model_copy(
        update={
            "findings": (*report.findings, *findings, *table.findings),
            "provenance": {**report.provenance, "bundle_id": classifier.bundle_id, "engine": classifier.engine},
            "body": report.body if contract is None else {**report.body, "contract": contract.model_dump(mode="json")},
        }
    )
    return Study(
        report=report,
        predictions=predictions,
        labels=labels,
        table=table,
        decision=classifier.decision,
        contract=contract,
        thumbnails=rules.thumbnails,
    )


def write_study(study: Study, folder: Path, *, pictures: Mapping[str, Picture] | None = None) -> Report:
    """Write report, page, confusion matrix and answers into `folder`; returns the report with its paths."""
    names = [*study.table.labels.names, None]
    true_names = [names[label] for label in study.table.label_array()]
    curves = draw_confidence(study.predictions, study.labels, study.decision, study.contract, folder)
    losses = draw_losses(study.table, study.predictions, study.labels, folder) if study.thumbnails else {}
    robust = draw_robust(study.report, study.table if study.thumbnails else None, folder)
    foreign = (study.table.label_array() >= 0) & (study.labels < 0)
    curves |= draw_unknown(study.predictions, study.labels, foreign, study.decision, folder)
    return write_evaluation(
        with_highest_losses(study.report, study.predictions, study.labels, study.table.names()),
        study.predictions,
        study.labels,
        study.table.names(),
        folder,
        true_names=true_names,
        pictures={**curves, **losses, **robust, **(pictures or {})},
        show=shown_from(study.table) if study.thumbnails else None,
    )


def _opened(model: Classifier | Path, engine: str) -> AbstractContextManager[Classifier]:
    return nullcontext(model) if isinstance(model, Classifier) else open_classifier(model, engine=engine)


def _choose(table: ImageTable, split: str | None) -> tuple[ImageTable, str | None]:
    """The rows to evaluate: the split asked for, else test where there is one, else everything."""
    present = [name for name in SPLITS if len(table.split_rows(name))]
    if split is None:
        return (table.select(table.split_rows("test")), "test") if "test" in present else (table, None)
    if split not in present:
        hint = nearest(split, present) if present else "this source has no splits; leave --split away"
        raise DataError("there is no such split", where=table.source, received=split, hint=hint)
    return table.select(table.split_rows(split)), split


def _check_labels(classifier: Classifier, table: ImageTable) -> None:
    if len(table) and not (table.label_array() >= 0).any():
        hint = "an evaluation needs labelled images: one folder a class, or a table with a label column"
        raise DataError("no image has a label", where=table.source, hint=hint)
    known = classifier.labels.mapping_from(table.labels)
    if not any(index >= 0 for index in known):
        theirs, ours = ", ".join(table.labels.names[:5]) or "none", ", ".join(classifier.labels.names[:5])
        raise DataError(
            "none of the classes is known to the classifier",
            where=table.source,
            received=f"classes {theirs}",
            hint=f"the classifier knows {ours}{' …' if len(classifier.labels) > 5 else ''}",
        )


@contextmanager
def _folder(out: Path | None, run: RunFolder | None, source: str) -> Iterator[Path]:
    """Where the files go: `out` itself, or a new numbered folder beside the run."""
    if out is not None:
        yield out
        return
    root = Path("evaluations") if run is None else run.path / "evaluations"
    with new_run(root, Path(source).stem) as numbered:
        try:
            yield numbered.path
        except BaseException:
            numbered.discard()
            raise


def _check_out(out: Path) -> None:
    """A report may replace an earlier one, but not what a run or a bundle holds."""
    if any((out / name).exists() for name in (MANIFEST, "bundle", "recipe.yaml")):
        hint = "name another folder, or leave --out away for a numbered one"
        raise InputError("a run or bundle is here and is never overwritten", where=str(out), hint=hint)


def _facts(bundle: Bundle | None) -> dict[str, Cell] | None:
    if bundle is None:
        return None
    model = bundle.manifest.model
    files = [path for name in bundle.artifacts() for path in bundle.artifact(name).iterdir()]
    return {
        "architecture": model.architecture,
        "parameters": model.parameters,
        "exported files, MB": round(sum(path.stat().st_size for path in files) / 1e6, 2),
        "licence of the weights": bundle.manifest.weights_licence,
    }


def _training_counts(run: RunFolder | None, labels: LabelSet) -> NDArray[np.int64] | None:
    """Training images a class, as the run recorded them."""
    if run is None:
        return None
    counts, known = np.zeros(len(labels), np.int64), labels.lookup()
    for row in split_rows(run):
        if row["split"] == "train" and row["label"] in known:
            counts[known[row["label"]]] += 1
    return counts
