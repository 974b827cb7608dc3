"""Attach deployment artifacts to a bundle, stamped with its classes and preprocessing and checked beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from sortal.core.bundle import Bundle, attach, open_attachment, open_bundle
from sortal.core.errors import BundleError
from sortal.core.preprocess import Pixels
from sortal.core.report import Report
from sortal.export.artifacts import ARTIFACTS, member
from sortal.export.fused_decision import decision_outputs
from sortal.export.parity import check_parity, is_equal
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE
from sortal.runtime.locate import info_of
from sortal.runtime.metadata import to_metadata
from sortal.runtime.network_input import ANY_SIZE, FLOAT32
from sortal.runtime.onnx_file import read_model

if TYPE_CHECKING:
    from torch import nn


def publish_artifacts(
    bundle_path: Path,
    onnx_file: Path,
    network: nn.Module,
    pixels: Pixels,
    *,
    names: Sequence[str] = ("onnx",),
    unknown: Mapping[str, NDArray[Any]] | None = None,
) -> Report:
    """Stamp an exported file, compare it with the live module on prepared pixels (N, H, W, C), attach the artifacts.

    `unknown` are the parameters of the unknown score, with which the file's own scores are compared. Returns the parity
    report. Raises BundleError, with nothing attached, when the file does not answer as the module.
    """
    from sortal.export.sides import file_side, module_side
    from sortal.export.unknown import with_unknown

    bundle = open_bundle(bundle_path)
    stamp(onnx_file, bundle)
    live = module_side(network, bundle.labels, bundle.preprocess)
    report = check_parity(live, file_side(onnx_file), pixels, decision=bundle.decision)
    report = with_unknown(report, onnx_file, bundle, pixels, unknown or {})
    for name in names:
        write_artifact(bundle_path, name, onnx_file, report)
    return report


def stamp(onnx_file: Path, bundle: Bundle) -> None:
    """Write the bundle's classes, preprocessing, decision, id and licence into the file's metadata."""
    import onnx

    from sortal.export.graph import save_model, set_metadata

    model = onnx.load_model_from_string(read_model(onnx_file))
    set_metadata(model, to_metadata(info_of(bundle)))
    save_model(model, onnx_file)


def write_artifact(
    bundle_path: Path, name: str, onnx_file: Path, parity: Report | None, *, replace: bool = False
) -> Path:
    """Make artifact `name` of `ARTIFACTS` from an exported, stamped file and attach it as `artifacts/<name>`.

    Returns the artifact's folder. Raises BundleError when the parity report has errors: a wrong artifact is never
    attached; InputError when there is one already and `replace` is False.
    """
    if parity is not None:
        refuse_unequal(name, parity)

    def fill(folder: Path) -> None:
        ARTIFACTS.get(name).convert(onnx_file, folder)

    return _attach(bundle_path, name, fill, onnx_file, parity, replace=replace)


def attach_made(bundle_path: Path, name: str, made: Path, parity: Report, *, replace: bool = False) -> Path:
    """As `write_artifact`, of a folder `made` that holds the artifact's files already."""
    refuse_unequal(name, parity)

    def fill(folder: Path) -> None:
        for path in sorted(made.rglob("*")):  # copytree would hide what the machine said in a list of texts
            target = folder / path.relative_to(made)
            target.mkdir() if path.is_dir() else shutil.copyfile(path, target)

    return _attach(bundle_path, name, fill, made / member(name).DETAILS["model"], parity, replace=replace)


def restamp_artifact(bundle_path: Path, name: str, made: Path, onnx_file: Path) -> Path:
    """Attach a calibrated artifact `made` for another bundle of the same network, with the metadata of `onnx_file`.

    Its manifest keeps what was said and measured of it.
    """

    def fill(folder: Path) -> None:
        ARTIFACTS.get(name).restamped(made, onnx_file, folder)

    details = open_attachment(made).manifest.details
    return attach(bundle_path, f"artifacts/{name}", fill, details=details)


def refuse_unequal(name: str, parity: Report) -> None:
    """Raise BundleError when a parity report has errors; the first one is the reason."""
    if not is_equal(parity):
        worst = next(finding for finding in parity.findings if finding.severity == "error")
        raise BundleError(
            f"the artifact does not answer as the original does: {worst.message}", where=name, hint=worst.hint
        )


def _attach(
    bundle_path: Path, name: str, fill: Callable[[Path], None], graph: Path, parity: Report | None, *, replace: bool
) -> Path:
    found = member(name)
    bundle = open_bundle(bundle_path)
    details = _interface(bundle, found.DETAILS) | dict(found.DETAILS) | _summary(parity)
    details["input"] = _input(bundle, found.DETAILS)
    if hasattr(found, "details"):
        details |= found.details(graph)

    def write(folder: Path) -> None:
        fill(folder)
        if parity is not None:
            (folder / "parity.json").write_text(parity.to_json(), encoding="utf-8")

    return attach(bundle_path, f"artifacts/{name}", write, details=details, replace=replace)


def _interface(bundle: Bundle, details: Mapping[str, Any]) -> dict[str, Any]:
    has_score = bundle.decision.unknown is not None
    fused = decision_outputs(bundle.decision, bundle.labels, has_score=has_score) if _takes_pixels(details) else ()
    score = [UNKNOWN_SCORE] if has_score else []
    return {"outputs": [*OUTPUTS, *score, *fused], "classes": len(bundle.labels)}


def _takes_pixels(details: Mapping[str, Any]) -> bool:
    return str(details.get("input", FLOAT32)).startswith("uint8")


def _input(bundle: Bundle, details: Mapping[str, Any]) -> dict[str, Any]:
    kind, _, layout = str(details.get("input", FLOAT32)).partition(" ")
    spec = bundle.preprocess
    if details.get("input") == ANY_SIZE:
        shape = ["batch", "rows", "columns", spec.channels]
        return {"name": "image", "type": kind, "layout": layout.split(" ")[0], "shape": shape}
    sizes = [*spec.size, spec.channels] if layout == "NHWC" else [spec.channels, *spec.size]
    return {"name": "image", "type": kind, "layout": layout, "shape": ["batch", *sizes]}


def _summary(parity: Report | None) -> dict[str, Any]:
    if parity is None:
        return {"parity": None}
    numbers = {key: metric.value for key, metric in parity.metrics.items()}
    images = next((metric.n for metric in parity.metrics.values() if metric.n is not None), 0)
    return {"parity": {"subject": parity.subject, "images": images, **numbers}}
