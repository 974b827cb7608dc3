"""Item identifiers: what GS1 and MH10 texts hold, and what is wrong with those that are not valid."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.data.identifiers import as_date, check_digit, parse

GTIN = "09506000134352"
"""From the examples of the GS1 General Specifications."""


@pytest.mark.parametrize(
    "text",
    [
        f"(01){GTIN}(17)261231(10)LOT 7(21)A/1".replace("LOT 7", "LOT-7"),
        f"]C101{GTIN}1726123110LOT-7\x1d21A/1",
        f"]d201{GTIN}1726123110LOT-7<GS>21A/1",
        f"\x1d01{GTIN}1726123110LOT-7\x1d21A/1\x1d",
        f"01{GTIN}1726123110LOT-7\x1d21A/1",
    ],
)
def test_every_form_of_one_item_says_the_same(text: str) -> None:
    found = parse(text)
    assert found.valid
    assert found.kind == "gs1"
    assert [(element.code, element.value) for element in found.elements] == [
        ("01", GTIN), ("17", "261231"), ("10", "LOT-7"), ("21", "A/1"),
    ]  # fmt: skip
    assert (found.get("GTIN"), found.get("lot"), found.get("serial"), found.get("expiry")) == (
        GTIN, "LOT-7", "A/1", "261231",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["96385074", "036000291452", "4006381333931", GTIN])
def test_digits_alone_are_an_article_number(text: str) -> None:
    found = parse(text)
    assert found.valid
    assert found.get("GTIN") == text.zfill(14)


@pytest.mark.parametrize(
    ("text", "fault", "words"),
    [
        ("(01)09506000134353", "check_digit", "the check digit is 3, it should be 2"),
        ("4006381333930", "check_digit", "it should be 1"),
        ("(00)006141411234567891", "check_digit", "SSCC"),
        ("(01)0950600013435", "length", "13 characters where 14 belong"),
        ("(01)0950600013435X", "characters", "only digits"),
        ("(10)" + "x" * 21, "length", "21 characters where 1 to 20 belong"),
        ("(10)größe", "characters", "does not allow"),
        ("(17)260230", "date", "no such day"),
        ("(17)261300", "date", "no such day"),
        ("(05)1", "unknown", "no Application Identifier"),
        ("]C1051", "unknown", "no Application Identifier"),
        ("part 7", "unknown", "not a form"),
        ("", "unknown", "not a form"),
        ("[)>\x1e05\x1dX\x1e\x04", "unknown", "format 06"),
        ("[)>\x1e06\x1d!!\x1e\x04", "unknown", "no Data Identifier"),
    ],
)
def test_what_is_wrong_is_said_in_words(text: str, fault: str, words: str) -> None:
    found = parse(text)
    assert not found.valid
    assert found.problems[0].fault == fault
    assert words in found.problems[0].message


def test_a_bracket_inside_a_value_stays_there() -> None:
    found = parse("(10)A(5)B(21)7")
    assert [(element.code, element.value) for element in found.elements] == [("10", "A(5)B"), ("21", "7")]


def test_day_00_is_the_last_of_the_month() -> None:
    assert parse("(17)280200").valid
    assert as_date("280200", year=2026) == date(2028, 2, 29)
    assert as_date("261200", year=2026) == date(2026, 12, 31)


@pytest.mark.parametrize(
    ("value", "day"), [("760101", (2076, 1, 1)), ("770101", (1977, 1, 1)), ("260101", (2026, 1, 1))]
)
def test_years_are_those_within_half_a_century(value: str, day: tuple[int, int, int]) -> None:
    assert as_date(value, year=2026) == date(*day)


def test_mh10_messages_and_single_fields() -> None:
    found = parse("[)>\x1e06\x1d1PX-100\x1d1TLOT9\x1dS0042\x1dQ5\x1e\x04")
    assert found.valid
    assert found.kind == "mh10"
    assert (found.get("supplier part"), found.get("lot"), found.get("serial"), found.get("quantity")) == (
        "X-100", "LOT9", "0042", "5",
    )  # fmt: skip
    assert parse("1TLOT9").get("lot") == "LOT9"


@given(st.text(alphabet="0123456789", min_size=7, max_size=17), st.integers(1, 9), st.data())
def test_any_one_wrong_digit_is_noticed(digits: str, by: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(digits) - 1))
    wrong = digits[:place] + str((int(digits[place]) + by) % 10) + digits[place + 1 :]
    assert check_digit(wrong) != check_digit(digits)


@given(st.text())
def test_nothing_makes_it_stumble(text: str) -> None:
    for form in (text, f"({text}", f"]C1{text}", f"[)>{text}", f"(10){text}"):
        found = parse(form)
        assert found.valid or found.problems


def test_only_digits_have_a_check_digit() -> None:
    with pytest.raises(ValueError, match="only digits"):
        check_digit("12a")
    with pytest.raises(ValueError, match="six digits"):
        as_date("2612", year=2026)
