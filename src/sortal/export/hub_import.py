"""`sortal import` of a model folder in the hub's format: a bundle with weights of its own, and its exported graph.

The classifier comes with the weights. Preprocessing and decision are the folder's own `preprocess.json` and
`decision.json` where it has them (`sortal export --to hub` writes both), else what `config.json` says of the input.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from sortal.core.bundle import BundleContents, write_bundle
from sortal.core.canonical import parse
from sortal.core.decision import DecisionSpec
from sortal.core.errors import InputError, SortalError
from sortal.core.identity import DECISION, LABELS, PREPROCESS
from sortal.core.labels import LabelSet
from sortal.core.manifest import explain
from sortal.core.preprocess import PreprocessSpec
from sortal.core.report import Finding, Report
from sortal.export.foreign import read_labels
from sortal.models.hub_folder import HubFolder, read_hub_folder

_RESIZE = {"center": "crop", "squash": "stretch", "border": "pad"}
_CHECKED = 8
"""Images of noise on which graph and module are compared."""
_Model = TypeVar("_Model", bound=BaseModel)


def import_hub(folder: Path, *, labels: Path | None, out: Path, licence: str | None = None) -> Report:
    """Publish the classifier in `folder` as a bundle at `out`; its graph is compared with the live network.

    `labels` has one class name a line; without it the folder's own names are taken. Raises WeightsError for a folder
    that is damaged or does not fit its architecture, InputError where names or the input are not said.
    """
    found = read_hub_folder(folder)
    names = _labels(found, labels)
    spec = _own(PreprocessSpec, folder / PREPROCESS) or _preprocess(found)
    decision, notes = _decision(folder, len(names))
    with TemporaryDirectory(prefix="sortal-import-") as work:
        parity = _publish(found, names, spec, decision, licence, out, Path(work) / "model.onnx")
    return Report(
        kind="import",
        subject=folder.name,
        metrics=parity.metrics,
        findings=notes,
        paths={"bundle": str(out)},
        body={"preprocess": spec.model_dump(mode="json"), "architecture": found.architecture},
    )


def _publish(
    found: HubFolder,
    names: LabelSet,
    spec: PreprocessSpec,
    decision: DecisionSpec,
    licence: str | None,
    out: Path,
    graph: Path,
) -> Report:
    from sortal.export.graph import export_onnx
    from sortal.export.publish import publish_artifacts
    from sortal.models.backbones import create, record
    from sortal.models.resolve import resolve
    from sortal.models.weights import weights_bytes

    source = resolve(str(found.path), offline=True)
    network = create(source, classes=len(names), channels=spec.channels, size=spec.size).eval()
    export_onnx(network, spec, graph)
    contents = BundleContents(
        labels=names,
        preprocess=spec,
        decision=decision,
        model=record(network, source=f"{source.source} sha256:{source.sha256}"),
        weights_licence=licence or found.licence,
        weights=weights_bytes(network),
    )
    write_bundle(out, contents)
    try:
        return publish_artifacts(out, graph, network, _noise(spec))
    except SortalError:
        shutil.rmtree(out, ignore_errors=True)  # written above by this call; without its graph it is no use
        raise


def _labels(found: HubFolder, file: Path | None) -> LabelSet:
    if file is None:
        own = _own(LabelSet, found.path / LABELS)
        if own is None and not found.labels:
            hint = f"name a file with {found.classes} class names: --labels names.txt"
            raise InputError("the folder does not name its classes", where=str(found.path), hint=hint)
        names = own or LabelSet(names=found.labels)
    else:
        names, _ = read_labels(file)
    if len(names) != found.classes:
        raise InputError(f"the network tells {found.classes} classes apart", received=f"{len(names)} names")
    return names


def _preprocess(found: HubFolder) -> PreprocessSpec:
    said = found.input
    if said is None or found.size is None:
        hint = "config.json needs pretrained_cfg with input_size, mean and std"
        raise InputError("the folder does not say how images are prepared", where=str(found.path), hint=hint)
    fields = said.model_dump(include={"crop", "interpolation", "mean", "std"})
    fields |= {"channels": found.channels, "size": found.size, "resize": _RESIZE.get(found.crop_mode, "crop")}
    try:
        return PreprocessSpec.model_validate(fields)
    except ValidationError as error:
        raise InputError(f"pretrained_cfg: {explain(error)}", where=str(found.path)) from error


def _decision(folder: Path, classes: int) -> tuple[DecisionSpec, tuple[Finding, ...]]:
    """The folder's own, without the limit of an unknown score, whose reference such a folder does not have."""
    own = _own(DecisionSpec, folder / DECISION)
    if own is None:
        message = "the folder has no decision: probabilities are not calibrated, every image is answered"
        return DecisionSpec(), (Finding(code="not_calibrated", severity="warning", message=message),)
    lengths = {len(value) for value in (own.bias, own.class_thresholds, own.doubts, own.costs) if value is not None}
    if lengths - {classes}:
        raise InputError("the decision is for another number of classes", where=str(folder / DECISION))
    if own.unknown is None:
        return own, ()
    message = "the limit of the unknown score is left out: what it is computed from is not part of such a folder"
    finding = Finding(code="unknown_left_out", severity="warning", message=message)
    return own.model_copy(update={"unknown": None}), (finding,)


def _own(kind: type[_Model], file: Path) -> _Model | None:
    """What Sortal wrote beside the folder's own files, None where it did not."""
    if not file.is_file():
        return None
    try:
        return kind.model_validate(parse(file.read_bytes(), where=str(file)))
    except ValidationError as error:
        raise InputError(f"the file is damaged: {explain(error)}", where=str(file)) from error


def _noise(spec: PreprocessSpec) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(key=0))
    kind = np.uint8 if spec.depth == 8 else np.uint16
    return random.integers(0, spec.maximum + 1, (_CHECKED, *spec.size, spec.channels), dtype=kind)
