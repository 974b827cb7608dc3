"""The story of `sortal sweep`: the same images under several settings and seeds, in one table.

For ablations (with and without augmentation), for the choice of a network, an input size or a batch. All is decided on
validation images: images of a test split take no part. Finished runs are not done again, so a sweep that was broken off
goes on where it stopped.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sortal.build import build
from sortal.core.canonical import digest, parse, pretty
from sortal.core.errors import DataError, ImageError, InputError, RecipeError
from sortal.core.preprocess import Pixels
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Report, Table
from sortal.core.run import folder_name
from sortal.data.table import ImageTable
from sortal.divide import divide
from sortal.evaluate.drawing.sweep_plot import draw_sweep
from sortal.evaluate.study import measure
from sortal.runtime.classifier import Classifier, open_classifier
from sortal.runtime.speed import batch_times_ms, compared_times_ms
from sortal.sweep_report import Entry, report_of
from sortal.train.store import read_image

BATCHES_TABLE = "throughput"
"""Name of the table about batches of the knee."""
_GAP_IMAGES = 1000


def combinations(varied: Sequence[str]) -> list[dict[str, str]]:
    """`input.size=128,160` and `augment=none,basic` as four settings; commas inside brackets do not divide.

    Raises RecipeError for what is no `key=value,value`.
    """
    keys, values = [], []
    for text in varied:
        key, equals, rest = text.partition("=")
        options = _divided(rest)
        if not equals or not key or not all(options):
            raise RecipeError("not a key=value,value setting", where="--vary", received=text)
        keys.append(key)
        values.append(options)
    if not keys:
        raise RecipeError("say what varies", where="--vary", hint="--vary augment=none,basic")
    return [dict(zip(keys, chosen, strict=True)) for chosen in itertools.product(*values)]


def sweep(
    table: ImageTable,
    recipes: Sequence[tuple[str, Recipe]],
    *,
    out: Path,
    subject: str,
    metric: str,
    listener: Listener,
) -> Report:
    """Run every recipe, under its name, and compare. See `explore.sweep`."""
    folder = out / folder_name(f"{subject}-sweep")
    entries, images, keys = _finished(folder), _Images(table, listener), list[str]()
    for number, (setting, recipe) in enumerate(recipes, start=1):
        seen = images.for_recipe(recipe)
        keys.append(digest([recipe.digest, seen.content_digest, seen.listing_digest]))
        if keys[-1] in entries:
            listener.say(f"{number}/{len(recipes)} {setting}, seed {recipe.seed}: done before")
            continue
        listener.say(f"{number}/{len(recipes)} {setting}, seed {recipe.seed}")
        entries[keys[-1]] = _entry(seen, setting, recipe, folder, listener)
        publish_file(folder / "sweep.json", pretty({key: asdict(entry) for key, entry in entries.items()}).encode())
    listener.say("latencies of all settings in turns")
    wanted = [replace(entries[key], setting=setting) for key, (setting, _) in zip(keys, recipes, strict=True)]
    wanted = _timed(wanted, images.for_recipe(recipes[0][1]))
    report = report_of(table, wanted, metric, folder)
    knee = next(entry for entry in wanted if entry.setting == report.provenance["knee"])
    listener.say(f"batches of 1 to 64 images with {knee.setting}")
    batches = _throughput(images.for_recipe(recipes[0][1]), knee)
    report = report.model_copy(update={"tables": {**report.tables, BATCHES_TABLE: batches}})
    draw_sweep(report, folder / "sweep.png")
    publish_file(folder / "report.json", report.to_json().encode())
    publish_file(folder / "report.md", report.to_markdown(max_rows=200).encode())
    return report


class _Images:
    """The images of each recipe, read and divided once for each way of dividing them; without a test split."""

    def __init__(self, table: ImageTable, listener: Listener):
        self._table, self._listener = table, listener
        self._divided: dict[str, ImageTable] = {}

    def for_recipe(self, recipe: Recipe) -> ImageTable:
        """Training and validation images. Raises InputError where there are no validation images."""
        key = digest([recipe.seed, recipe.data.model_dump(mode="json")])
        if key not in self._divided:
            divided = divide(self._table, recipe, self._listener)
            if not len(divided.split_rows("val")):
                raise InputError(
                    "a sweep decides on validation images", where=divided.source, hint="set data.split.val"
                )
            rows = np.concatenate([divided.split_rows(split) for split in ("train", "val")])
            self._divided[key] = divided.select(np.sort(rows))
        return self._divided[key]


def _entry(seen: ImageTable, setting: str, recipe: Recipe, folder: Path, listener: Listener) -> Entry:
    begun_s = time.monotonic()
    run = build(seen, recipe, out=folder, subject="run", listener=listener, started_s=time.monotonic(), divided=True)
    train_s = time.monotonic() - begun_s
    if any(finding.code == "interrupted" for finding in run.report.findings):
        raise KeyboardInterrupt  # half a training is no result; finished runs are kept
    with open_classifier(run.bundle) as classifier:
        rows = seen.split_rows("train")
        some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _GAP_IMAGES)).astype(np.int64))]
        fitted = measure(classifier, seen.select(some), listener=listener, settings=recipe.evaluate, split="train")
    report, trained = run.report, fitted.report.metrics["accuracy"].value
    facts = _facts(report)
    return Entry(
        setting=setting,
        seed=recipe.seed,
        run=str(run.path),
        accuracy=report.metrics["accuracy"].value or 0.0,
        macro_f1=report.metrics["macro_f1"].value or 0.0,
        tail_recall=_tail_recall(report),
        train_accuracy=trained or 0.0,
        train_s=round(train_s, 2),
        latency_1_ms=0.0,
        latency_32_ms=0.0,
        parameters=int(facts.get("parameters", 0)),
        macs=int(facts.get("multiply-accumulates an image", 0)),
        size_mb=float(facts.get("exported files, MB", 0.0)),
    )


def _tail_recall(report: Report) -> float | None:
    """None where no class is in the tail, or none of these has a validation image."""
    rows = report.tables["training_size"].rows if "training_size" in report.tables else ()
    found = [row[-1] for row in rows if row[0] == "tail"]
    return found[0] if found and isinstance(found[0], float) else None


def _facts(report: Report) -> dict[str, Any]:
    return {str(row[0]): row[1] for row in report.tables["model"].rows} if "model" in report.tables else {}


def _image(table: ImageTable, classifier: Classifier) -> Pixels:
    """The first validation image that can be read."""
    for row in table.split_rows("val"):
        with suppress(ImageError):
            return read_image(table, int(row), classifier.preprocess)
    raise DataError("none of the validation images can be read", where=table.source)


def _timed(entries: Sequence[Entry], table: ImageTable) -> list[Entry]:
    """The entries with latencies that one run of each setting has now, when all of them take turns."""
    first = {entry.setting: entry for entry in reversed(entries)}
    with ExitStack() as stack:
        opened = [stack.enter_context(open_classifier(Path(entry.run) / "bundle")) for entry in first.values()]
        found = compared_times_ms([(classifier, _image(table, classifier)) for classifier in opened], (1, 32))
    times_ms = dict(zip(first, found, strict=True))
    return [
        replace(
            entry,
            latency_1_ms=round(times_ms[entry.setting][1], 3),
            latency_32_ms=round(times_ms[entry.setting][32], 3),
        )
        for entry in entries
    ]


def _throughput(table: ImageTable, entry: Entry) -> Table:
    """Latency and images a second of one run by batch, and which batch gives most images a second."""
    with open_classifier(Path(entry.run) / "bundle") as classifier:
        times_ms = batch_times_ms(classifier, _image(table, classifier))
    rates = {batch: 1000 * batch / time_ms for batch, time_ms in times_ms.items()}
    best = max(rates, key=lambda batch: rates[batch])
    rows = tuple(
        (batch, round(time_ms, 2), round(rates[batch], 1), "<-" if batch == best else "")
        for batch, time_ms in times_ms.items()
    )
    return Table(columns=("batch", "latency ms", "images/s", "best"), rows=rows)


def _finished(folder: Path) -> dict[str, Entry]:
    path = folder / "sweep.json"
    if not path.is_file():
        return {}
    raw = parse(path.read_bytes(), where=str(path))
    known = set(Entry.__dataclass_fields__)  # results of a version that measured other things are made again
    found = {key: Entry(**value) for key, value in raw.items() if set(value) == known}
    return {key: entry for key, entry in found.items() if Path(entry.run).is_dir()}


def _divided(text: str) -> list[str]:
    """At commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
