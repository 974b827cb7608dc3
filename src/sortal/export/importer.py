"""`sortal import`: somebody else's ONNX classifier becomes a bundle that can be evaluated, served and certified.

The file is checked before an engine sees it, tried in a process of its own, given the three outputs of an exported
graph, tried again, and published. Its weights stay inside the ONNX artifact: the bundle has no weights.safetensors.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError, SortalError
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec
from sortal.core.report import Finding, Metric, Report
from sortal.export.foreign import read_labels, read_preprocess
from sortal.export.trial import try_model
from sortal.runtime.onnx_file import read_model

if TYPE_CHECKING:
    import onnx

    from sortal.export.parts import InputInfo

UNKNOWN_LICENCE = "unknown (imported)"
TRIAL_BATCH = 3


def import_onnx(
    model: Path, *, labels: Path, preprocess: Path | None, out: Path, licence: str = UNKNOWN_LICENCE
) -> Report:
    """Publish the classifier `model` as a bundle at `out`. The report's findings say what was assumed or missing.

    `labels` names the classes in order of the outputs; `preprocess` is YAML (see `export.foreign`). Raises InputError
    for files that do not fit each other, BundleError for a model that is damaged, keeps data in other files or cannot
    be run. Nothing is written then.
    """
    data = read_model(model)
    names, notes = read_labels(labels)
    loaded = _load(data, str(model))
    adapted = _adapt(loaded, names, preprocess, str(model))
    source = f"{model.name} sha256:{sha256(data).hexdigest()}"
    contents = BundleContents(
        labels=names,
        preprocess=adapted.spec,
        decision=DecisionSpec(),
        model=_model_spec(loaded, adapted, len(names), source),
        weights_licence=licence,
    )
    _publish(adapted.model, contents, out)
    return _report(model, out, adapted, [*notes, *adapted.notes])


@dataclass(frozen=True, kw_only=True)
class _Adapted:
    """The model with our interface, and what was learned on the way."""

    model: onnx.ModelProto
    spec: PreprocessSpec
    notes: tuple[Finding, ...]
    embedding: int
    fixed_batch: int | None


def _load(data: bytes, where: str) -> onnx.ModelProto:
    import onnx

    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(data)
    except Exception as error:  # those of protobuf and onnx have no base in common
        reason = str(error).strip().split("\n", 1)[0][:300]
        raise BundleError(f"not a valid ONNX model: {reason}", where=where) from error
    return model


def _adapt(loaded: onnx.ModelProto, names: LabelSet, preprocess: Path | None, where: str) -> _Adapted:
    from sortal.export.adapt import assemble, choose, prefixed
    from sortal.export.parts import find_parts, read_input

    info = read_input(loaded, where=where)
    spec = read_preprocess(preprocess, channels=info.channels, size=info.size)
    net = prefixed(loaded)
    parts = find_parts(net, len(names), where=where)
    net, info, tried, notes = _free(net, info, spec, parts.all, where)
    choice = choose(parts, tried, len(names), where=where)
    whole = assemble(net, info, choice, (spec.channels, *spec.size))
    checked = try_model(whole.SerializeToString(), _samples(spec, info.batch or TRIAL_BATCH), where=where)
    return _Adapted(
        model=whole,
        spec=spec,
        notes=(*notes, *choice.notes),
        embedding=checked["embedding"].shape[1],
        fixed_batch=info.batch,
    )


def _free(
    net: onnx.ModelProto, info: InputInfo, spec: PreprocessSpec, names: list[str], where: str
) -> tuple[onnx.ModelProto, InputInfo, dict[str, NDArray[np.float32]], Sequence[Finding]]:
    """Try the model with a free batch; where it cannot do that, with the batch that it was made for."""
    from sortal.export.adapt import expose, free_batch

    samples = _samples(spec, TRIAL_BATCH)
    given = samples.transpose(0, 2, 3, 1) if info.layout == "NHWC" else samples
    if info.batch is None:
        return net, info, try_model(expose(net, names), np.ascontiguousarray(given), where=where), ()
    freed = free_batch(net, info.batch)
    size = info.batch
    repeated = np.ascontiguousarray(np.resize(given, (size, *given.shape[1:])))
    fixed = try_model(expose(net, names), repeated, where=where)
    try:
        tried = try_model(expose(freed, names), np.ascontiguousarray(given), where=where)
        if _same_answers(fixed[names[0]], tried[names[0]]):
            note = Finding(
                code="batch_freed", severity="info", message=f"the batch was fixed at {size}; now it is free"
            )
            return freed, replace(info, batch=None), tried, (note,)
    except BundleError:
        pass  # the graph holds the batch size where it cannot be seen; it runs as it was made
    message = f"the model runs {size} images at a time and no more; larger batches are cut"
    return net, info, fixed, (Finding(code="batch_fixed", severity="warning", message=message),)


def _same_answers(fixed: NDArray[np.float32], freed: NDArray[np.float32]) -> bool:
    """Whether the images that both runs saw got the same scores."""
    if freed.ndim != fixed.ndim or freed.shape[1:] != fixed.shape[1:] or len(freed) != TRIAL_BATCH:
        return False
    shared = min(len(fixed), len(freed))
    return bool(np.allclose(fixed[:shared], freed[:shared], rtol=1e-3, atol=1e-4))


def _samples(spec: PreprocessSpec, count: int) -> NDArray[np.float32]:
    """Noise on the scale of normalized images: (count, channels, height, width)."""
    random = np.random.Generator(np.random.Philox(key=0))
    return random.standard_normal((count, spec.channels, *spec.size), dtype=np.float32)


def _model_spec(loaded: onnx.ModelProto, adapted: _Adapted, classes: int, source: str) -> ModelSpec:
    parameters = sum(int(np.prod(tensor.dims)) for tensor in loaded.graph.initializer)
    return ModelSpec(
        architecture="imported",
        head="imported",
        classes=classes,
        embedding=adapted.embedding,
        parameters=parameters,
        source=source,
    )


def _publish(model: onnx.ModelProto, contents: BundleContents, out: Path) -> None:
    from sortal.export.graph import save_model
    from sortal.export.publish import stamp, write_artifact

    with TemporaryDirectory(prefix="sortal-import-") as folder:
        file = Path(folder, "model.onnx")
        save_model(model, file)
        write_bundle(out, contents)
        try:
            stamp(file, open_bundle(out))
            write_artifact(out, "onnx", file, None)
        except SortalError:
            shutil.rmtree(out, ignore_errors=True)  # written above by this call; without its model it is no use
            raise


def _report(model: Path, out: Path, adapted: _Adapted, notes: Sequence[Finding]) -> Report:
    return Report(
        kind="import",
        subject=model.name,
        metrics={"embedding": Metric(value=float(adapted.embedding))},
        findings=tuple(notes),
        paths={"bundle": str(out)},
        body={"preprocess": adapted.spec.model_dump(mode="json"), "fixed_batch": adapted.fixed_batch},
    )
