"""What a run, a bundle or an artifact is, as a Report: the story of `sortal show`."""

from __future__ import annotations

from pathlib import Path

from sortal.core.bundle import Bundle, open_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, InputError
from sortal.core.manifest import MANIFEST
from sortal.core.report import Cell, Report, Table
from sortal.core.run import RunFolder, open_run
from sortal.runtime.classifier import open_classifier

SHOWN_CLASSES = 30
HEADLINE = ("accuracy", "macro_f1", "worst_class_recall", "coarse_accuracy", "coverage")


def describe(path: Path) -> Report:
    """Describe a run folder, a bundle, or whatever else a classifier can be opened from. Raises BundleError."""
    if (path / "bundle" / MANIFEST).is_file():
        return _run(open_run(path), open_bundle(path / "bundle"))
    if (path / MANIFEST).is_file() and (path / "labels.json").is_file():
        return _bundle(open_bundle(path))
    if path.is_dir() and (path / "recipe.yaml").is_file():
        raise BundleError(
            "this run has no bundle: it did not finish",
            where=str(path),
            hint=f"{path / 'train.log'} says how far it came",
        )
    return _artifact(path)


def _run(run: RunFolder, bundle: Bundle) -> Report:
    shown = _bundle(bundle)
    saved = _saved(run.report_path)
    tables = dict(shown.tables)
    reads: list[tuple[Cell, ...]] = [(str(read.get("time")), str(read.get("reason"))) for read in run.test_reads()]
    if reads:
        tables["readings of the test split"] = Table(columns=("time", "reason"), rows=tuple(reads))
    return shown.model_copy(
        update={
            "subject": str(run.path),
            "metrics": {} if saved is None else {k: m for k, m in saved.metrics.items() if k in HEADLINE},
            "data_digest": bundle.manifest.data_digest,
            "tables": tables,
            "paths": {"run": str(run.path), "page": str(run.report_page_path), "bundle": str(run.bundle)},
        }
    )


def _saved(path: Path) -> Report | None:
    try:
        return Report.from_json(path.read_bytes(), where=str(path))
    except (OSError, InputError):
        return None


def _bundle(bundle: Bundle) -> Report:
    manifest, size = bundle.manifest, sum(entry.size for entry in bundle.manifest.files.values())
    for name in bundle.artifacts():
        bundle.artifact(name)  # refused when altered
    rows: list[tuple[Cell, ...]] = [
        ("id", manifest.id),
        ("parent", manifest.parent or "none"),
        ("created", manifest.created),
        ("architecture", manifest.model.architecture),
        ("parameters", manifest.model.parameters),
        ("weights from", manifest.model.source or "not recorded"),
        ("licence of the weights", manifest.weights_licence),
        ("input", _input_text(bundle)),
        ("classes", len(bundle.labels)),
        *_decision_rows(bundle.decision),
        ("artifacts", ", ".join(bundle.artifacts()) or "none"),
        ("identity files, MB", round(size / 1e6, 2)),
    ]
    tables = {
        "bundle": Table(columns=("property", "value"), rows=tuple(rows)),
        "classes": _classes(bundle.labels.names, bundle.labels.parents),
    }
    return Report(kind="description", subject=str(bundle.path), tables=tables, paths={"bundle": str(bundle.path)})


def _artifact(path: Path) -> Report:
    with open_classifier(path) as model:
        rows: list[tuple[Cell, ...]] = [
            ("bundle id", model.bundle_id),
            ("opened with", model.engine),
            ("classes", len(model.labels)),
            *_decision_rows(model.decision),
        ]
        tables = {
            "artifact": Table(columns=("property", "value"), rows=tuple(rows)),
            "classes": _classes(model.labels.names, model.labels.parents),
        }
    return Report(kind="description", subject=str(path), tables=tables, paths={"artifact": str(path)})


def _decision_rows(decision: DecisionSpec) -> list[tuple[Cell, ...]]:
    """How logits become an answer, in words."""
    bias = "" if decision.bias is None else ", with a bias for each class"
    plain = decision.temperature == 1.0 and decision.bias is None
    rows: list[tuple[Cell, ...]] = [
        ("calibration", "none" if plain else f"temperature {decision.temperature:.4g}{bias}"),
        ("answered from", _threshold_text(decision)),
    ]
    if decision.costs is not None:
        limit = "" if decision.cost_limit is None else f", answered up to {decision.cost_limit:.4g}"
        rows.append(("answer", f"the one of least expected cost{limit}"))
    if decision.unknown is not None:
        rows.append(("unknown from", f"{decision.unknown.method} score above {decision.unknown.threshold:.4g}"))
    return rows


def _threshold_text(decision: DecisionSpec) -> str:
    parts = [f"probability {decision.threshold:.4g}"] if decision.threshold else []
    own = [value for value in decision.class_thresholds or () if value > decision.threshold]
    parts += [f"up to {max(own):.4g} for {len(own)} classes"] if own else []
    doubts = [value for value in decision.doubts or () if value < 1.0]
    parts += [f"unless one of {len(doubts)} classes is likelier than {min(doubts):.4g}"] if doubts else []
    return ", ".join(parts) or "everything is answered"


def _classes(names: tuple[str, ...], parents: tuple[str, ...] | None) -> Table:
    rows = [(index, name, *((parents[index],) if parents else ())) for index, name in enumerate(names)]
    if len(rows) > SHOWN_CLASSES:
        rows = [*rows[:SHOWN_CLASSES], ("…", f"{len(names) - SHOWN_CLASSES} more", *(("",) if parents else ()))]
    return Table(columns=("index", "class", *(("parent",) if parents else ())), rows=tuple(rows))


def _input_text(bundle: Bundle) -> str:
    spec = bundle.preprocess
    height, width = spec.size
    cut = f", centre crop {spec.crop:g}" if spec.resize == "crop" else ""
    return f"{width}x{height} px, {spec.channels} channels, {spec.depth} bit, {spec.resize}{cut}, {spec.interpolation}"
