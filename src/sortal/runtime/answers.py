"""Put answers where people want them: a table file, or the images themselves sorted into one folder a class."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from sortal.core.errors import IMAGE_ERROR_CODES, ImageError, InputError
from sortal.core.predictions import Predictions
from sortal.core.progress import Listener
from sortal.core.publish import disk_errors, publish_file
from sortal.core.report import Finding, Metric, Report, Table
from sortal.core.run import folder_name
from sortal.data.table import ImageTable
from sortal.runtime.choice import Choice, Wish, open_chosen
from sortal.runtime.classifier import Classifier

WRITERS = (".csv", ".tsv", ".jsonl", ".parquet")
REVIEW, UNREADABLE = "_review", "_unreadable"


def answer_files(
    where: Path,
    table: ImageTable,
    *,
    out: Path,
    sort_into: Path | None = None,
    link: bool = False,
    wish: Wish | None = None,
    sets: float | None = None,
    back_off: float | None = None,
    listener: Listener,
) -> Report:
    """Classify the images of a table into the file `out` and, on request, into folders; the story of `sortal predict`.

    `wish` is what may answer (see `runtime.choice`), `sets` the level of prediction sets, `back_off` the probability
    below which the family is answered; the latter become columns.

    Returns a report (kind `prediction`) with counts a class; images that cannot be read are findings `unreadable`,
    beside warnings about what their source holds and was left out.
    """
    check_suffix(out)
    _check_places(table, out, sort_into, link=link)
    model, choice = open_chosen(where, wish=wish, images=len(table), listener=listener)
    with model:
        listener.say(_told(model, choice))
        predictions = model.predict(table, progress=lambda done, all: listener.progress("predicting", done, all))
    write_answers(predictions, out, sets=sets, back_off=back_off)
    paths = {"predictions": str(out)}
    if sort_into is not None:
        sort_images(
            table, predictions, sort_into, link=link, progress=lambda n, all: listener.progress("sorting", n, all)
        )
        paths["sorted"] = str(sort_into)
    return Report(
        kind="prediction",
        subject=str(where),
        metrics=_counts(predictions) | _set_sizes(predictions, sets),
        tables={"answers": _answers_table(predictions)},
        findings=(*_unreadable(predictions), *_left_to_people(predictions, out, sort_into), *_left_out(table)),
        paths=paths,
        provenance={
            "bundle_id": predictions.bundle_id,
            "images": table.source,
            "engine": model.engine,
            "ran_on": model.ran_on,
            "threads": model.threads,
            "precision": None if choice is None else choice.precision,
        },
    )


def _left_out(table: ImageTable) -> list[Finding]:
    """Of what was found when the images were looked for; that they have no labels is no news here."""
    return [finding for finding in table.findings if finding.severity != "info"]


def check_suffix(path: Path) -> None:
    """Raise InputError unless `write_answers` knows how to write `path`."""
    if path.suffix.lower() not in WRITERS:
        raise InputError(
            "unknown kind of file for predictions", received=path.name, hint="known: " + ", ".join(WRITERS)
        )


def _check_places(table: ImageTable, out: Path, sort_into: Path | None, *, link: bool) -> None:
    """Refuse to write over what is read."""
    if link and sort_into is None:
        raise InputError("links are made only where images are sorted into folders", hint="give --sort-into as well")
    read = {Path(table.source).absolute().resolve(), *([] if table.root is None else [table.root.resolve()])}
    for place in (out, sort_into):
        if place is not None and place.resolve() in read:
            raise InputError("this is what the images are read from", where=str(place), hint="name another place")


def write_answers(
    predictions: Predictions, path: Path, *, sets: float | None = None, back_off: float | None = None
) -> None:
    """One row an image as CSV, TSV, JSON lines or Parquet, by the suffix of `path`; replaced as a whole.

    Raises InputError for another suffix, MachineError when the machine refuses.
    """
    check_suffix(path)
    frame, suffix, buffer = predictions.to_polars(sets=sets, back_off=back_off), path.suffix.lower(), io.BytesIO()
    if suffix == ".parquet":
        frame.write_parquet(buffer)
    elif suffix == ".jsonl":
        frame.write_ndjson(buffer)
    else:
        frame.write_csv(buffer, separator="\t" if suffix == ".tsv" else ",", float_precision=6)
    publish_file(path, buffer.getvalue())


def sort_images(
    table: ImageTable,
    predictions: Predictions,
    folder: Path,
    *,
    link: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Put every image into `folder/<answer>/`, withheld answers into `_review`, unreadable files into `_unreadable`.

    Copies, or symbolic links where `link` is set and the image is a file of its own. A file that is already there
    with other content is kept; the new one gets a number. Returns how many went where. Raises MachineError.
    """
    counts: Counter[str] = Counter()
    with disk_errors(folder):
        for row, answer in enumerate(predictions.answers()):
            place = UNREADABLE if answer is None else REVIEW if predictions.abstained[row] else folder_name(answer)
            counts[place] += _put(table, row, folder / place, link=link)
            if progress is not None:
                progress(row + 1, len(predictions))
    return dict(counts)


