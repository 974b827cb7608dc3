"""Where an int8 goes that passed: beside the float32 artifact, or into a bundle of its own that names its parent.

The files are those that were judged. A new bundle has no weights for training and no float32; its labels, decision and
reference are its parent's, and its id is written into the graph.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sortal.compress.images import Material
from sortal.compress.report import Outcome
from sortal.compress.verdict import Judged
from sortal.core.bundle import Bundle, BundleContents, attach, open_attachment, open_bundle, write_bundle
from sortal.core.reference import read_reference, write_reference
from sortal.core.report import Report
from sortal.export.artifacts import ARTIFACTS
from sortal.runtime.locate import info_of
from sortal.runtime.metadata import to_metadata

ORIGINAL = "onnx"
MODEL = "model.onnx"
REPORT = "compression.json"
CALIBRATION = "calibration.json"


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
    return {one.candidate.artifact: _attached(one, bundle, interface, outcome.material, report) for one in passed}


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


def _attached(one: Judged, bundle: Bundle, interface: dict[str, Any], material: Material, report: Report) -> Path:
    name, path = one.candidate.artifact, one.candidate.path
    member = ARTIFACTS.get(name)
    details = _details(one, interface)

    def write(folder: Path) -> None:
        member.stamped(path, to_metadata(info_of(bundle)), folder)
        if hasattr(member, "details"):
            details.update(member.details(folder / details["model"]))
        (folder / REPORT).write_text(report.to_json(), encoding="utf-8")
        (folder / CALIBRATION).write_text(json.dumps(_calibration(one, material), indent=1), encoding="utf-8")

    return attach(bundle.path, f"artifacts/{name}", write, details=details, replace=True)


def _calibration(one: Judged, material: Material) -> dict[str, Any]:
    """Which images set the ranges: with the same ones the same scales come out."""
    images = material.calibration
    return {
        "method": one.candidate.method,
        "ranges": one.candidate.ranges,
        "source": material.source,
        "images": [
            {"name": name, "digest": digest} for name, digest in zip(images.names, images.digests, strict=False)
        ],
    }


def _details(one: Judged, interface: dict[str, Any]) -> dict[str, Any]:
    """What the float32 artifact says of its interface, and what was measured of this one."""
    cost, candidate = one.candidate.price, one.candidate
    member = ARTIFACTS.get(candidate.artifact)
    return {
        **{key: interface[key] for key in ("input", "outputs", "classes") if key in interface},
        **member.DETAILS,
        "format": "openvino-ir" if candidate.path.suffix == ".xml" else "onnx",
        "model": f"model{candidate.path.suffix}",
        "method": candidate.method,
        "ranges": candidate.name,
        "floating": list(candidate.floating),
        "measured": {
            "images": cost.accuracy.n,
            "accuracy": cost.accuracy.value,
            "accuracy_drop_points": cost.accuracy_drop.value,
            "macro_drop_points": cost.macro_drop.value,
            "flips": len(cost.flips),
            "expected_flips": cost.expected_flips,
            "time_ratio": one.ratio.value,
        },
    }
