"""The ledger of hold-outs: a use is recognized by content, in part too; damage is passed over."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sortal.core.holdouts import earlier_uses, record_use


def digests(*names: int) -> list[str]:
    return [hashlib.sha256(str(name).encode()).hexdigest() for name in names]


def test_the_same_and_overlapping_images_are_recognized(tmp_path: Path) -> None:
    assert earlier_uses(tmp_path, digests(1, 2, 3)) == []
    record_use(tmp_path, digests(1, 2, 3), bundle="b1", subject="holdout/")
    record_use(tmp_path, [*digests(3, 2, 1), None], bundle="b2", subject="renamed/")
    assert [(use.bundle, use.shared, use.images) for use in earlier_uses(tmp_path, digests(2, 3, 4))] == [
        ("b1", 2, 3),
        ("b2", 2, 3),
    ]
    assert earlier_uses(tmp_path, digests(4, 5)) == []
    assert len(list((tmp_path / "holdouts" / "images").iterdir())) == 1


def test_damage_is_passed_over_and_lines_are_kept(tmp_path: Path) -> None:
    record_use(tmp_path, digests(1), bundle="b1", subject="a")
    with (tmp_path / "holdouts" / "uses.jsonl").open("ab") as file:
        file.write(b'\n{"time": "cut o')
    record_use(tmp_path, digests(1), bundle="b2", subject="b")
    assert [use.bundle for use in earlier_uses(tmp_path, digests(1))] == ["b1", "b2"]
    for stored in (tmp_path / "holdouts" / "images").iterdir():
        stored.write_bytes(b"no numbers")
    assert earlier_uses(tmp_path, digests(1)) == []
