"""How a command ends: a report for people or for programs, results, and what to type next."""

from __future__ import annotations

import io
import json
import sys

import pytest

from sortal.cli.bar import Bar
from sortal.cli.checkup import checkup
from sortal.cli.output import SHOWN_FINDINGS, amount, finish, listener, summary
from sortal.cli.tables import draw
from sortal.core.progress import Plain
from sortal.core.report import Finding, Metric, Report, Table


def _report(*findings: Finding) -> Report:
    return Report(kind="thing", subject="x", metrics={"accuracy": Metric(value=0.5, n=4)}, findings=findings)


def _finding(severity: str, message: str) -> Finding:
    return Finding.model_validate({"code": "c", "severity": severity, "message": message})


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (Metric(value=None), "undefined"),
        (Metric(value=0.98765), "0.9877"),
        (Metric(value=3, n=7), "3 (n = 7)"),
        (Metric(value=0.5, low=0.25, high=0.75, n=4), "0.5 (0.25 to 0.75, n = 4)"),
    ],
)
def test_numbers_with_their_intervals(metric: Metric, text: str) -> None:
    assert amount(metric) == text


def test_the_worst_findings_come_first() -> None:
    lines = summary(_report(_finding("info", "one"), _finding("error", "two"), _finding("warning", "three")))
    assert lines[1:] == ["error: two", "warning: three", "info: one"]


def test_a_long_list_of_findings_is_cut_and_says_so() -> None:
    lines = summary(_report(*(_finding("warning", str(number)) for number in range(SHOWN_FINDINGS + 3))))
    assert "3 more findings" in lines[-1]


def test_people_get_results_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    finish(_report(), as_json=False, results=["a", "b"], following=["sortal show a"])
    assert capsys.readouterr().out.endswith("Results: a\n         b\nNext:    sortal show a\n")


def test_programs_get_the_report_alone(capsys: pytest.CaptureFixture[str]) -> None:
    finish(_report(), as_json=True, results=["a"], following=["sortal show a"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["kind"] == "thing"
    assert printed.err == ""


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(listener(), Plain)
    listener().say("hello")
    assert capsys.readouterr() == ("", "hello\n")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert isinstance(listener(), Bar)


def test_a_bar_survives_stages_that_overlap_or_stop_early(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    for stage, done, total in (("a", 1, 3), ("b", 1, 2), ("a", 3, 3), ("b", 2, 2), ("c", 0, 0)):
        bar.progress(stage, done, total)
    bar.say("the [end]")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "the [end]" in printed.err


def test_tables_show_every_cell_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (("[bold]x", 0.123456, None), ("螺丝", True, "a" * 40))
    draw("things", Table(columns=("name", "value", "more"), rows=rows))
    out = capsys.readouterr().out
    for text in ("things", "[bold]x", "0.1235", "螺丝", "yes", "a" * 40):
        assert text in out


def test_the_checkup_finds_a_zoo_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTAL_ZOO", "/nowhere/zoo")
    report = checkup()
    found = {finding.code: finding for finding in report.findings}
    assert found["zoo"].severity == "error"
    assert "/nowhere/zoo" in found["zoo"].message
    assert {row[0] for row in report.tables["packages"].rows} >= {"numpy", "torch", "onnxruntime"}
