"""What commands print: sentences and progress on stderr, results on stdout, one JSON report with `--json`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sortal.core.progress import Listener, Plain
from sortal.core.report import Metric, Report

SHOWN_FINDINGS = 12


def listener() -> Listener:
    """Progress for this terminal: a live bar where stderr is one, plain lines otherwise."""
    if sys.stderr.isatty():
        from sortal.cli.bar import Bar

        return Bar()
    return Plain(sys.stderr)


def finish(report: Report, *, as_json: bool, results: Sequence[Path | str], following: Sequence[str]) -> None:
    """End a command: its report (or its JSON alone), where the results are, and what to type next."""
    if as_json:
        sys.stdout.write(report.to_json())
        return
    for line in summary(report):
        print(line)
    if results:
        print("Results: " + "\n         ".join(map(str, results)))
    if following:
        print("Next:    " + "\n         ".join(following))


def summary(report: Report) -> list[str]:
    """The report in a few lines: an evaluation in sentences, other kinds as numbers; then findings, the worst first."""
    if report.kind == "evaluation":
        from sortal.evaluate.summary import evaluation_summary

        lines = evaluation_summary(report)
    elif report.kind in ("certificate", "rollout"):
        lines = [str(sentence) for sentence in report.body["summary"]]
    else:
        width = max((len(name) for name in report.metrics), default=0)
        lines = [f"{name:<{width}}  {amount(metric)}" for name, metric in report.metrics.items()]
    order = {"error": 0, "warning": 1, "info": 2}
    found = sorted(report.findings, key=lambda finding: order[finding.severity])
    found = [finding for finding in found if finding.message not in lines]
    lines += [f"{finding.severity}: {finding.message}" for finding in found[:SHOWN_FINDINGS]]
    if len(found) > SHOWN_FINDINGS:
        lines.append(f"… {len(found) - SHOWN_FINDINGS} more findings in the report")
    return lines


def amount(metric: Metric) -> str:
    """`0.9812 (0.9634 to 0.9905, n = 408)`."""
    if metric.value is None:
        return "undefined"
    inside = [] if metric.low is None or metric.high is None else [f"{metric.low:.4g} to {metric.high:.4g}"]
    inside += [] if metric.n is None else [f"n = {metric.n}"]
    return f"{metric.value:.4g}" + (f" ({', '.join(inside)})" if inside else "")
