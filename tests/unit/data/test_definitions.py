"""Class definitions kept beside the data: read, checked against the classes, written back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.data.definitions import (
    ClassDefinition,
    Definitions,
    Examples,
    check_definitions,
    find_definitions,
    load_definitions,
    save_definitions,
)

LABELS = LabelSet(names=("M6 bolt - blackened", "M6 bolt - zinc-plated", "螺母", "light", "medium", "severe"))
DEFINED = Definitions(
    required_role="expert",
    classes={
        "M6 bolt - zinc-plated": ClassDefinition(
            definition="Bright silver surface: no blue, no black.",
            examples=Examples(positive=("bolts/001.jpg",), negative=("bolts/117.jpg",)),
            not_to_be_confused_with=("M6 bolt - blackened",),
        ),
        "螺母": ClassDefinition(definition="六角螺母"),
        "severe": ClassDefinition(grade=3),
        "light": ClassDefinition(grade=1),
        "medium": ClassDefinition(grade=2),
    },
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    save_definitions(DEFINED, tmp_path / "classes.yaml")
    assert find_definitions(tmp_path) == DEFINED
    assert "螺母" in (tmp_path / "classes.yaml").read_text(encoding="utf-8")
    check_definitions(DEFINED, LABELS)


def test_confusions_are_pairs_and_grades_an_order() -> None:
    assert DEFINED.confusions() == {frozenset({"M6 bolt - zinc-plated", "M6 bolt - blackened"})}
    assert DEFINED.grades() == ("light", "medium", "severe")


def test_where_there_is_no_file_there_are_none(tmp_path: Path) -> None:
    assert find_definitions(tmp_path) is None
    assert find_definitions(None) is None
    (tmp_path / "classes.yaml").write_text("")
    assert find_definitions(tmp_path) == Definitions()


@pytest.mark.parametrize(
    ("definition", "received", "hint"),
    [
        ({"M6 bolt - zinc plated": ClassDefinition()}, "M6 bolt - zinc plated", "M6 bolt - zinc-plated"),
        ({"light": ClassDefinition(not_to_be_confused_with=("mediun",))}, "mediun", "medium"),
        ({"light": ClassDefinition(not_to_be_confused_with=("light",))}, "light", ""),
    ],
)
def test_unknown_classes_are_named_with_the_nearest(
    definition: dict[str, ClassDefinition], received: str, hint: str
) -> None:
    with pytest.raises(DataError) as caught:
        check_definitions(Definitions(classes=definition), LABELS)
    assert caught.value.received == received
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes: {a: {definitoin: x}}", "definition"),
        ("classes: [a, b]", "classes"),
        ("- a", "not valid"),
        ("a: [", "cannot read"),
        ("classes: &x {a: {definition: y}}\nb: *x", "aliases"),
        ("format: 2", "format"),
        ("classes: {a: {grade: light}}", "grade"),
    ],
)
def test_damaged_files_are_refused_with_their_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_definitions(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
