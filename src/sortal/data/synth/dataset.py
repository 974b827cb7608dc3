"""Draw a data set of mechanical parts or sheet metal: class folders, and beside them the truth about every picture.

    out/<class>/<number>.jpg     the pictures under their given labels
    out/truth.csv                one row a picture: true label, attributes, defect, object, what it repeats, corruption
    out/marks.csv                one row a mark, for the tasks on sheet metal: what, how bad, where
    out/synth.json               the options, the counts and a digest of all files

The whole folder appears at once or not at all. The same options give the same bytes, on one machine and with the same
releases of NumPy and Pillow. `plan` decides what is drawn, `render` draws one picture, `truth` writes the tables.
"""

from __future__ import annotations

import hashlib
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from sortal.core.canonical import digest, pretty
from sortal.core.errors import DataError
from sortal.core.publish import disk_errors, publish_folder
from sortal.data.synth.options import SynthOptions, check
from sortal.data.synth.plan import Shot, make_plan
from sortal.data.synth.render import again, generator, jpeg, picture
from sortal.data.synth.truth import marks_table, truth_table

_CHUNK = 16
_CORRUPTION = 255  # the stream of a picture that decides how its file is damaged


@dataclass(frozen=True, kw_only=True)
class SynthResult:
    """path: the new folder; counts: pictures by given label; new_classes: names of those on top; digest: SHA-256 of
    the names and bytes of all pictures."""

    path: Path
    images: int
    counts: dict[str, int]
    new_classes: tuple[str, ...]
    digest: str


def synthesize(out: Path, options: SynthOptions, *, progress: Callable[[int, int], None] | None = None) -> SynthResult:
    """Draw the data set into the new or empty folder `out`; `progress` is told (done, total) now and then.

    Raises InputError for options out of their range, DataError when `out` is not empty, MachineError when the machine
    refuses to write. Nothing is left behind when it fails or is interrupted.
    """
    check(options)
    _check_vacant(out)
    plan = make_plan(options)
    digests: dict[str, str] = {}

    def write(folder: Path) -> None:
        _make_folders(folder, plan)
        for done, (path, sha256) in enumerate(_draw(folder, plan, options), start=1):
            digests[path] = sha256
            if progress is not None and (done % _CHUNK == 0 or done == len(plan)):
                progress(done, len(plan))
        _write_truth(folder, plan, options, digest(digests))

    publish_folder(out, write, replace=out.is_dir())
    return _result(out, plan, digest(digests))


def _check_vacant(out: Path) -> None:
    with disk_errors(out):
        if not out.exists() and not out.is_symlink():
            return
        if not out.is_dir():
            raise DataError("is not a folder", where=str(out), hint="name a folder that does not exist yet")
        if next(out.iterdir(), None) is not None:
            hint = "name a folder that does not exist yet, or empty this one"
            raise DataError("the folder is not empty and is never overwritten", where=str(out), hint=hint)


def _make_folders(folder: Path, plan: Iterable[Shot]) -> None:
    for name in sorted({shot.true_label for shot in plan} | {shot.label for shot in plan}):
        (folder / name).mkdir()


def _draw(folder: Path, plan: tuple[Shot, ...], options: SynthOptions) -> Iterator[tuple[str, str]]:
    """Write all pictures; yields (path, SHA-256) in the plan's order."""
    by_number = {shot.number: shot for shot in plan}
    jobs = [_Job(folder=folder, shot=shot, source=by_number[_drawn_from(shot)], options=options) for shot in plan]
    if options.processes == 1:
        for job in jobs:
            yield _write_picture(job)
        return
    with _pool(min(options.processes, len(jobs))) as pool:
        yield from pool.map(_write_picture, jobs, chunksize=_CHUNK)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes; what waits is dropped as soon as anything goes wrong."""
    pool = ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn"), initializer=_leave_interrupts)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; only the first one acts on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True, kw_only=True)
class _Job:
    folder: Path
    shot: Shot
    source: Shot
    options: SynthOptions


def _drawn_from(shot: Shot) -> int:
    return shot.number if shot.repeats is None else shot.repeats


def _write_picture(job: _Job) -> tuple[str, str]:
    data = _corrupted(_encoded(job), job.shot, job.options.seed)
    (job.folder / job.shot.path).write_bytes(data)
    return job.shot.path, hashlib.sha256(data).hexdigest()


def _encoded(job: _Job) -> bytes:
    shot, options = job.source, job.options
    pixels = picture(
        shot.part,
        seed=options.seed,
        specimen=shot.specimen,
        frame=shot.frame,
        grade=shot.grade,
        drift=options.drift,
        size_px=options.size,
    )
    if not job.shot.near:
        return jpeg(pixels)
    return jpeg(again(pixels, seed=options.seed, part=shot.part.index, frame=job.shot.number), quality=85)


def _corrupted(data: bytes, shot: Shot, seed: int) -> bytes:
    rng = generator(seed, shot.part.index, shot.frame, _CORRUPTION)
    if shot.corruption == "truncated":
        return data[: int(len(data) * rng.uniform(0.3, 0.7))]
    if shot.corruption == "empty":
        return b""
    if shot.corruption == "garbage":
        return rng.bytes(len(data))
    if shot.corruption == "header":
        return bytes(64) + data[64:]
    if shot.corruption == "text":
        return b"<html><body>503 Service Unavailable</body></html>\n"
    return data


def _write_truth(folder: Path, plan: tuple[Shot, ...], options: SynthOptions, sha256: str) -> None:
    (folder / "truth.csv").write_text(truth_table(plan), encoding="utf-8")
    if options.on_sheets:
        (folder / "marks.csv").write_text(marks_table(plan, options), encoding="utf-8")
    summary = {"format": 1, "options": options.content(), "images": len(plan), "counts": _counts(plan)}
    (folder / "synth.json").write_text(pretty(summary | {"digest": sha256}), encoding="utf-8")


def _counts(plan: tuple[Shot, ...]) -> dict[str, int]:
    return dict(sorted(Counter(shot.label for shot in plan).items()))


def _result(out: Path, plan: tuple[Shot, ...], sha256: str) -> SynthResult:
    new = sorted({shot.true_label for shot in plan if shot.new_class})
    return SynthResult(path=out, images=len(plan), counts=_counts(plan), new_classes=tuple(new), digest=sha256)
