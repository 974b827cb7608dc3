"""Label Studio's JSON export: rectangles, polygons, choices and ratings; percentages of the image.

A choice about a rectangle (an ordinal grade, say) becomes a column of its row. Where several annotators saw an image
its label is that of the majority, with the columns `annotators`, `agreement` and `label_by_<annotator>`; of their boxes
one annotator's are used (the ground truth, else the last) and `agreement` says how many others drew the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from sortal.core.errors import DataError
from sortal.core.publish import publish_file
from sortal.core.report import Finding
from sortal.data.formats import glimpse
from sortal.data.formats.annotated import FOUND, IMAGES, Annotated, annotated_table, attribute, gathered
from sortal.data.formats.annotators import Opinion, agreed
from sortal.data.formats.classes import SPLIT_NAMES
from sortal.data.formats.exact import Number, difference, fraction, given, percent, read_json, total, write_json
from sortal.data.formats.locate import find_images
from sortal.data.formats.options import Images, ReadOptions, Written
from sortal.data.formats.pictures import Note, Picture, as_json, left_behind, pictures
from sortal.data.formats.placing import Failures, beside, check_free
from sortal.data.formats.tree import Tree, tree_of
from sortal.data.table import ImageTable, finding

_SHAPES = ("rectanglelabels", "polygonlabels", "ellipselabels")
_VALUES = ("choices", "rating", "number", "textarea", "datetime")
_LABEL_CONTROLS = ("choice", "label", "class", "classes", "choices")
_WRITTEN = ("annotator", "labeled_at", "annotators", "agreement")


def sniff(path: Path | Tree) -> bool:
    """A JSON file that is a list of tasks with annotations."""
    if not glimpse.is_file(path, ".json") or not isinstance(path, Path):
        return False
    start = re.sub(rb"\s", b"", glimpse.head(path, size=1 << 16))
    return start.startswith(b"[{") and b'"annotations":' in start and (b'"data":' in start or b'"result":' in start)


def read(path: Path, options: ReadOptions) -> ImageTable:
    """Rectangles and polygons as rows, other answers about them as columns. Raises DataError."""
    return read_tree(tree_of(path), options)


def read_tree(tree: Tree, options: ReadOptions) -> ImageTable:
    """`read` of a lone file."""
    name, data = next(tree.contents(tree.files))
    tasks = read_json(data, tree.where(name))
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError("not a list of tasks", where=tree.where(name), hint="export as JSON, not JSON-MIN or CSV")
    control = _control(tasks, options, tree.where(name))
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    skipped, unread = 0, Counter[str]()
    for task in tasks:
        opinions = list(_opinions(task, len(images), control))
        skipped += len(task.get("annotations") or []) - len(opinions)
        found += agreed(opinions, len(images))
        unread.update(_unread(task))
        images.append(_image(task, tree.where(name)))
    frame = gathered(images, IMAGES)
    frame = frame.with_columns(path=find_images(tree, frame["name"], frame["base"]))
    if frame["path"].null_count():  # uploads carry a prefix of eight hex digits
        bare = frame["name"].str.replace(r"(^|/)[0-9a-f]{8}-([^/]+)$", "$1$2")
        frame = frame.with_columns(path=frame["path"].fill_null(find_images(tree, bare, frame["base"])))
    notes = Annotated(images=frame, found=gathered(found, FOUND), findings=_skipped(skipped, unread))
    return annotated_table(tree, notes, options)


def can_hold(_table: ImageTable) -> str | None:
    """Everything that is no pixel array."""
    return None


def loses(table: ImageTable) -> tuple[str, ...]:
    """The coarse classes."""
    return left_behind(table, "split", "attributes", "polygons", "fractions", "images", "boxes")


def write(table: ImageTable, path: Path, *, images: Images = "refer", replace: bool = False) -> Written:
    """Tasks with annotations; `split` is in each task's data. Raises DataError when there is something at `path`."""
    check_free(path, replace=replace)
    failures, rows = Failures(), 0
    names = beside(table, path, images, failures, crops=False, replace=replace)
    tasks = []
    for position, picture in enumerate(pictures(table, names, failures), start=1):
        split = {"split": picture.split} if picture.split else {}
        answers = _annotations(picture, position)
        tasks.append({"id": position, "data": {"image": picture.name, **split}, "annotations": answers})
        rows += len(picture.notes)
    publish_file(path, write_json(tasks))
    return Written(path=path, rows=rows, findings=failures.findings())


