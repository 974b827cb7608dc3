"""LabelSet: an index means the same class everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet, label_set

name = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: text == text.strip())
names = st.lists(name, min_size=1, max_size=8, unique=True)


@given(names, st.data())
def test_json_round_trip_keeps_everything(given_names: list[str], data: st.DataObject) -> None:
    parents = data.draw(st.none() | st.lists(name, min_size=len(given_names), max_size=len(given_names)))
    labels = LabelSet(names=tuple(given_names), parents=parents and tuple(parents), aliases={"x y": given_names[0]})
    again = LabelSet.model_validate_json(labels.model_dump_json())
    assert again == labels
    assert again.digest == labels.digest
    assert [labels.index(one) for one in given_names] == list(range(len(labels)))


@given(names.filter(lambda found: len(found) > 1))
def test_order_and_taxonomy_are_part_of_the_digest_and_display_is_not(given_names: list[str]) -> None:
    labels = LabelSet(names=tuple(given_names))
    assert LabelSet(names=tuple(reversed(given_names))).digest != labels.digest
    assert LabelSet(names=labels.names, parents=labels.names).digest != labels.digest
    assert LabelSet(names=labels.names, display={given_names[0]: "Long"}).digest == labels.digest


def test_the_digest_is_pinned() -> None:
    labels = LabelSet(names=("nut", "Schraube", "垫圈"), parents=("thread", "thread", "flat"))
    assert labels.digest == "f0323c8c010dc3907513fb36cbfeb889b8006b3d59317a60d5a484df15d9aa04"


@pytest.mark.parametrize(
    "fields",
    [
        {"names": ("a", "b", "a")},
        {"names": ("a", "")},
        {"names": ("a", " b")},
        {"names": ("a", "b"), "parents": ("x",)},
        {"names": ("a",), "aliases": {"x": "absent"}},
        {"names": ("a",), "unknown": 1},
        {"names": ("a",), "format": 2},
    ],
)
def test_sets_that_contradict_themselves_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LabelSet.model_validate(fields)


def test_names_aliases_and_unknown_ones() -> None:
    labels = LabelSet(names=("screw", "nut"), aliases={"Schraube": "screw", "nut": "screw"})
    assert labels.index("Schraube") == 0
    assert labels.index("nut") == 1  # a name wins over an alias that is spelt the same
    with pytest.raises(DataError, match=r"unknown class[\s\S]*did you mean screw"):
        labels.index("screws")


def test_the_coarse_level() -> None:
    labels = label_set(["a", "b", "c"], {"a": "y", "b": "x", "c": "y"})
    coarse = labels.coarse()
    assert coarse is not None
    assert coarse.names == ("y", "x")
    assert labels.coarse_index() == [0, 1, 0]
    assert LabelSet(names=("a",)).coarse() is None
    assert LabelSet(names=("a",)).coarse_index() is None


def test_mapping_from_an_older_set() -> None:
    new = LabelSet(names=("b", "a", "new"), aliases={"old a": "a"})
    assert new.mapping_from(LabelSet(names=("old a", "b", "gone"))) == [1, 0, -1]


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        LabelSet(names=("a",)).names = ("b",)  # type: ignore[misc]
