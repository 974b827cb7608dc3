"""The exported graph in the story of a run: features from it, and the bundle that it becomes part of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import BundleContents, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import DataError, ImageError
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.reference import write_reference
from sortal.core.report import Finding
from sortal.core.run import RunFolder
from sortal.data.table import ImageTable
from sortal.export.graph import export_onnx
from sortal.export.head import set_head
from sortal.export.publish import publish_artifacts
from sortal.models.backbones import record
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.weights import weights_bytes
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.start import Start
from sortal.strangers import get_acquainted
from sortal.train.context import feature_key
from sortal.train.features import Extractor, Features, extract
from sortal.train.fit import FitResult
from sortal.train.plan import Plan
from sortal.train.store import read_image

PARITY_IMAGES = 64
"""Real images whose decisions are compared before a graph is published; benchmarks/onnx_parity.py takes 500."""


@contextmanager
def graph_extractor(recipe: Recipe, run: RunFolder | None, plan: Plan, network: Network) -> Iterator[Extractor | None]:
    """Where only a head will be fitted: the network's backbone on an engine. The graph stays in the cache."""
    if plan.stages != ("probe",) or run is None or not network.linear_head:
        yield None
        return
    graph = export_onnx(network, plan.preprocess(recipe), _graph_path(run))
    engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=plan.threads)
    try:
        yield lambda batch: engine.run(batch).embedding
    finally:
        engine.close()


def engine_features(recipe: Recipe, table: ImageTable, start: Start, listener: Listener) -> tuple[Features, Features]:
    """Frozen features of the training and the validation images, computed by the exported graph or taken from the
    cache."""
    spec = start.plan.preprocess(recipe)
    with embedder(start.network, spec, start.plan.threads) as extractor:
        train, val = (
            extract(
                table,
                table.split_rows(split),
                spec,
                extractor,
                threads=start.plan.workers,
                listener=listener,
                stage=f"features of {split} images",
                key=feature_key(start.source, recipe, "onnxruntime", start.network.pooling.kind),
            )[0]
            for split in ("train", "val")
        )
    return train, val


@contextmanager
def embedder(network: Network, spec: PreprocessSpec, threads: int) -> Iterator[Extractor]:
    """The network's backbone on an engine, from a graph that is removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix="sortal-") as folder:
        graph = export_onnx(network, spec, Path(folder) / "model.onnx")
        engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=threads)
        try:
            yield lambda batch: engine.run(batch).embedding
        finally:
            engine.close()


def publish(
    run: RunFolder,
    recipe: Recipe,
    table: ImageTable,
    start: Start,
    fitted: FitResult,
    decision: DecisionSpec,
    told: Listener,
    *,
    parent: str | None = None,
) -> tuple[Finding, ...]:
    """Bundle, then its artifacts, each compared with the live network on real images before it is attached.

    The graph learns to tell strangers on the way; returns what is to be said about that. `parent` is the id of the
    bundle that the network was made from, where it was.
    """
    graph = _graph_path(run)
    if start.plan.stages == ("probe",) and fitted.network.linear_head and graph.exists():
        linear = fitted.network.linear
        set_head(graph, linear.weight.detach().numpy(), linear.bias.detach().numpy())
    else:
        export_onnx(fitted.network, fitted.spec, graph)
    acquainted = get_acquainted(graph, recipe, table, start, fitted, decision, told)
    contents = BundleContents(
        labels=table.labels,
        preprocess=fitted.spec,
        decision=acquainted.decision,
        model=record(fitted.network, source=_origin(start.source)),
        weights_licence=start.source.licence,
        weights=weights_bytes(fitted.network),
        contract=recipe.contract,
        recipe=recipe,
        parent=parent,
        data_digest=table.content_digest,
    )
    write_bundle(run.bundle, contents, replace=True)  # a run that is taken up again may have published one
    write_reference(run.bundle, acquainted.reference)
    pixels = _some_pixels(table, fitted.spec)
    report = publish_artifacts(
        run.bundle, graph, fitted.network, pixels, names=recipe.export.artifacts, unknown=acquainted.reference.unknown
    )
    flips, margin = report.metrics["flips"].value, report.metrics["smallest_margin"].value
    told.say(
        f"exported graph: {flips:.0f} of {len(pixels)} decisions differ from the live network's "
        f"(closest margin {margin:.2g})"
    )
    return acquainted.findings


def _graph_path(run: RunFolder) -> Path:
    folder = run.path / "cache"
    folder.mkdir(exist_ok=True)
    return folder / "model.onnx"


def _origin(source: ModelSource) -> str:
    return source.source if source.sha256 is None else f"{source.source} sha256:{source.sha256}"


def _some_pixels(table: ImageTable, spec: PreprocessSpec) -> Pixels:
    """Up to 64 prepared images (N, height, width, channels), spread over validation (training where there is none)."""
    rows = table.split_rows("val") if len(table.split_rows("val")) else table.split_rows("train")
    return prepared_pixels(
        table, rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), PARITY_IMAGES)).astype(np.int64))], spec
    )


def prepared_pixels(table: ImageTable, rows: NDArray[np.int64], spec: PreprocessSpec) -> Pixels:
    """The readable ones of some rows (N, height, width, channels). Raises DataError when there is none."""
    found = []
    for row in rows:
        with suppress(ImageError):  # the fit makes a finding of it
            found.append(read_image(table, int(row), spec))
    if not found:
        raise DataError("none of the images can be read", where=table.source, received=f"{len(rows)} tried")
    return np.stack(found)
