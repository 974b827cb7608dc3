"""Canonical JSON: the bytes that digests are taken of, for ever."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.core.canonical import canonical, digest, parse, pretty
from sortal.core.errors import InputError

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    leaves | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=8,
)


def test_the_form_is_pinned() -> None:
    data = {"b": [1, 2.5, None, True], "a": '垫圈 \n"', "é": {}}
    assert canonical(data) == '{"a":"垫圈 \\n\\"","b":[1,2.5,null,true],"é":{}}'.encode()
    assert digest(data) == "2bef07cb84d1433657afe85d3dcaf280e7e496c076c4fa6fe0f9bd642787e85e"
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@given(plain)
def test_both_forms_read_back_to_the_same(data: object) -> None:
    assert parse(canonical(data), where="x") == data
    assert parse(pretty(data), where="x") == data


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(), min_size=2))
def test_order_does_not_matter(data: dict[str, int]) -> None:
    assert digest(data) == digest(dict(reversed(data.items())))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_numbers_without_a_value_are_not_written(value: object) -> None:
    for write in (canonical, pretty):
        with pytest.raises(ValueError, match="JSON"):
            write(value)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a": 1, "a": 1}', '[{"a": {"b": 1, "b": 2}}]', "NaN", "[Infinity]", b"\xff", "[" * 10**5, "1" * 5000],
)
def test_what_is_not_strict_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(InputError, match="settings file"):
        parse(text, where="settings file")


def test_the_standard_reader_would_have_let_the_duplicate_pass() -> None:
    assert json.loads('{"a": 1, "a": 2}') == {"a": 2}
