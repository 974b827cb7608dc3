"""`sortal targets` and `sortal export --to auto`, `--for`."""

from __future__ import annotations

import shutil
from pathlib import Path

from worlds import World, refused, sortal


def test_targets_are_listed(tmp_path: Path) -> None:
    done = sortal(tmp_path, "targets")
    assert done.code == 0, done.err
    assert "tensorrt-engine" in done.out
    assert "sortal export runs/photos-1 --to auto" in done.out
    report = sortal(tmp_path, "targets", "--json").report
    assert [row[0] for row in report["tables"]["scenarios"]["rows"]][:2] == ["auto", "any"]


def test_export_for_a_kind_of_machine(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run, tmp_path / "photos-1")
    done = sortal(tmp_path, "export", "photos-1", "--for", "browser", "--count", "6")
    assert done.code == 0, done.err
    assert "browser: onnx-uint8, because" in done.err
    assert (tmp_path / "photos-1" / "bundle" / "artifacts" / "onnx-uint8" / "model.onnx").is_file()
    again = sortal(tmp_path, "export", "photos-1", "--for", "any,browser")
    assert again.code == 0, again.err
    assert "any: onnx, because" in again.err
    assert again.err.count("it is there already") == 2
    refused(sortal(tmp_path, "export", "photos-1", "--for", "browsr"), "did you mean browser")
    refused(sortal(tmp_path, "export", "photos-1"), "no artifact is named")
