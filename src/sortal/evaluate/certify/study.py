"""The story of `sortal certify`: a hold-out that the model never saw, answered, judged, written down and counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sortal.core.bundle import Bundle, attach
from sortal.core.contract import IMAGE, Contract, check_classes, check_promises, load_contract
from sortal.core.errors import InputError
from sortal.core.manifest import MANIFEST
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.report import Report
from sortal.core.run import RunFolder, new_run
from sortal.data.scan import scan
from sortal.data.table import ImageTable
from sortal.evaluate.certify.certificate import certify, column_texts
from sortal.evaluate.certify.holdout import (
    check_hold_out,
    check_known,
    earlier,
    hold_out_table,
    recorded,
    refuse_seen,
    uses_finding,
)
from sortal.evaluate.compare.sides import bundle_of, run_of
from sortal.evaluate.latency import PERCENTILE, Latency, calls_needed, encoded_images, measure_latency, measure_network
from sortal.evaluate.pages.page import render_page
from sortal.runtime.classifier import Classifier, open_classifier
from sortal.runtime.locate import locate

_TIMED_CALLS = 500
_TIMED_S = 60.0
_NETWORK_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a hold-out is to be used."""

    contract: Contract | Path | None = None
    """None: the one that the bundle was made for."""
    group: str | None = None
    """A column or pattern: which images belong together."""
    engine: str = "auto"
    out: Path | None = None
    attach: bool = False
    """Whether the certificate goes into the bundle's `reports/` too."""


def certify_source(
    model: Path, source: str | Path | Sequence[str | Path] | ImageTable, *, asked: Asked, listener: Listener
) -> Report:
    """Judge `model` on images that it never saw, and write certificate.json and certificate.html.

    The use is written into the ledger of hold-outs and into the run. Raises InputError where the contract is wrong or
    absent, DataError where images have no labels or were seen in training, validation or calibration.
    """
    bundle, run = bundle_of(model), run_of(model)
    contract = _contract(asked.contract, bundle, model)
    check_promises(contract)
    if bundle is not None:
        check_classes(contract, bundle.labels.names, where="contract")
    table = scan(
        hold_out_table(source, bundle, asked.group), progress=lambda done, all: listener.progress("reading", done, all)
    )
    check_hold_out(table)
    if contract.unit != IMAGE:
        column_texts(table, contract.unit)  # a wrong name is refused before anything is answered
    refuse_seen(table, bundle, run)
    uses, ledger = earlier(table)
    with open_classifier(model, engine=asked.engine) as classifier:
        check_known(classifier, table)
        predictions = classifier.predict(table, progress=lambda done, all: listener.progress("answering", done, all))
        latency, network = _times(contract, classifier, table, listener)
        report = certify(
            contract,
            predictions,
            table,
            decision=classifier.decision,
            latency=latency,
            network=network,
            size_bytes=_artifact_bytes(model),
            subject=table.source,
        )
        engine = classifier.engine
        ledger = (*ledger, *recorded(table, classifier.bundle_id))
    if run is not None:
        run.log_test_read(f"sortal certify on {table.source}")
    report = report.model_copy(
        update={
            "data_digest": table.content_digest,
            "findings": (uses_finding(uses, len(table)), *ledger, *report.findings, *table.findings),
            "provenance": {**report.provenance, "model": str(model), "engine": engine, "earlier_uses": len(uses)},
        }
    )
    report = report.model_copy(
        update={"body": {**report.body, "summary": [*report.body["summary"], report.findings[0].message]}}
    )
    return _written(report, asked, run, bundle)


def _contract(given: Contract | Path | None, bundle: Bundle | None, model: Path) -> Contract:
    if isinstance(given, Contract):
        return given
    if given is not None:
        return load_contract(given)
    recipe = None if bundle is None else bundle.recipe
    found = (None if bundle is None else bundle.contract) or (None if recipe is None else recipe.contract)
    if found is None:
        hint = "give one: --contract contract.yaml; docs/contract.md says what it looks like"
        raise InputError("this model was trained without a contract", where=str(model), hint=hint)
    return found


def _times(
    contract: Contract, classifier: Classifier, table: ImageTable, listener: Listener
) -> tuple[Latency | None, Latency | None]:
    """End to end and network alone, where the contract limits latency."""
    if contract.max_latency_ms is None:
        return None, None
    samples = encoded_images(table)
    if not samples:
        listener.say("No image of this hold-out is encoded, so latency from bytes cannot be measured.")
        return None, None
    calls = max(_TIMED_CALLS, calls_needed(PERCENTILE, contract.confidence) + 50)
    listener.say(f"Measuring {calls} decisions, one image at a time.")
    level = contract.confidence
    whole = measure_latency(classifier, samples, repeats=calls, seconds=_TIMED_S, confidence=level)
    return whole, measure_network(classifier, samples, seconds=_NETWORK_S, confidence=level)


def _artifact_bytes(model: Path) -> int:
    """Files of the artifact that answers: the model file and what lies beside it, or the file alone."""
    file = locate(model).model
    beside = file.parent if (file.parent / MANIFEST).is_file() else None
    files = [file] if beside is None else [path for path in beside.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def _written(report: Report, asked: Asked, run: RunFolder | None, bundle: Bundle | None) -> Report:
    if asked.attach and bundle is None:
        raise InputError("there is no bundle to attach the certificate to", hint="leave --attach away")
    with _folder(asked.out, run, report.subject) as folder:
        paths = {"report": str(folder / "certificate.html"), "json": str(folder / "certificate.json")}
        report = report.model_copy(update={"paths": paths})
        page, text = render_page(report).encode(), report.to_json().encode()
        publish_file(folder / "certificate.html", page)
        publish_file(folder / "certificate.json", text)
    if asked.attach and bundle is not None:

        def fill(where: Path) -> None:
            (where / "certificate.html").write_bytes(page)
            (where / "certificate.json").write_bytes(text)

        attach(bundle.path, _attachment(bundle), fill, details={"verdict": report.body["verdict"]})
    return report


def _attachment(bundle: Bundle) -> str:
    number = 1
    while f"certificate-{number}" in bundle.reports():
        number += 1
    return f"reports/certificate-{number}"


@contextmanager
def _folder(out: Path | None, run: RunFolder | None, source: str) -> Iterator[Path]:
    if out is not None:
        if any((out / name).exists() for name in (MANIFEST, "bundle", "recipe.yaml")):
            hint = "name another folder, or leave --out away for a numbered one"
            raise InputError("a run or bundle is here and is never overwritten", where=str(out), hint=hint)
        yield out
        return
    root = Path("certificates") if run is None else run.path / "certificates"
    with new_run(root, Path(source).stem) as numbered:
        yield numbered.path