def _control(tasks: Iterable[Mapping[str, Any]], options: ReadOptions, where: str) -> str | None:
    """The choice that is the class of a whole image: the one asked for, one of the usual names, or the only one."""
    names: dict[str, None] = {}
    for task in tasks:
        for answer in task.get("annotations") or []:
            results = answer.get("result") or []
            shapes = {result.get("id") for result in results if result.get("type") in _SHAPES}
            names |= {
                str(result.get("from_name")): None
                for result in results
                if result.get("type") == "choices" and result.get("id") not in shapes
            }
    if options.label != "label":
        return options.label
    usual = [name for name in _LABEL_CONTROLS if name in names]
    if usual or len(names) <= 1:
        return usual[0] if usual else next(iter(names), None)
    hint = f"name the one that is the class: data.label={next(iter(names))}"
    raise DataError("several choices about the whole image", where=where, received=", ".join(names), hint=hint)


def _image(task: Mapping[str, Any], where: str) -> dict[str, Any]:
    data = task.get("data")
    values = data if isinstance(data, dict) else {}
    keys = [key for key in ("image", "img", "url", *values) if isinstance(values.get(key), str) and key != "split"]
    if not keys:
        raise DataError("a task without an image", where=where, received=f"task {task.get('id')}")
    split = SPLIT_NAMES.get(str(values.get("split", "")).casefold())
    return {"name": _file(values[keys[0]]), "base": "", "split": split}


def _file(url: str) -> str:
    """The path in a URL of Label Studio or of a store; other texts are paths themselves."""
    if url.startswith("/data/local-files/"):
        return unquote(parse_qs(urlsplit(url).query).get("d", [url])[0])
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", url) or url.startswith("/data/upload/"):
        return unquote(urlsplit(url).path).lstrip("/")
    return url


def _opinions(task: Mapping[str, Any], image: int, control: str | None) -> Iterable[Opinion]:
    for answer in task.get("annotations") or []:
        if answer.get("was_cancelled") or not isinstance(answer.get("result"), list):
            continue
        results = [result for result in answer["result"] if isinstance(result, dict)]
        shapes = [_shape(result, image) for result in results if result.get("type") in _SHAPES]
        label, marks = _marks(results, {shape["_id"] for shape in shapes}, control)
        for shape in shapes:
            shape |= marks.get(shape.pop("_id"), {})
        yield Opinion(
            annotator=_annotator(answer.get("completed_by")),
            labeled_at=str(answer.get("updated_at") or answer.get("created_at") or "") or None,
            truth=bool(answer.get("ground_truth")),
            shapes=shapes,
            label=label,
            marks=marks.get(None, {}),
        )


def _shape(result: Mapping[str, Any], image: int) -> dict[str, Any]:
    value = result.get("value") if isinstance(result.get("value"), dict) else {}
    labels = (value or {}).get(str(result.get("type"))) or [None]
    shape: dict[str, Any] = {"image": image, "_id": result.get("id"), "text": labels[0]}
    if result.get("type") == "polygonlabels":
        points = (value or {}).get("points") or []
        flat = [fraction(given(number), 100) for point in points for number in point[:2]]
        return {**shape, "polygon": flat}
    if result.get("type") == "ellipselabels":
        x, y, across, along = (given((value or {}).get(name)) for name in ("x", "y", "radiusX", "radiusY"))
        sides: list[Number] = [difference(x, across), difference(y, along), total(x, across), total(y, along)]
        return {**shape, "box": [fraction(side, 100) for side in sides]}
    x, y, width, height = (given((value or {}).get(name)) for name in ("x", "y", "width", "height"))
    turn = float(given((value or {}).get("rotation", 0)))
    if turn:
        return {**shape, "box": _turned([float(side) for side in (x, y, width, height)], turn, result)}
    return {**shape, "box": [fraction(side, 100) for side in (x, y, total(x, width), total(y, height))]}


