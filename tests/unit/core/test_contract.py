"""Contract: plain data with bounds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sortal.core.contract import Contract


def test_every_clause_is_optional_and_survives_json() -> None:
    full = Contract(
        max_error=0.01,
        min_coverage=0.9,
        recall={"crack": 0.98},
        costs={"crack": {"good": 100.0}},
        prevalence={"crack": 0.02},
        unit="part",
        max_latency_ms=33,
        max_size_mb=8,
        confidence=0.9,
    )
    for contract in (Contract(), full):
        assert Contract.model_validate_json(contract.model_dump_json()) == contract


@pytest.mark.parametrize(
    "fields",
    [
        {"max_error": 1.5},
        {"min_coverage": -0.1},
        {"recall": {"a": 2}},
        {"costs": {"a": {"b": -1}}},
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
