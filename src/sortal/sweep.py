"""The story of `sortal sweep`: the same images under several settings and seeds, in one table.

For ablations (with and without augmentation), for the choice of a network, an input size or a batch. All is decided on
validation images: images of a test split take no part. Finished runs are not done again, so a sweep that was broken off
goes on where it stopped.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sortal.build import build, divide
from sortal.core.canonical import parse, pretty
from sortal.core.errors import InputError, RecipeError
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Finding, Metric, Report, Table
from sortal.data.table import ImageTable
from sortal.evaluate.study import measure
from sortal.evaluate.sweep_plot import draw_sweep
from sortal.runtime.classifier import Classifier, open_classifier
from sortal.train.store import read_image

CLOSE = 0.005
"""Settings whose metric is within this (or within one standard error) of the best count as equally good: the knee is
the quickest of them."""
_TIMED = 15
_GAP_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finished run. Times are of this machine; latency is from pixels to answer, medians."""

    setting: str
    seed: int
    run: str
    accuracy: float
    macro_f1: float
    train_accuracy: float
    """On up to 1,000 training images, as they are and not augmented."""
    train_s: float
    latency_1_ms: float
    latency_32_ms: float
    """Of a batch of 32."""
    parameters: int
    macs: int
    size_mb: float


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
    """Run every recipe, under its name, and compare. See `api.sweep`."""
    folder = out / f"{subject}-sweep"
    entries = _finished(folder)
    for number, (setting, recipe) in enumerate(recipes, start=1):
        known = f"{recipe.digest}:{table.listing_digest}"
        if known in entries:
            listener.say(f"{number}/{len(recipes)} {setting}, seed {recipe.seed}: done before")
            continue
        listener.say(f"{number}/{len(recipes)} {setting}, seed {recipe.seed}")
        entries[known] = _entry(table, setting, recipe, folder, listener)
        publish_file(folder / "sweep.json", pretty({key: asdict(entry) for key, entry in entries.items()}).encode())
    wanted = [entries[f"{recipe.digest}:{table.listing_digest}"] for _, recipe in recipes]
    report = _report(table, wanted, metric, folder)
    draw_sweep(report, folder / "sweep.png")
    publish_file(folder / "report.json", report.to_json().encode())
    publish_file(folder / "report.md", report.to_markdown(max_rows=200).encode())
    return report


def _entry(table: ImageTable, setting: str, recipe: Recipe, folder: Path, listener: Listener) -> Entry:
    begun_s = time.monotonic()
    divided = divide(table, recipe, listener)
    seen = divided.select(np.concatenate([divided.split_rows(split) for split in ("train", "val")]))
    if not len(seen.split_rows("val")):
        raise InputError("a sweep decides on validation images", where=table.source, hint="set data.split.val")
    run = build(seen, recipe, out=folder, subject="run", listener=listener, started_s=time.monotonic(), divided=True)
    train_s = time.monotonic() - begun_s
    with open_classifier(run.bundle) as classifier:
        rows = seen.split_rows("train")
        some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _GAP_IMAGES)).astype(np.int64))]
        fitted = measure(classifier, seen.select(some), listener=listener, settings=recipe.evaluate, split="train")
        one_ms, many_ms = (_latency_ms(classifier, seen, batch) for batch in (1, 32))
    report, trained = run.report, fitted.report.metrics["accuracy"].value
    facts = _facts(report)
    return Entry(
        setting=setting,
        seed=recipe.seed,
        run=str(run.path),
        accuracy=report.metrics["accuracy"].value or 0.0,
        macro_f1=report.metrics["macro_f1"].value or 0.0,
        train_accuracy=trained or 0.0,
        train_s=round(train_s, 2),
        latency_1_ms=round(one_ms, 3),
        latency_32_ms=round(many_ms, 3),
        parameters=int(facts.get("parameters", 0)),
        macs=int(facts.get("multiply-accumulates an image", 0)),
        size_mb=float(facts.get("exported files, MB", 0.0)),
    )


