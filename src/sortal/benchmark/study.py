"""The story of `sortal benchmark`: every artifact on every engine, in turns, each in a process of its own.

Processes take turns, so that a machine that is slower in one minute than in another is slower for all; at any time one
of them computes. A crash, a hang or a missing package is one row of the report, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sortal.benchmark.apart import Apart, FailedError
from sortal.benchmark.entries import Entry, entries_of
from sortal.benchmark.material import Images, gather
from sortal.benchmark.picture import draw_benchmark
from sortal.benchmark.report import benchmark_report
from sortal.benchmark.row import BATCHES, WHOLE, Row
from sortal.core.bundle import Bundle
from sortal.core.contract import Contract, load_contract
from sortal.core.errors import BundleError
from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.core.progress import Listener
from sortal.core.publish import disk_errors
from sortal.core.report import Report
from sortal.core.run import RunFolder, new_run
from sortal.data.table import ImageTable
from sortal.evaluate.compare.sides import bundle_of, run_of
from sortal.evaluate.pages.write import write_report
from sortal.runtime.threads import allowed_cpus

ROUNDS = 5
_PIXELS = "pixels.npy"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user wants measured, and how long."""

    data: str | Path | Sequence[str | Path] | ImageTable | None = None
    only: Sequence[str] = ()
    engines: Sequence[str] = ()
    threads: int | None = None
    seconds: float = 6.0
    """For the times of each row, about."""
    limit_s: float = 120.0
    """For each step of a row: opening, a turn, all answers."""
    contract: str | Path | Contract | None = None
    out: Path | None = None


def benchmark_model(where: Path, asked: Asked, *, listener: Listener) -> Report:
    """Measure the artifacts of a run or bundle and write the report to `<run>/benchmarks/<run>-N`, or to `asked.out`.

    Raises BundleError where there is no bundle or it was altered, InputError for unknown artifacts and engines,
    DataError for images of other classes. What an artifact does wrong is a row.
    """
    bundle, run = bundle_of(where), run_of(where)
    if bundle is None:
        hint = "give a run or bundle folder such as runs/photos-1"
        raise BundleError("neither a run nor a bundle", where=str(where), hint=hint)
    entries = entries_of(bundle, only=asked.only, engines=asked.engines)
    contract = _contract(asked.contract, bundle)
    images = gather(where, bundle, run, asked.data, listener=listener)
    threads = asked.threads or allowed_cpus()
    with TemporaryDirectory(prefix="sortal-benchmark-") as folder:
        rows = _measured(entries, bundle, images, asked, threads, Path(folder), listener)
    report = benchmark_report(rows, bundle, images, contract, subject=where.name, threads=threads)
    with _folder(asked.out, run, where.name) as pages:
        return _written(report, pages)


def _contract(given: str | Path | Contract | None, bundle: Bundle) -> Contract | None:
    if given is None or isinstance(given, Contract):
        return given or bundle.contract or (None if bundle.recipe is None else bundle.recipe.contract)
    return load_contract(Path(given))


def _measured(
    entries: Sequence[Entry],
    bundle: Bundle,
    images: Images,
    asked: Asked,
    threads: int,
    folder: Path,
    listener: Listener,
) -> list[Row]:
    rows = [Row(entry=entry) for entry in entries]
    files = _put(images, folder)
    with ExitStack() as stack:
        opened = list[tuple[Row, Apart]]()
        for number, row in enumerate(rows):
            listener.progress("opening", number, len(rows))
            if row.entry.why_not:
                continue
            apart = stack.enter_context(Apart(limit_s=asked.limit_s))
            if _step(row, apart, "open", command=_opening(row.entry, bundle, threads)):
                opened.append((row, apart))
        listener.progress("opening", len(rows), len(rows))
        for turn in range(ROUNDS):
            for number, (row, apart) in enumerate(opened):
                listener.progress("measuring", turn * len(opened) + number, ROUNDS * len(opened))
                if not row.failed:
                    _turn(row, apart, files, asked.seconds / ROUNDS, first=turn == 0)
        listener.progress("measuring", 1, 1)
        for number, (row, apart) in enumerate(opened):
            listener.progress("answering", number, len(opened))
            if not row.failed and _step(row, apart, "memory") and images.labelled is not None:
                row.predictions = _answers(row, apart, bundle, images, folder / f"{number}.npz")
        listener.progress("answering", len(opened), len(opened))
    return rows


