"""Compare classifiers on labelled images: open, answer, test, write. The story of `sortal compare`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sortal.core.errors import DataError, InputError
from sortal.core.manifest import MANIFEST
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.report import Report
from sortal.core.run import new_run
from sortal.core.sections import DataSection
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import SPLITS, ImageTable
from sortal.evaluate.asked import with_asked_group
from sortal.evaluate.compare.changes import all_changes, table_csv
from sortal.evaluate.compare.gather import Gathered, Side, Timed, gather
from sortal.evaluate.compare.pictures import draw_changes, draw_trade_off
from sortal.evaluate.compare.sides import Contender, contenders
from sortal.evaluate.measure.slices import slicings
from sortal.evaluate.pages.page import Picture
from sortal.evaluate.pages.write import write_report
from sortal.runtime.classifier import Classifier, open_classifier

BATCHES = (1, 32)
"""Batch sizes that latency is measured at."""
_SAMPLES = 64


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How to compare. `by` are columns whose values are compared apart."""

    by: tuple[str, ...] = ()
    group: str | None = None
    """A column or pattern that says which images belong together."""
    split: str | None = None
    engine: str = "auto"
    confidence: float = 0.95
    latency: bool = True
    seconds: float = 4.0
    """At most, for the latency of each model at each batch size."""


def compare_models(
    paths: Sequence[Path],
    source: str | Path | Sequence[str | Path] | ImageTable,
    *,
    out: Path | None,
    asked: Asked,
    listener: Listener,
) -> Report:
    """Compare two or more models on the labelled images of `source` and write the files of the report.

    They go into `out`, or into a numbered folder under `comparisons/`. Every model is held against the first one.
    Raises InputError for fewer than two models, DataError where models or images have no class in common.
    """
    _check(paths, out, asked)
    whos = contenders(paths)
    table, split = _opened(source, whos[0], asked)
    slicings(table, asked.by)  # a wrong name is refused before anything is done
    table = scan(table, progress=lambda done, all: listener.progress("reading", done, all))
    sides = [_answered(who, table, split, asked, listener) for who in whos]
    gathered = gather(sides, table, by=asked.by, confidence=asked.confidence)
    with _folder(out, table.source) as folder:
        return _written(gathered, folder)


def _check(paths: Sequence[Path], out: Path | None, asked: Asked) -> None:
    if len(paths) < 2:
        hint = "sortal compare MODEL MODEL IMAGES"
        raise InputError("a comparison needs two models and images", received=f"{len(paths)} model", hint=hint)
    if not 0.5 < asked.confidence < 1.0:
        raise InputError("the confidence must lie between 0.5 and 1", received=str(asked.confidence))
    if out is not None and any((out / name).exists() for name in (MANIFEST, "bundle", "recipe.yaml")):
        hint = "name another folder, or leave --out away for a numbered one"
        raise InputError("a run or bundle is here and is never overwritten", where=str(out), hint=hint)


def _opened(
    source: str | Path | Sequence[str | Path] | ImageTable, who: Contender, asked: Asked
) -> tuple[ImageTable, str | None]:
    """The images, read as the first model's own images were, and of these the asked or the test split."""
    rules = who.bundle.recipe.data if who.bundle is not None and who.bundle.recipe is not None else DataSection()
    if isinstance(source, ImageTable):
        table = source
    else:
        table = images(source, label=rules.label, level=rules.level, boxes=rules.boxes, margin=rules.margin)
    table = with_asked_group(table, asked.group, rules.group)
    present = [name for name in SPLITS if len(table.split_rows(name))]
    wanted = asked.split or ("test" if "test" in present else None)
    if wanted is None:
        return table, None
    if wanted not in present:
        hint = f"it has {', '.join(present)}" if present else "this source has no splits; leave --split away"
        raise DataError("there is no such split", where=table.source, received=wanted, hint=hint)
    return table.select(table.split_rows(wanted)), wanted


def _answered(who: Contender, table: ImageTable, split: str | None, asked: Asked, listener: Listener) -> Side:
    with open_classifier(who.path, engine=asked.engine) as classifier:
        if who.run is not None and split == "test":
            who.run.log_test_read(f"sortal compare on {table.source}")
        predictions = classifier.predict(
            table, progress=lambda done, all: listener.progress(f"{who.name} answers", done, all)
        )
        timed = _timed(classifier, table, asked, listener, who.name) if asked.latency else {}
        return Side(who=who, labels=classifier.labels, predictions=predictions, latencies=timed)


def _timed(classifier: Classifier, table: ImageTable, asked: Asked, listener: Listener, name: str) -> dict[int, Timed]:
    """Latency on encoded images of this very table; none where they are no encoded files."""
    from sortal.evaluate.latency import encoded_images, measure_latency

    samples = encoded_images(table, _SAMPLES)
    if not samples:
        return {}
    listener.say(f"measuring the latency of {name}")
    return {
        batch: measure_latency(classifier, samples, batch=batch, repeats=max(20, 400 // batch), seconds=asked.seconds)
        for batch in BATCHES
    }


def _written(made: Gathered, folder: Path) -> Report:
    """The files of the report: page, JSON, pictures, and for two models all images on which they differ."""
    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, Picture] = {}
    paths = dict[str, str]()
    if len(made.compared) == 1:
        one = made.compared[0]
        for title, chosen in (("worse", one.pair.worse), ("better", one.pair.better)):
            path = folder / f"{title}.png"
            if draw_changes(made.table, made.rows.tolist(), one.pair, chosen, path, names=one.names):
                shown[f"images that got {title}, the surest answers of {one.names[1]} first"] = path
        publish_file(folder / "changes.csv", table_csv(all_changes(one.pair)))
        paths["changes"] = str(folder / "changes.csv")
    if any(row.latency_1_ms is not None for row in made.costs):
        shown["accuracy against latency"] = draw_trade_off(made.costs, folder / "accuracy_latency.png")
    paths |= {path.stem: str(path) for path in shown.values() if isinstance(path, Path)}
    return write_report(made.report.model_copy(update={"paths": paths}), folder, shown)


@contextmanager
def _folder(out: Path | None, source: str) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with new_run(Path("comparisons"), Path(source).stem) as numbered:
        try:
            yield numbered.path
        except BaseException:
            numbered.discard()
            raise
