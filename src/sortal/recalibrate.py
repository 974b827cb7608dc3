"""The story of `sortal calibrate`: a classifier's decision fitted anew, on images of its own, as a new bundle.

The network stays as it is, and so does the old bundle. The new one names it as its parent; its artifacts are the same
graphs with the new decision in their metadata. Images that trained or chose the network are refused.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import Bundle, BundleContents, open_bundle, write_bundle, write_card
from sortal.core.conformal import conformal_arrays, conformal_scores
from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec, probabilities
from sortal.core.errors import BundleError, DataError
from sortal.core.manifest import MANIFEST
from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.reference import read_reference, seen_keys, write_reference
from sortal.core.report import Finding, Metric, Report
from sortal.core.run import RunFolder, new_run
from sortal.data.scan import scan
from sortal.data.table import ImageTable, finding
from sortal.decide import FittedDecision, fit_decision, groups_of, unit_numbers
from sortal.evaluate.asked import group_numbers
from sortal.evaluate.compare.sides import run_of
from sortal.evaluate.pages.page import render_page
from sortal.evaluate.seen import seen_before, split_rows
from sortal.evaluate.trust.calibration import logits_of
from sortal.evaluate.trust.confidence import draw_confidence, with_confidence
from sortal.export.artifacts import ARTIFACTS
from sortal.export.publish import restamp_artifact, stamp, write_artifact
from sortal.runtime.classifier import open_classifier
from sortal.runtime.locate import ARTIFACT

GRAPH = "model.onnx"
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Recalibrated:
    """Calibration images as they were answered: rows that have a known label and could be read."""

    table: ImageTable
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    findings: tuple[Finding, ...]


def recalibrate(
    where: Path, table: ImageTable, *, contract: Contract | None, out: Path | None, listener: Listener
) -> Report:
    """Fit the decision of the run or bundle `where` on `table`, and write a run folder with a new bundle.

    `contract` replaces the bundle's. The folder is numbered, beside the run or under `out`. Raises DataError where
    images were seen before or none can be used, BundleError where the bundle has no ONNX artifact, RecipeError for a
    contract that does not fit.
    """
    folder = where / "bundle" if (where / "bundle" / MANIFEST).is_file() else where
    bundle = open_bundle(folder)
    wanted = bundle.contract if contract is None else contract
    scanned = scan(table, progress=lambda done, all: listener.progress("reading", done, all))
    _refuse_seen(scanned, bundle, where)
    images = _answered(bundle, scanned, listener)
    found = fit_decision(
        images.logits,
        images.labels,
        bundle.labels,
        contract=wanted,
        groups=groups_of(images.table),
        unit=unit_numbers(images.table, wanted),
        with_bias=_may_have_bias(bundle),
    )
    found = replace(found, decision=found.decision.model_copy(update={"unknown": bundle.decision.unknown}))
    for sentence in found.sentences():
        listener.say(sentence)
    root, name = (where.absolute().parent if out is None else out), where.absolute().name
    with new_run(root, f"{name}-calibrated") as run:
        try:
            _publish(run, bundle, found.decision, wanted, images, where)
            _tell_of_artifacts(bundle, run.bundle, listener)
            return _report(run, bundle, found, wanted, images)
        except BaseException:
            run.discard()
            raise


def _refuse_seen(table: ImageTable, bundle: Bundle, where: Path) -> None:
    seen = seen_before(table, bundle, run_of(where))
    if seen.any():
        names = [table.name(int(row)) for row in np.flatnonzero(seen)[:_LISTED]]
        more = f" and {int(seen.sum()) - len(names):,} more" if seen.sum() > len(names) else ""
        raise DataError(
            f"{int(seen.sum()):,} of {len(table):,} images were used to train, choose or calibrate this classifier",
            where=table.source,
            received=", ".join(names) + more,
            hint="calibrate on images that it has not seen: on these it looks surer than it is",
        )


def _answered(bundle: Bundle, table: ImageTable, listener: Listener) -> Recalibrated:
    with open_classifier(bundle.path) as model:
        answers = model.predict(table, progress=lambda done, all: listener.progress("answering", done, all))
        mapping = np.array([*model.labels.mapping_from(table.labels), -1], dtype=np.int64)
    labels = mapping[table.label_array()]
    kept = (labels >= 0) & (answers.index >= 0)
    if not kept.any():
        hint = "calibration needs labelled images of the classifier's classes"
        raise DataError("no image can be used to calibrate", where=table.source, hint=hint)
    return Recalibrated(
        table=table.select(kept),
        logits=logits_of(bundle.decision, answers.probabilities[kept]),
        labels=labels[kept],
        findings=(*table.findings, *_left_out(table, labels, answers)),
    )


def _left_out(table: ImageTable, labels: NDArray[np.int64], answers: Predictions) -> list[Finding]:
    found, names = [], table.names()
    for code, rows, why in (
        ("without_known_label", labels < 0, "have no label that the classifier knows"),
        ("unreadable", answers.index < 0, "could not be read"),
    ):
        if rows.any():
            message = f"{int(rows.sum()):,} of {len(table):,} images {why} and were left out."
            found.append(finding(code, "warning", message, [names[row] for row in np.flatnonzero(rows)]))
    return found


def _may_have_bias(bundle: Bundle) -> bool:
    """A bias is fitted where logits do not lean towards rare classes on purpose, or had one before."""
    return bundle.decision.bias is not None or bundle.recipe is None or bundle.recipe.loss.imbalance == "none"


def _publish(
    run: RunFolder,
    parent: Bundle,
    decision: DecisionSpec,
    contract: Contract | None,
    images: Recalibrated,
    where: Path,
) -> None:
    manifest = parent.manifest
    contents = BundleContents(
        labels=parent.labels,
        preprocess=parent.preprocess,
        decision=decision,
        model=manifest.model,
        weights_licence=manifest.weights_licence,
        weights=parent.weights_path,
        contract=contract,
        recipe=parent.recipe,
        parent=parent.id,
        data_digest=manifest.data_digest,
    )
    write_bundle(run.bundle, contents)
    _restamp(parent, run.bundle)
    reference = read_reference(parent)
    if reference is not None:
        seen = np.union1d(reference.seen, seen_keys(images.table.frame["digest"]))
        scores = conformal_scores(probabilities(decision, images.logits), images.labels)
        write_reference(run.bundle, replace(reference, seen=seen, conformal=conformal_arrays(scores)))
    if parent.recipe is not None:
        publish_file(run.recipe_path, parent.recipe.to_yaml().encode())
    _write_split(run, where, images.table)


def _restamp(parent: Bundle, bundle: Path) -> None:
    """The parent's graph with the new decision in its metadata, as every kind of artifact that the parent has."""
    if ARTIFACT not in parent.artifacts():
        raise BundleError("only a bundle with an ONNX artifact can be calibrated anew", where=str(parent.path))
    with TemporaryDirectory(prefix="sortal-") as folder:
        graph = Path(folder) / GRAPH
        shutil.copyfile(parent.artifact(ARTIFACT) / GRAPH, graph)
        stamp(graph, open_bundle(bundle))
        for name in parent.artifacts():
            if name in ARTIFACTS.table:
                _made_anew(name, parent, bundle, graph)


