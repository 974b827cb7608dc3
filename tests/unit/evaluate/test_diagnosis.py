"""A run's faults are named with evidence and settings that a recipe takes; healthy runs are left in peace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sortal.core.recipe import load_recipe
from sortal.core.report import Report
from sortal.evaluate.diagnose.diagnosis import diagnose
from sortal.evaluate.diagnose.traces import Traces

PLAN: dict[str, Any] = {"stages": ["gradient"], "size": [224, 224], "epochs": 10, "lr": 0.001, "workers": 2}


def rows(train: Sequence[float | None], val: Sequence[float], **more: float) -> list[dict[str, Any]]:
    return [
        {"epoch": number, "train_loss": one, "val_loss": other, "val_accuracy": 0.8, "grad_norm": 1.0, **more}
        for number, (one, other) in enumerate(zip(train, val, strict=True), start=1)
    ]


def diagnosed(history: list[dict[str, Any]], settings: dict[str, Any] | None = None, **more: Any) -> Report:
    traces = {
        "history": history,
        "recipe": load_recipe(None, settings or {}),
        "plan": PLAN,
        "train_counts": {"a": 50, "b": 50, "c": 50},
        "metrics": {},
        "source": "photos",
        "stopped": "done",
    }
    report = diagnose(Traces(**{**traces, **more}), subject="photos-1")
    for _, setting in report.tables["remedies"].rows if "remedies" in report.tables else ():
        key, _, value = str(setting).partition("=")
        load_recipe(None, [f"{key}={value}"])  # a setting that no recipe takes would be no help
    return report


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


HEALTHY = rows([1.0, 0.6, 0.4, 0.3, 0.25, 0.24], [1.0, 0.65, 0.45, 0.34, 0.31, 0.31])


def test_a_healthy_run_is_called_so() -> None:
    report = diagnosed(HEALTHY)
    assert codes(report) == []
    assert "healthy" in report.body["summary"][0]
    assert report.body["command"] is None


def test_memorizing_is_seen_in_the_rise_of_the_validation_loss() -> None:
    report = diagnosed(rows([1.0, 0.5, 0.2, 0.1, 0.05, 0.02], [1.0, 0.7, 0.6, 0.7, 0.9, 1.3]), {"model.dropout": 0})
    assert codes(report) == ["overfitting"]
    message = report.findings[0].message
    assert "1.30" in message
    settings = [row[1] for row in report.tables["remedies"].rows]
    assert "model.dropout=0.3" in settings
    assert "train.epochs=3" in settings
    assert report.body["command"].startswith("sortal train photos ")


def test_a_network_that_stays_at_guessing_underfits() -> None:
    report = diagnosed([{**row, "val_accuracy": 0.35} for row in rows([1.1, 1.09, 1.08, 1.08], [1.1, 1.1, 1.1, 1.1])])
    assert codes(report) == ["underfitting"]
    assert "1.08" in report.findings[0].message
    assert "1.10" in report.findings[0].message
    assert ("underfitting", "train.epochs=20") in report.tables["remedies"].rows


@pytest.mark.parametrize(
    ("history", "more"),
    [
        (rows([1.0, None, None], [1.0, 1.2, 1.4]), {}),
        (rows([1.0, 90.0, 40.0], [1.0, 80.0, 30.0]), {}),
        (
            HEALTHY[:1],
            {"finished": False, "ended": "optim.lr: training diverged: the gradient is not finite at step 9"},
        ),
    ],
)
def test_divergence_is_an_error_and_asks_for_smaller_steps(history: list[dict[str, Any]], more: dict[str, Any]) -> None:
    report = diagnosed(history, {"optim.lr": 1000.0}, **more)
    assert codes(report)[0] == "diverged"
    assert report.findings[0].severity == "error"
    assert "optim.lr=auto" in [row[1] for row in report.tables["remedies"].rows]
    automatic = diagnosed(history, **more)
    assert "optim.lr=0.0001" in [row[1] for row in automatic.tables["remedies"].rows]


def test_exploding_and_vanishing_gradients() -> None:
    spiky = [{**row, "grad_norm": norm} for row, norm in zip(HEALTHY, [1, 1, 2, 1, 400, 1], strict=True)]
    assert codes(diagnosed(spiky)) == ["gradients_explode"]
    assert "400" in diagnosed(spiky).findings[0].message
    dead = [{**row, "gradient_norms": {"stem": 1e-9, "stage": 1.0, "head": 1.0}} for row in HEALTHY]
    report = diagnosed(dead)
    assert codes(report) == ["gradients_vanish"]
    assert "stem" in report.findings[0].message
    lost = [{**row, "gradient_norms": {"stem": None, "stage": 1.0, "head": 1.0}} for row in HEALTHY]
    assert codes(diagnosed(lost)) == ["gradients_explode"]


def test_a_loss_that_still_falls_was_cut_too_short() -> None:
    report = diagnosed(rows([1.0, 0.8, 0.6, 0.45], [1.0, 0.8, 0.6, 0.5]))
    assert codes(report) == ["too_short"]
    assert report.body["command"] == "sortal train photos train.epochs=20"
    budget = diagnosed(HEALTHY, {"train.time": 60}, stopped="time")
    assert ("too_short", "train.time=120") in budget.tables["remedies"].rows
    assert codes(diagnosed(rows([1.0, 0.8, 0.6, 0.45], [1.0, 0.8, 0.6, 0.5]), finished=False)) == ["unfinished"]


def test_unequal_classes_without_a_remedy() -> None:
    counts = {"a": 400, "b": 20, "c": 40}
    report = diagnosed(HEALTHY, train_counts=counts)
    assert codes(report) == ["class_imbalance"]
    assert "400" in report.findings[0].message
    assert "20 times fewer" in report.findings[0].message
    assert codes(diagnosed(HEALTHY, {"loss.imbalance": "auto"}, train_counts=counts)) == []


def test_latency_above_the_contract_names_a_smaller_input() -> None:
    report = diagnosed(HEALTHY, latency_ms=80.0, limit_ms=20.0)
    assert codes(report) == ["latency_above_contract"]
    assert ("latency_above_contract", "input.size=96") in report.tables["remedies"].rows
    assert codes(diagnosed(HEALTHY, latency_ms=10.0, limit_ms=20.0)) == []


def test_waiting_for_images() -> None:
    report = diagnosed([{**row, "data_s": 6.0, "epoch_s": 10.0} for row in HEALTHY])
    assert codes(report) == ["waits_for_images"]
    assert "60%" in report.findings[0].message