def _turned(box: list[float], degrees: float, result: Mapping[str, Any]) -> list[float]:
    """The upright box around one that is turned about its upper left corner; NaN where the image's size is not said."""
    size = np.array([float(given(result.get(f"original_{side}"))) for side in ("width", "height")])
    x, y, width, height = np.array(box) / 100 * np.tile(size, 2)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    corners = (along @ np.array([[cosine, sine], [-sine, cosine]]) + [x, y]) / size
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def _marks(
    results: Sequence[Mapping[str, Any]], shapes: set[Any], control: str | None
) -> tuple[str | None, dict[Any, dict[str, Any]]]:
    """The class of the whole image, and by shape (None: the image) the other answers."""
    label: str | None = None
    marks: dict[Any, dict[str, Any]] = {}
    for result in results:
        kind, name = str(result.get("type")), str(result.get("from_name"))
        value = (result.get("value") or {}).get(kind if kind != "textarea" else "text") if kind in _VALUES else None
        value = value[0] if isinstance(value, list) and value else value
        shape = result.get("id") if result.get("id") in shapes else None
        if value is None or value == []:
            continue
        if kind == "choices" and name == control and shape is None:
            label = str(value)
        else:
            marks.setdefault(shape, {})[attribute(name)] = value
    return label, marks


def _annotator(given_by: object) -> str | None:
    if isinstance(given_by, dict):
        return str(given_by.get("email") or given_by.get("username") or given_by.get("id"))
    return None if given_by is None else str(given_by)


def _unread(task: Mapping[str, Any]) -> list[str]:
    """Kinds of regions that are no classes of boxes: brushes, keypoints, vectors ..."""
    results = [result for answer in task.get("annotations") or [] for result in answer.get("result") or []]
    kinds = [str(result.get("type")) for result in results if isinstance(result, dict)]
    return [kind for kind in kinds if kind not in _SHAPES and kind not in _VALUES]


def _skipped(count: int, unread: Mapping[str, int]) -> list[Finding]:
    found = []
    if count:
        found.append(finding("skipped_annotation", "info", f"{count} annotations were skipped or empty"))
    if unread:
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(unread.items()))
        found.append(finding("shape_not_read", "warning", f"left out, being no classes of images: {listed}"))
    return found


def _annotations(picture: Picture, position: int) -> list[dict[str, Any]]:
    """One answer for each annotator, in order of appearance."""
    answers: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for place, note in enumerate(picture.notes):
        key = note.attributes.get("annotator"), note.attributes.get("labeled_at")
        answers.setdefault(key, []).extend(_results(note, picture, f"r{position}-{place}"))
    return [
        {"id": 1000 * position + place, **_signed(*key), "was_cancelled": False, "result": results}
        for place, (key, results) in enumerate(answers.items())
    ]


def _signed(annotator: Any, labeled_at: Any) -> dict[str, Any]:
    by = (
        {} if annotator is None else {"completed_by": annotator if isinstance(annotator, int) else {"email": annotator}}
    )
    return by if labeled_at is None else {**by, "updated_at": labeled_at}


def _results(note: Note, picture: Picture, key: str) -> list[dict[str, Any]]:
    common = {"id": key, "to_name": "image", "original_width": picture.width, "original_height": picture.height}
    shape: dict[str, Any]
    if note.box is None:
        shape = {"from_name": "choice", "type": "choices", "value": {"choices": [note.text]}}
    elif note.polygon and _is_around(note):
        points = [[percent(x), percent(y)] for x, y in zip(note.polygon[::2], note.polygon[1::2], strict=True)]
        shape = {"from_name": "polygon", "type": "polygonlabels"}
        shape["value"] = {"points": points, "closed": True, "polygonlabels": [note.text]}
    else:
        x0, y0, x1, y1 = map(percent, note.box)
        sides = {"x": x0, "y": y0, "width": difference(x1, x0), "height": difference(y1, y0), "rotation": 0}
        shape = {"from_name": "box", "type": "rectanglelabels", "value": {**sides, "rectanglelabels": [note.text]}}
    marks = [_answer(name, value) for name, value in note.attributes.items() if name not in _WRITTEN]
    return [{**common, **entry} for entry in (shape, *marks)]


def _answer(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"from_name": name, "type": "number", "value": {"number": as_json(value)}}
    return {"from_name": name, "type": "textarea", "value": {"text": [str(value)]}}


def _is_around(note: Note) -> bool:
    if not note.polygon or note.box is None:
        return False
    x, y = note.polygon[::2], note.polygon[1::2]
    return (min(x), min(y), max(x), max(y)) == tuple(note.box)
