"""Where an int8 goes that passed: beside the float32 artifact, or into a bundle of its own that names its parent.

The files are those that were judged. A new bundle has no weights for training and no float32; its labels, decision and
reference are its parent's, and its id is written into the graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from sortal.compress.graph import with_metadata
from sortal.compress.report import ARTIFACT_OF, Judged, Outcome
from sortal.core.bundle import Bundle, BundleContents, attach, open_attachment, open_bundle, write_bundle
from sortal.core.reference import read_reference, write_reference
from sortal.core.report import Report
from sortal.runtime.locate import info_of
from sortal.runtime.metadata import to_metadata
from sortal.runtime.onnx_file import read_model

ORIGINAL = "onnx"
MODEL = "model.onnx"
REPORT = "compression.json"


def ship(outcome: Outcome, report: Report, out: Path | None) -> dict[str, Path]:
    """Attach what was judged `shipped`: to the bundle, in place of an older int8, or to a new bundle at `out`.

    Returns artifact name -> folder; empty where nothing passed, and then nothing is written. Raises MachineError when
    the machine refuses; an artifact that was there before is then still there.
    """
    passed = [one for one in outcome.judged if one.verdict == "shipped"]
    if not passed:
        return {}
    bundle = outcome.bundle if out is None else _child(outcome, out)
    interface = open_attachment(outcome.bundle.artifact(ORIGINAL)).manifest.details
    return {ARTIFACT_OF[one.engine]: _attached(one, bundle, interface, report) for one in passed}


def _child(outcome: Outcome, out: Path) -> Bundle:
    parent = outcome.bundle
    manifest = parent.manifest
    contents = BundleContents(
        labels=parent.labels,
        preprocess=parent.preprocess,
        decision=parent.decision,
        model=manifest.model,
        weights_licence=manifest.weights_licence,
        contract=outcome.budget.contract or parent.contract,
        recipe=parent.recipe,
        parent=parent.id,
        data_digest=manifest.data_digest,
    )
    write_bundle(out, contents)
    reference = read_reference(parent)
    if reference is not None:
        write_reference(out, reference)
    return open_bundle(out)


def _attached(one: Judged, bundle: Bundle, interface: dict[str, Any], report: Report) -> Path:
    model = onnx.load_model_from_string(read_model(one.candidate.path))
    data = with_metadata(model, to_metadata(info_of(bundle)))

    def write(folder: Path) -> None:
        (folder / MODEL).write_bytes(data)
        (folder / REPORT).write_text(report.to_json(), encoding="utf-8")

    return attach(
        bundle.path, f"artifacts/{ARTIFACT_OF[one.engine]}", write, details=_details(one, interface), replace=True
    )


def _details(one: Judged, interface: dict[str, Any]) -> dict[str, Any]:
    """What the float32 artifact says of its interface, and what was measured of this one."""
    cost = one.price
    return {
        **{key: interface[key] for key in ("input", "outputs", "classes") if key in interface},
        "format": "onnx",
        "precision": "int8",
        "model": MODEL,
        "engine": one.engine,
        "ranges": one.candidate.name,
        "floating": list(one.candidate.floating),
        "measured": {
            "images": cost.accuracy.n,
            "accuracy": cost.accuracy.value,
            "accuracy_drop_points": cost.accuracy_drop.value,
            "macro_drop_points": cost.macro_drop.value,
            "flips": len(cost.flips),
            "time_ratio": one.ratio.value,
        },
    }