def _facts(report: Report) -> dict[str, Any]:
    return {str(row[0]): row[1] for row in report.tables["model"].rows} if "model" in report.tables else {}


def _latency_ms(classifier: Classifier, table: ImageTable, batch: int) -> float:
    """Median time of a batch of the same image, from pixels to answers."""
    image = read_image(table, int(table.split_rows("val")[0]), classifier.preprocess)
    images, times_s = [image] * batch, list[float]()
    for _ in range(_TIMED + 1):
        begun_s = time.perf_counter()
        classifier.predict(images, batch=batch)
        times_s.append(time.perf_counter() - begun_s)
    return float(np.median(times_s[1:]) * 1000)


def _finished(folder: Path) -> dict[str, Entry]:
    path = folder / "sweep.json"
    if not path.is_file():
        return {}
    raw = parse(path.read_bytes(), where=str(path))
    found = {key: Entry(**value) for key, value in raw.items()}
    return {key: entry for key, entry in found.items() if Path(entry.run).is_dir()}


def _report(table: ImageTable, entries: Sequence[Entry], metric: str, folder: Path) -> Report:
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry.setting, []).append(entry)
    ranked = sorted(grouped.items(), key=lambda item: -_mean(item[1], metric))
    knee = _knee(grouped, metric)
    rows = tuple(_row(setting, runs, metric, knee) for setting, runs in ranked)
    best = ranked[0][0]
    message = f"Best {metric}: {best}. The quickest that is as good (within {CLOSE:.1%} or one standard error): {knee}."
    return Report(
        kind="sweep",
        subject=table.source,
        metrics={
            f"best_{metric}": Metric(value=_mean(grouped[best], metric), n=len(grouped[best])),
            "settings": Metric(value=float(len(grouped))),
        },
        tables={"settings": Table(columns=_COLUMNS, rows=rows), "runs": _runs_table(entries)},
        findings=(Finding(code="sweep_result", severity="info", message=message),),
        provenance={
            "metric": metric,
            "judged_on": "validation images",
            "hardware": f"{platform.machine()}, {platform.system()}",
            "engine": "onnxruntime, float32",
            "knee": knee,
            "folder": str(folder),
        },
    )


_COLUMNS = (
    "setting",
    "seeds",
    "accuracy",
    "spread",
    "macro F1",
    "train - validation gap",
    "train s",
    "latency b1 ms",
    "images/s b32",
    "parameters",
    "MACs",
    "size MB",
    "knee",
)


def _row(setting: str, runs: list[Entry], metric: str, knee: str) -> tuple[Any, ...]:
    values = [getattr(run, metric) for run in runs]
    return (
        setting,
        len(runs),
        round(_mean(runs, "accuracy"), 4),
        round(max(values) - min(values), 4),
        round(_mean(runs, "macro_f1"), 4),
        round(_mean(runs, "train_accuracy") - _mean(runs, "accuracy"), 4),
        round(_mean(runs, "train_s"), 1),
        round(_mean(runs, "latency_1_ms"), 2),
        round(32000 / max(_mean(runs, "latency_32_ms"), 1e-9), 1),
        runs[0].parameters,
        runs[0].macs,
        runs[0].size_mb,
        "<-" if setting == knee else "",
    )


def _runs_table(entries: Sequence[Entry]) -> Table:
    columns = tuple(asdict(entries[0]))
    return Table(columns=columns, rows=tuple(tuple(asdict(entry).values()) for entry in entries))


def _knee(grouped: Mapping[str, list[Entry]], metric: str) -> str:
    """The quickest setting that is as good as the best."""
    best = max(grouped.values(), key=lambda runs: _mean(runs, metric))
    values = [getattr(run, metric) for run in best]
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
    least = _mean(best, metric) - max(CLOSE, error)
    good = {setting: runs for setting, runs in grouped.items() if _mean(runs, metric) >= least}
    return min(good, key=lambda setting: (_mean(good[setting], "latency_1_ms"), -_mean(good[setting], metric)))


def _mean(runs: Sequence[Entry], field: str) -> float:
    return float(np.mean([getattr(run, field) for run in runs]))


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