def _told(model: Classifier, choice: Choice | None) -> str:
    """What answers, in one line; with who really computes, where that is another than was asked for."""
    line = f"{model.engine}, {model.threads} threads: as named" if choice is None else str(choice)
    return line if model.ran_on == model.engine else f"{line}; ran on {model.ran_on}"


def _counts(predictions: Predictions) -> dict[str, Metric]:
    total = len(predictions)
    counts = {"images": total, "unreadable": len(predictions.errors), "abstained": int(predictions.abstained.sum())}
    counts |= {} if predictions.unknown is None else {"unknown": int(predictions.unknown.sum())}
    return {name: Metric(value=float(count), n=total) for name, count in counts.items()}


def _set_sizes(predictions: Predictions, level: float | None) -> dict[str, Metric]:
    if level is None:
        return {}
    sizes = [len(own) for own, index in zip(predictions.sets(level), predictions.index, strict=True) if index >= 0]
    return {"mean_set_size": Metric(value=float(np.mean(sizes)) if sizes else None, n=len(sizes))}


def _answers_table(predictions: Predictions) -> Table:
    readable = predictions.index >= 0
    rows = []
    for index, count in Counter(predictions.index[readable].tolist()).most_common():
        mean = float(predictions.probability[predictions.index == index].mean())
        rows.append((predictions.labels.names[index], count, mean))
    return Table(columns=("answer", "images", "mean probability"), rows=tuple(rows))


def _left_to_people(predictions: Predictions, out: Path, sort_into: Path | None) -> list[Finding]:
    """How many answers are withheld, and where these images are."""
    unknown = np.zeros(len(predictions), bool) if predictions.unknown is None else predictions.unknown
    place = f"column {{}} of {out.name}" + ("" if sort_into is None else f" and folder {sort_into / REVIEW}")
    found = []
    for code, rows, why in (
        ("abstained", predictions.abstained & ~unknown, "are left to a person: the answer is not sure enough"),
        ("unknown", unknown, "are none of the classes, as far as can be told, and are left to a person"),
    ):
        if rows.any():
            names = tuple(predictions.names[row] for row in np.flatnonzero(rows)[:1000])
            message = f"{int(rows.sum()):,} of {len(predictions):,} images {why} ({place.format(code)})."
            found.append(Finding(code=code, severity="info", message=message, rows=names))
    return found


def _unreadable(predictions: Predictions) -> list[Finding]:
    codes = sorted({code for code, _ in predictions.errors.values()})
    found = []
    for code in codes:
        rows = [predictions.names[row] for row, (other, _) in sorted(predictions.errors.items()) if other == code]
        shown = ", ".join(rows[:3]) + (", …" if len(rows) > 3 else "")
        message = f"{len(rows):,} could not be read ({code}: {IMAGE_ERROR_CODES.get(code, code)}): {shown}"
        hint = "replace or remove them; the column error of the answers says why"
        found.append(
            Finding(code="unreadable", severity="warning", message=message, rows=tuple(rows[:1000]), hint=hint)
        )
    return found


def _put(table: ImageTable, row: int, folder: Path, *, link: bool) -> int:
    """1 where the image is now in `folder`, 0 where its file cannot even be read."""
    single = table.frame["member"][row] is None and table.frame["frame"][row] is None
    name = PurePosixPath(table.name(row).replace("::", "/").replace("#", "-")).name
    if link and single:
        _link(table.path(row), _free(folder, name, None))
        return 1
    try:
        content = table.read(row)
    except ImageError:
        return 0
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        pixels = content[:, :, 0] if content.shape[2] == 1 else content
        Image.fromarray(pixels).save(buffer, "PNG")
        content, name = buffer.getvalue(), f"{name}.png"
    target = _free(folder, name, content)
    if not target.exists():
        publish_file(target, content)
    return 1


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def _free(folder: Path, name: str, content: bytes | None) -> Path:
    """A path under which nothing else is: `a.jpg`, then `a-2.jpg`; one that holds `content` already counts as free."""
    path, number = folder / name, 1
    while path.exists() or path.is_symlink():
        if content is not None and path.is_file() and _same(path, content):
            return path
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path


def _same(path: Path, content: bytes) -> bool:
    if path.stat().st_size != len(content):
        return False
    return hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