def _opening(entry: Entry, bundle: Bundle, threads: int) -> dict[str, Any]:
    return {"model": str(entry.model), "engine": entry.engine, "threads": threads, "bundle": str(bundle.path)}


def _turn(row: Row, apart: Apart, files: list[str], seconds: float, *, first: bool) -> None:
    """One turn of a row: single images, batches, and from bytes, a third of the time for each.

    What has had its time in earlier turns already, because a single call takes long, is left out."""
    asked: dict[str, tuple[str, dict[str, Any]]] = {str(size): ("time", {"batch": size}) for size in BATCHES}
    asked[WHOLE] = ("whole", {"images": files})
    for key, (do, command) in asked.items():
        if sum(row.times_ms.get(key, ())) < 1000 * ROUNDS * seconds / len(asked):
            command |= {"seconds": seconds / len(asked), "first": first}
            _step(row, apart, do, key=key, more_s=seconds, command=command)


def _step(
    row: Row, apart: Apart, do: str, *, command: dict[str, Any] | None = None, key: str = "", more_s: float = 0.0
) -> bool:
    """Ask one thing and write the answer into the row. False where it failed, now or before."""
    if row.failed:
        return False
    try:
        said = apart.ask(do, more_s=more_s, **command or {})
    except FailedError as error:
        row.failed = str(error)
        return False
    row.load_s, row.ran_on = said.get("load_s", row.load_s), said.get("ran_on", row.ran_on)
    row.peak_mb = said.get("peak_mb", row.peak_mb)
    row.times_ms.setdefault(key, []).extend(said.get("times_ms", []))
    return True


def _answers(row: Row, apart: Apart, bundle: Bundle, images: Images, out: Path) -> Predictions | None:
    """Decisions about the labelled images; None where it failed, or takes no prepared images."""
    labelled = images.labelled
    if labelled is None:
        return None
    try:
        said = apart.ask("answer", more_s=len(labelled.labels), pixels=str(out.parent / _PIXELS), out=str(out))
    except FailedError as error:
        row.failed = str(error)
        return None
    if not said["answered"]:
        return None
    with np.load(out, allow_pickle=False) as found:
        logits, score = found["logits"], found.get("unknown_score")
    if logits.shape != (len(labelled.labels), len(bundle.labels)) or not np.isfinite(logits).all():
        row.failed = "answers over other classes, or with numbers that are not finite"
        return None
    return predictions_from_logits(
        logits,
        names=labelled.names,
        labels=bundle.labels,
        decision=bundle.decision,
        bundle_id=bundle.id,
        unknown_score=score,
    )


def _put(images: Images, folder: Path) -> list[str]:
    """Pixels and files of the images, where the processes find them; returns the files."""
    with disk_errors(folder):
        if images.labelled is not None:
            np.save(folder / _PIXELS, images.labelled.pixels, allow_pickle=False)
        files = [folder / f"{number}.image" for number in range(len(images.encoded))]
        for file, data in zip(files, images.encoded, strict=True):
            file.write_bytes(data)
    return [str(file) for file in files]


def _written(report: Report, folder: Path) -> Report:
    folder.mkdir(parents=True, exist_ok=True)
    paths = dict[str, str]()
    figures = {}
    if report.tables["artifacts"].rows and report.body["counts"]["ok"]:
        picture = draw_benchmark(report, folder / "benchmark.png")
        figures = {"Time, accuracy and size": picture}
        paths["picture"] = str(picture)
    return write_report(report.model_copy(update={"paths": paths}), folder, figures)


@contextmanager
def _folder(out: Path | None, run: RunFolder | None, name: str) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    root = Path("benchmarks") if run is None else run.path / "benchmarks"
    with new_run(root, name) as numbered:
        yield numbered.path
