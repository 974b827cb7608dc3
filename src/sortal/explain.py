"""Why an image was answered as it was: the story of `sortal explain`.

Maps without torch come from the exported graph; where torch and the weights are at hand, Grad-CAM and LayerCAM of the
live network stand beside them. Every map is checked against random weights and by covering what it marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import Bundle
from sortal.core.errors import InputError
from sortal.core.preprocess import Pixels, normalize
from sortal.core.progress import Listener
from sortal.core.reference import Reference, read_reference
from sortal.core.report import Finding, Report
from sortal.core.run import RunFolder, new_run
from sortal.data.decode import read_file
from sortal.evaluate.compare.sides import bundle_of, run_of
from sortal.evaluate.explain.explanation import Explanation, Gradients, explain_pixels
from sortal.evaluate.explain.neighbors import nearest, training_folder
from sortal.evaluate.explain.picture import draw_explanation
from sortal.evaluate.explain.report import explanation_report
from sortal.evaluate.explain.viewed import Viewed, randomized, viewed
from sortal.evaluate.pages.page import Picture
from sortal.evaluate.pages.write import write_report
from sortal.runtime.threads import allowed_cpus


def explain_images(
    model: Path, images: Sequence[Path], *, class_name: str | None, out: Path | None, engine: str, listener: Listener
) -> Report:
    """Explain the answers to some image files and write a page with one picture an image.

    `class_name` asks for the evidence for that class instead of the answer's. Raises ImageError for a file that cannot
    be read, DataError for an unknown class.
    """
    if not images:
        raise InputError("there is no image to explain", hint="sortal explain MODEL IMAGE")
    threads = allowed_cpus()
    bundle, run = bundle_of(model), run_of(model)
    known, findings = _reference(bundle)
    gradients, why_not = _gradients(bundle)
    with viewed(model, engine=engine, threads=threads) as view, randomized(view, threads=threads) as random:
        target = None if class_name is None else view.info.labels.index(class_name)
        told = []
        for number, path in enumerate(images):
            listener.progress("explaining", number, len(images))
            one = explain_pixels(
                view,
                random,
                view.pixels(read_file(path), str(path)),
                str(path),
                target=target,
                gradients=None if gradients is None else gradients.trained,
                random_gradients=None if gradients is None else gradients.random,
            )
            told.append(_with_neighbors(one, known, view, run))
        listener.progress("explaining", len(images), len(images))
    report = explanation_report(told, subject=model.name, findings=[*findings, *why_not])
    with _folder(out, run, model.name) as folder:
        return _written(report, told, folder)


@dataclass(frozen=True, kw_only=True)
class _Both:
    """Gradient maps of the trained network and of its twin with random weights."""

    trained: Gradients
    random: Gradients


def _gradients(bundle: Bundle | None) -> tuple[_Both | None, list[Finding]]:
    """Gradient maps where torch and the weights are at hand; else a finding that says what is missing."""
    if find_spec("torch") is None or find_spec("timm") is None:
        return None, [_without('torch is not installed (pip install "sortal[train]")')]
    if bundle is None or bundle.weights_path is None or bundle.manifest.model.head == "imported":
        return None, [_without("this copy of the model has no weights but those in its graph")]
    from sortal.models.backbones import load_network
    from sortal.models.saliency import gradient_maps, shuffled

    network, spec = load_network(bundle.manifest.model, bundle.weights_path), bundle.preprocess
    twin = shuffled(network)

    def prepared(pixels: Pixels) -> NDArray[np.float32]:
        normalized: NDArray[np.float32] = normalize(spec, pixels[None])[0]
        return normalized

    return _Both(
        trained=lambda pixels, target: gradient_maps(network, prepared(pixels), target),
        random=lambda pixels, target: gradient_maps(twin, prepared(pixels), target),
    ), []


def _without(reason: str) -> Finding:
    return Finding(code="no_gradient_maps", severity="info", message=f"No Grad-CAM and LayerCAM: {reason}.")


def _reference(bundle: Bundle | None) -> tuple[Reference | None, list[Finding]]:
    found = None if bundle is None else read_reference(bundle)
    if found is not None and len(found.embeddings):
        return found, []
    message = "This model does not remember its training images, so that the nearest ones cannot be shown."
    return None, [Finding(code="no_reference", severity="info", message=message, hint="train again with this version")]


def _with_neighbors(one: Explanation, known: Reference | None, view: Viewed, run: RunFolder | None) -> Explanation:
    if known is None:
        return one
    found = nearest(one.embedding, known, view.info.labels, folder=training_folder(run))
    return replace(one, neighbors=tuple(found))


def _written(report: Report, told: Sequence[Explanation], folder: Path) -> Report:
    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, Picture] = {}
    for number, one in enumerate(told, start=1):
        path = folder / f"{number:03d}-{Path(one.name).stem}.png"
        shown[f"{number}. {Path(one.name).name}: {one.answer}"] = draw_explanation(one, path)
    paths = {f"image_{number}": str(path) for number, path in enumerate(shown.values(), start=1)}
    return write_report(report.model_copy(update={"paths": paths}), folder, shown)


@contextmanager
def _folder(out: Path | None, run: RunFolder | None, name: str) -> Iterator[Path]:
    """`out`, or a new numbered folder: beside the run, or under `explanations/`."""
    if out is not None:
        yield out
        return
    with new_run(Path("explanations") if run is None else run.path / "explanations", name) as numbered:
        try:
            yield numbered.path
        except BaseException:
            numbered.discard()
            raise
