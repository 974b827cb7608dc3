"""The classifiers of a comparison brought to the same images and classes: who answers what, and who has seen what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.manifest import MANIFEST
from sortal.core.predictions import Predictions
from sortal.core.report import Finding
from sortal.core.run import RunFolder, open_run
from sortal.evaluate.compare.bootstrap import Answers
from sortal.runtime.locate import answering

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of the things that are compared: where it is and how it is called here."""

    name: str
    path: Path
    bundle: Bundle | None
    run: RunFolder | None


def contenders(paths: Sequence[Path]) -> tuple[Contender, ...]:
    """Runs, bundles, artifact folders or `model.onnx` files, under names short enough to tell them apart."""
    names = _names([path.absolute() for path in paths])
    return tuple(
        Contender(name=name, path=path, bundle=bundle_of(path), run=run_of(path))
        for name, path in zip(names, paths, strict=True)
    )


def common_classes(sets: Sequence[LabelSet]) -> LabelSet:
    """Classes that all sets have, in the order of the first, aliases counted. Raises DataError where there is none."""
    known = [labels.lookup() for labels in sets]
    names = tuple(name for name in sets[0].names if all(name in table for table in known))
    if not names:
        hint = "; ".join(f"{', '.join(labels.names[:3])} …" for labels in sets)
        raise DataError("the models have no class in common", hint=hint)
    kept = {alias: name for alias, name in sets[0].aliases.items() if name in names}
    return LabelSet(names=names, aliases=kept)


def common_answers(predictions: Predictions, common: LabelSet) -> tuple[Answers, int]:
    """Answers among the common classes, and how many were answers of other classes before.

    Probabilities are divided by what the common classes have together; unreadable images keep index -1.
    """
    own = predictions.labels.lookup()
    columns = [own[name] for name in common.names]
    chances = np.nan_to_num(predictions.probabilities[:, columns].astype(np.float64), nan=0.0)
    index = chances.argmax(axis=1).astype(np.int64)
    readable = predictions.index >= 0
    total = np.maximum(chances.sum(axis=1), 1e-30)
    moved = readable & ~np.isin(predictions.index, columns)
    answers = Answers(index=np.where(readable, index, -1), probability=chances.max(axis=1) / total)
    return answers, int(moved.sum())


def class_findings(sides: Sequence[Contender], sets: Sequence[LabelSet], common: LabelSet) -> list[Finding]:
    """Which classes were left out because one of the models lacks them."""
    left = [
        (side.name, [name for name in labels.names if name not in common.lookup()])
        for side, labels in zip(sides, sets, strict=True)
    ]
    told = [f"{name} also knows {_listed(classes)}" for name, classes in left if classes]
    if not told:
        return []
    message = f"Compared on the {len(common)} classes that all models know: {'; '.join(told)}."
    rows = tuple(dict.fromkeys(name for _, classes in left for name in classes))
    hint = "images of other classes are left out, and every model answers among the common classes only"
    return [Finding(code="different_classes", severity="warning", message=message, rows=rows[:1000], hint=hint)]


def bundle_of(path: Path) -> Bundle | None:
    """The bundle that a run, a bundle, an artifact in it or its model file belongs to, or that is live in a workspace;
    None for a lone file."""
    path = answering(path)
    for folder in (path / "bundle", path, *path.absolute().parents[:3]):
        if (folder / MANIFEST).is_file() and (folder / "labels.json").is_file():
            return open_bundle(folder)
    return None


def run_of(path: Path) -> RunFolder | None:
    """The run around a path, for what it was fitted on; None where there is none."""
    for folder in (path, *path.absolute().parents[:4]):
        if (folder / "split.csv").is_file() and (folder / "bundle").is_dir():
            return open_run(folder)
    return None


def _names(paths: Sequence[Path]) -> list[str]:
    """Last parts of the paths, as many as tell them apart; `bundle`, `artifacts` and file names say nothing alone."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        dull = any(path.parts[-length] in _DULL for path in paths)
        if not dull and len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, start=1)]


_DULL = frozenset({"bundle", "artifacts", "onnx", "openvino", "model.onnx", "model.xml"})


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
