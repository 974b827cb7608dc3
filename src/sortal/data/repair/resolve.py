"""A plan held against the images as they are now: what will change, or every entry that cannot be done, and why.

Nothing is changed here. An image that is gone, has other content or another class than the plan says is told apart from
an entry that is wrong in itself: the first kind may be skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError, nearest
from sortal.data.formats.classes import tidy
from sortal.data.repair.moves import content_digest, spelled_alike
from sortal.data.repair.plan import Drop, Located, Merge, OfClass, OfImage, Quarantine, Relabel, Rename
from sortal.data.table import ImageTable

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An entry (number from 0) that cannot be done. `changed`: the image is not the one that was judged."""

    entry: int
    image: str
    what: str
    changed: bool = False


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a plan comes to. Classes of `relabel` are those before merging and renaming; `classes` maps old to new."""

    out: Mapping[str, Quarantine | Drop] = field(default_factory=dict)
    relabel: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.out or self.relabel or self.classes)

    def applied(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A frame of `name` and `class` (null where unknown) with the column `after`: the class, null where it is out,
        and `in`, whether the image is still in the data set."""
        to = pl.DataFrame(
            {"name": list(self.relabel), "to": list(self.relabel.values())}, schema={"name": pl.String, "to": pl.String}
        )
        joined = frame.join(to, on="name", how="left", maintain_order="left")
        stays = ~pl.col("name").is_in(pl.Series(list(self.out), dtype=pl.String).implode())
        label = pl.coalesce("to", "class")
        if self.classes:
            label = label.replace(dict(self.classes))
        return joined.with_columns(stays.alias("in"), label.alias("after")).drop("to")


def named_classes(table: ImageTable) -> pl.DataFrame:
    """`name` and `class` of every row."""
    names = [*table.labels.names, None]
    label = pl.Series("class", names, dtype=pl.String).gather(
        table.frame["label"].replace(-1, len(names) - 1).cast(pl.UInt32)
    )
    return pl.DataFrame({"name": table.name_series(), "class": label})


def resolve(located: Located, table: ImageTable, *, skip_changed: bool = False) -> Changes:
    """The changes of the entries that are to be applied.

    Raises DataError that lists the entries that cannot be done; with `skip_changed` images that are gone or changed
    are left out instead.
    """
    images = [(number, action) for number, action in located.applied() if isinstance(action, OfImage)]
    classes = [(number, action) for number, action in located.applied() if isinstance(action, OfClass)]
    known = dict(named_classes(table).iter_rows())
    places = _places(table, [action.image for _, action in images])
    problems = [*_class_problems(classes, table), *_image_problems(images, known, places, located, classes, table)]
    problems += _changed_content(images, places, {problem.entry for problem in problems})
    problems.sort(key=lambda problem: problem.entry)
    skipped = [problem for problem in problems if problem.changed] if skip_changed else []
    if len(problems) > len(skipped):
        raise _refused(located, problems)
    left_out = {problem.entry for problem in skipped}
    doable = [action for number, action in images if number not in left_out]
    return Changes(
        out={action.image: action for action in doable if isinstance(action, Quarantine | Drop)},
        relabel={
            action.image: tidy(action.to)
            for action in doable
            if isinstance(action, Relabel) and action.to != action.was
        },
        classes=_renamed(action for _, action in classes),
        skipped=tuple(skipped),
    )


def _renamed(actions: Iterator[OfClass]) -> dict[str, str]:
    pairs = [(name, tidy(action.to)) for action in actions for name in _old_names(action)]
    return {name: to for name, to in pairs if name != to}


def _old_names(action: OfClass) -> list[str]:
    return [tidy(name) for name in (action.classes if isinstance(action, Merge) else (action.was,))]


def _places(table: ImageTable, names: list[str]) -> dict[str, Path]:
    """Where the files of the named rows are; rows that readers left out count by their name."""
    named = pl.DataFrame({"name": table.name_series(), "uri": table.frame["uri"]})
    wanted = pl.Series("name", names, dtype=pl.String)
    root = table.root or Path()
    found = {name: root / uri for name, uri in named.filter(pl.col("name").is_in(wanted.implode())).iter_rows()}
    left_out = table.rejected["name"].filter(table.rejected["name"].is_in(wanted.implode()))
    return {**{name: root / name for name in left_out if os.path.lexists(root / name)}, **found}