def _made_anew(name: str, parent: Bundle, bundle: Path, graph: Path) -> None:
    """Artifacts in integers keep their ranges; those that cannot be stamped anew are left out."""
    member = ARTIFACTS.get(name)
    if not member.DETAILS.get("calibrated"):
        write_artifact(bundle, name, graph, None)
    elif hasattr(member, "restamped"):
        restamp_artifact(bundle, name, parent.artifact(name), graph)


def _tell_of_artifacts(parent: Bundle, bundle: Path, listener: Listener) -> None:
    """What became of artifacts whose price was measured with the old decision, and of those that were left out."""
    made = open_bundle(bundle).artifacts()
    kept = [name for name in made if name in ARTIFACTS.table and ARTIFACTS.get(name).DETAILS.get("calibrated")]
    left = [name for name in parent.artifacts() if name not in made]
    if kept:
        listener.say(f"{', '.join(kept)}: the same integers, the new decision; what they cost was not measured again")
    if left:
        listener.say(f"{', '.join(left)}: not carried over, make it again from the new bundle")


def _write_split(run: RunFolder, where: Path, table: ImageTable) -> None:
    """The parent's split with the calibration images as validation images, which from now on are seen."""
    columns = ["name", "digest", "label", "split", "group", "unit"]
    rows = split_rows(run_of(where))
    names = table.labels.names
    frame = table.frame
    rows += [
        {"name": name, "digest": digest, "label": names[label], "split": "val", "group": group or "", "unit": ""}
        for name, digest, label, group in zip(
            table.names(), frame["digest"], frame["label"], frame["group"], strict=True
        )
    ]
    with run.split_path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _report(
    run: RunFolder, parent: Bundle, found: FittedDecision, contract: Contract | None, images: Recalibrated
) -> Report:
    """Numbers are of the images that the decision was fitted on: they flatter a little."""
    answers = predictions_from_logits(
        images.logits,
        names=images.table.names(),
        labels=parent.labels,
        decision=found.decision,
        bundle_id=open_bundle(run.bundle).id,
    )
    n = len(answers)
    metrics = {"temperature": Metric(value=found.decision.temperature, n=n)}
    if found.attained is not None:
        metrics |= {
            "coverage": Metric(value=found.attained.coverage, n=n),
            "error": Metric(value=found.attained.error, n=n),
        }
    report = Report(
        kind="calibration",
        subject=images.table.source,
        data_digest=images.table.content_digest,
        metrics=metrics,
        findings=images.findings,
        provenance={"bundle": answers.bundle_id, "parent": parent.id},
        body={"confidence": 0.95 if contract is None else contract.confidence},
    )
    report = with_confidence(report, answers, images.labels, found.decision, group_numbers(images.table))
    report = found.on(report)
    paths = {"bundle": run.bundle, "report": run.report_page_path, "json": run.report_path}
    report = report.model_copy(update={"paths": {name: str(path) for name, path in paths.items()}})
    pictures = draw_confidence(answers, images.labels, found.decision, contract, run.path)
    publish_file(run.report_page_path, render_page(report, pictures).encode())
    publish_file(run.report_path, report.to_json().encode())
    write_card(run.bundle, report.to_markdown(max_rows=60))
    return report
