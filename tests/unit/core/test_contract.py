"""Contract: plain data with bounds, and errors that say which key is wrong and what it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from sortal.core.contract import Contract, check_classes, load_contract
from sortal.core.errors import RecipeError


def test_every_clause_is_optional_and_survives_json() -> None:
    full = Contract(
        max_error=0.01,
        min_coverage=0.9,
        recall={"crack": 0.98},
        costs={"crack": {"good": 100.0}},
        max_cost=2.5,
        prevalence={"crack": 0.02},
        unit="part",
        max_latency_ms=33,
        max_size_mb=8,
        confidence=0.9,
    )
    for contract in (Contract(), full):
        assert Contract.model_validate_json(contract.model_dump_json()) == contract
    assert "max_cost" not in Contract().model_dump(), "older versions read contracts that do not use it"
    assert full.promises
    assert not Contract(confidence=0.9, prevalence={"crack": 0.1}).promises
    assert full.classes() == ["crack", "good"]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_error": 1.5},
        {"min_coverage": -0.1},
        {"recall": {"a": 2}},
        {"costs": {"a": {"b": -1}}},
        {"max_cost": 1.0},
        {"max_cost": -1.0, "costs": {"a": {"b": 1}}},
        {"max_cost": float("inf"), "costs": {"a": {"b": 1}}},
        {"prevalence": {"a": 0.6, "b": 0.6}},
        {"unit": " "},
        {"max_latency_ms": 0},
        {"confidence": 0.5},
        {"confidence": 1.0},
        {"max_eror": 0.1},
        {"max_error": float("nan")},
    ],
)
def test_clauses_without_a_meaning_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Contract.model_validate(fields)


def test_prevalences_may_be_exactly_one_together() -> None:
    assert Contract(prevalence={f"c{number}": 0.1 for number in range(10)}).prevalence["c3"] == 0.1


def test_a_file_becomes_a_contract(tmp_path: Path) -> None:
    file = tmp_path / "contract.yaml"
    file.write_text("max_error: 0.01\nrecall: {裂纹: 0.98}\nmax_latency_ms: 33\n", encoding="utf-8")
    assert load_contract(file) == Contract(max_error=0.01, recall={"裂纹": 0.98}, max_latency_ms=33)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_eror: 0.1", ["unknown key 'max_eror'", "did you mean max_error"]),
        ("max_error: 3", ["max_error: ", "received: 3"]),
        ("recall: {crack: much}", ["recall.crack", "'much'"]),
        ("max_cost: 2", ["max_cost needs costs"]),
        ("prevalence: {a: 0.7, b: 0.7}", ["1.4 together"]),
        ("- max_error", ["this is no contract", "max_error: 0.01"]),
        ("", ["this is no contract"]),
        ("max_error: [", ["cannot read this contract"]),
    ],
)
def test_a_wrong_file_says_what_is_wrong_with_it(tmp_path: Path, text: str, said: list[str]) -> None:
    file = tmp_path / "contract.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_contract(file)
    assert str(file) in str(caught.value)
    for words in said:
        assert words in str(caught.value)


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text("max_error: 0.1")
    with pytest.raises(RecipeError, match=r"did you mean contract\.yaml"):
        load_contract(tmp_path / "contrakt.yaml")


def test_classes_that_nobody_knows_are_named() -> None:
    with pytest.raises(RecipeError, match="did you mean crack"):
        check_classes(Contract(costs={"ok": {"crak": 1.0}}), ["crack", "ok"], where="contract.yaml")
    check_classes(Contract(recall={"crack": 0.9}), ["crack", "ok"], where="contract.yaml")
