"""Report: one envelope that reads back equal, compares, and renders."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.core.errors import InputError
from sortal.core.report import Finding, Metric, Report, Table

text = st.text(st.characters(codec="utf-8"), max_size=10)
number = st.floats(allow_nan=False, allow_infinity=False)
cell = st.none() | st.booleans() | st.integers() | number | text
metric = st.builds(
    Metric, value=st.none() | number, low=st.none() | number, high=st.none() | number, n=st.none() | st.integers()
)
table = st.integers(0, 3).flatmap(
    lambda width: st.builds(
        Table,
        columns=st.tuples(*[text] * width),
        rows=st.lists(st.tuples(*[cell] * width), max_size=3).map(tuple),
    )
)
finding = st.builds(
    Finding,
    code=text,
    severity=st.sampled_from(["info", "warning", "error"]),
    message=text,
    rows=st.lists(text, max_size=2).map(tuple),
    hint=st.none() | text,
)
report = st.builds(
    Report,
    kind=text,
    subject=text,
    metrics=st.dictionaries(text, metric, max_size=3),
    tables=st.dictionaries(text, table, max_size=2),
    findings=st.lists(finding, max_size=2).map(tuple),
    provenance=st.dictionaries(text, cell, max_size=2),
    body=st.dictionaries(text, st.lists(cell, max_size=2), max_size=2),
)


@given(report)
def test_json_round_trip(value: Report) -> None:
    again = Report.from_json(value.to_json())
    assert again == value
    assert again.to_json() == value.to_json()
    assert value.to_markdown().startswith("# ")


def test_the_golden_report_is_read_and_written_unchanged(golden: Path) -> None:
    raw = (golden / "report.json").read_text(encoding="utf-8")
    value = Report.from_json(raw)
    assert value.to_json() == raw
    assert value.metrics["accuracy"] == Metric(value=0.975, low=0.96, high=0.985, n=400)
    assert value.tables["per_class"].rows[1] == ("垫圈", 200, None, False)
    assert value.findings[0].rows == ("a/b.jpg", "arrays.npz::images#3")
    assert value.body["confusion"] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "raw",
    [
        *("", "[]", "null", b"\xff\xfe"),
        '{"kind": "a"}',
        '{"format": 2, "kind": "a", "subject": "b"}',
        '{"kind": "a", "kind": "a", "subject": ""}',
        '{"kind": "a", "subject": "b", "metrics": {"x": {"value": NaN}}}',
    ],
)
def test_what_is_no_report_is_refused_by_name(raw: str | bytes) -> None:
    with pytest.raises(InputError, match=r"r\.json"):
        Report.from_json(raw, where="r.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_are_finite_or_undefined(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Metric(value=value)
    assert Metric(value=None).value is None


def test_tables_are_rectangular() -> None:
    with pytest.raises(ValueError, match="one cell a column"):
        Table(columns=("a", "b"), rows=((1,),))


def test_comparison_takes_what_both_have() -> None:
    one = Report(
        kind="e", subject="1", metrics={"a": Metric(value=0.5), "b": Metric(value=None), "c": Metric(value=1.0)}
    )
    two = Report(
        kind="e", subject="2", metrics={"a": Metric(value=0.75), "b": Metric(value=1.0), "d": Metric(value=1.0)}
    )
    assert one.compare(two).rows == (("a", 0.5, 0.75, 0.25),)


def test_markdown_escapes_cells_and_says_what_it_cut() -> None:
    rows = tuple((f"a|b\nc{number}", None) for number in range(5))
    value = Report(
        kind="e",
        subject="s",
        metrics={"a": Metric(value=0.98765, low=0.9, high=1.0, n=7), "b": Metric(value=None)},
        tables={"t": Table(columns=("x", "y"), rows=rows)},
        findings=(Finding(code="c", severity="error", message="bad"),),
    )
    lines = value.to_markdown(max_rows=2).splitlines()
    assert "| a | 0.9877 | 0.9 to 1 | 7 |" in lines
    assert "| b | undefined |  |  |" in lines
    assert "| a\\|b c0 |  |" in lines
    assert "… 3 more rows" in lines
    assert "- **error** `c`: bad" in lines
