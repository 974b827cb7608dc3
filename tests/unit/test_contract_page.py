"""The table of sample sizes in docs/contract.md is what the function computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sortal.core.contract import CLAUSES, Contract, build_contract
from sortal.evaluate.certify.needed import images_needed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "contract.md"
ROW = re.compile(r"^\| ([\d.]+) % \(error ≤ [\d.]+ %\) \|(.+)\|$", re.MULTILINE)


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_sample_sizes_are_right(text: str) -> None:
    rows = ROW.findall(text)
    assert len(rows) == 6
    for share, cells in rows:
        sizes = [int(cell.strip().replace(",", "")) for cell in cells.split("|")]
        assert sizes == [images_needed(float(share) / 100, misses) for misses in (0, 1, 2, 5, 10)], share


def test_the_example_is_a_contract_and_every_clause_is_explained(text: str) -> None:
    import yaml

    example = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert set(example) == set(Contract.model_fields)
    build_contract(example, where="docs")
    assert all(f"| `{name}" in text for name in CLAUSES)