def _class_problems(actions: list[tuple[int, OfClass]], table: ImageTable) -> Iterator[Problem]:
    names = table.labels.names
    taken: dict[str, int] = {}
    for number, action in actions:
        old, to = _old_names(action), tidy(action.to)
        for name in old:
            if name not in names:
                yield Problem(entry=number, image="", what=f"there is no class {name!r}{_near(name, names)}")
        if isinstance(action, Rename) and to in names and to != old[0]:
            yield Problem(entry=number, image="", what=f"the class {to!r} is there already; merge them instead")
        for name in {*old, to}:
            other = taken.setdefault(spelled_alike(name), number)
            if other != number:
                yield Problem(entry=number, image="", what=f"the class {name!r} is in entry {other + 1} too")
        wrong = unfit(action.to)
        if wrong:
            yield Problem(entry=number, image="", what=f"{action.to!r} cannot be a class: {wrong}")


def _image_problems(
    actions: list[tuple[int, OfImage]],
    known: Mapping[str, str | None],
    places: Mapping[str, Path],
    located: Located,
    classes: list[tuple[int, OfClass]],
    table: ImageTable,
) -> Iterator[Problem]:
    new = {tidy(name) for name in located.plan.new_classes} | {tidy(action.to) for _, action in classes}
    usable = {*table.labels.names, *new}
    first: dict[str, int] = {}
    for number, action in actions:
        name, what = action.image, ""
        other = first.setdefault(name, number)
        if other != number:
            what = f"it is in {located.entry(other)} too: one action an image"
            yield Problem(entry=number, image=name, what=what)
        elif name not in places:
            yield Problem(entry=number, image=name, what="there is no such image", changed=True)
        elif isinstance(action, Relabel):
            yield from _relabel_problems(number, action, known, usable)


def _relabel_problems(
    number: int, action: Relabel, known: Mapping[str, str | None], usable: set[str]
) -> Iterator[Problem]:
    name, to = action.image, tidy(action.to)
    if to not in usable:
        what = f"there is no class {to!r}{_near(to, usable) or '; name it in new_classes if it is new'}"
        yield Problem(entry=number, image=name, what=what)
    elif wrong := unfit(action.to):
        yield Problem(entry=number, image=name, what=f"{action.to!r} cannot be a class: {wrong}")
    elif known.get(name) != tidy(action.was):
        now = f"its class is {known[name]!r}" if known.get(name) else "it has no class"
        yield Problem(entry=number, image=name, what=f"{now}, not {action.was!r}", changed=True)


def _changed_content(
    actions: list[tuple[int, OfImage]], places: Mapping[str, Path], known: set[int]
) -> Iterator[Problem]:
    """Reads the images that the plan knows by content, and no others."""
    asked = [(n, action) for n, action in actions if action.digest and n not in known and action.image in places]
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = pool.map(lambda pair: _digest(places[pair[1].image]), asked)
        for (number, action), digest in zip(asked, found, strict=True):
            if digest != action.digest:
                what = "its content is not what was judged" if digest else "it cannot be read"
                yield Problem(entry=number, image=action.image, what=what, changed=True)


def _digest(path: Path) -> str | None:
    try:
        return content_digest(path)
    except OSError:
        return None


def unfit(name: str) -> str | None:
    """Why `name` cannot be the name of a class, as a folder or in a table."""
    if not tidy(name) or len(name.encode("utf-8", "replace")) > 200:
        return "it is empty or very long"
    if name.startswith(".") or any(not letter.isprintable() for letter in name):
        return "it starts with a dot or holds signs that do not print"
    return None


def _near(name: str, names: set[str] | tuple[str, ...]) -> str:
    close = nearest(name, names)
    return f" ({close})" if close else ""


def _refused(located: Located, problems: list[Problem]) -> DataError:
    lines = [
        f"{located.entry(problem.entry)}: {problem.image + ': ' if problem.image else ''}{problem.what}"
        for problem in problems[:SHOWN]
    ]
    if len(problems) > SHOWN:
        lines.append(f"… {len(problems) - SHOWN} more")
    changed = all(problem.changed for problem in problems)
    hint = "leave them out with --skip-changed, or audit again" if changed else "correct the plan, or set apply: false"
    count = "an entry" if len(problems) == 1 else f"{len(problems)} entries"
    return DataError(
        f"{count} of the plan cannot be done; nothing was changed",
        where=located.where,
        received="\n            ".join(lines),
        hint=hint,
    )
