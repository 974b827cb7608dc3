from __future__ import annotations

from pathlib import Path

import pytest

from gratings import gratings, recipe
from sortal import start
from sortal.core.progress import Silent
from sortal.data.scan import scan
from sortal.train import batch_finder


def test_the_largest_batch_is_what_memory_allows_and_the_rate_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = scan(gratings(tmp_path / "g.npz", classes=3, train=30))
    settings = ("model=sortal_tiny", "model.arguments={width: 0.15, depth: 0.5}")
    batches = []
    for free_bytes in (60 << 20, 600 << 20):
        monkeypatch.setattr(batch_finder, "_available_bytes", lambda free=free_bytes: free)
        begun = start.start_of(recipe(*settings, "train.batch=largest"), table, Silent())
        batches.append(begun.plan)
    assert batches[0].batch * 4 <= batches[1].batch
    assert batches[1].lr == pytest.approx(2e-3 * (batches[1].batch / 64) ** 0.5, rel=0.01)
    asked = start.start_of(recipe(*settings, "train.batch=8"), table, Silent()).plan
    assert asked.batch == 8
