"""Every kind of source through the whole way: from files as people have them to a run with a report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from worlds import COLORS, TINY, class_folders, photo, sortal


def _counts(run: Path) -> dict[str, int]:
    splits = pl.read_csv(run / "split.csv")["split"].value_counts()
    return dict(splits.iter_rows())


def _notes(run: Path) -> str:
    return " ".join(json.loads((run / "plan.json").read_text())["notes"])


def test_an_archive_of_split_folders(tmp_path: Path) -> None:
    for seed, (split, count) in enumerate((("train", 5), ("valid", 2), ("test", 2))):
        class_folders(tmp_path / "set" / split, dict.fromkeys(COLORS, count), seed=seed)
    (tmp_path / "set" / "__MACOSX").mkdir()
    (tmp_path / "set" / "train" / ".DS_Store").write_bytes(b"x")
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "set")
    done = sortal(tmp_path, "train", "photos.zip", *TINY, "train.epochs=2", "--json")
    assert done.code == 0, done.err
    assert done.report["metrics"]["accuracy"]["n"] == 6
    assert _counts(tmp_path / "runs" / "photos-1") == {"train": 15, "val": 6, "test": 6}


def test_a_table_with_splits_and_groups_of_elongated_images(tmp_path: Path) -> None:
    class_folders(tmp_path / "files", dict.fromkeys(COLORS, 12), seed=3, size=(20, 60))
    rows = [
        {
            "file": f"files/{color}/{number:03d}.png",
            "kind": color,
            "part": f"{color}-{number // 2}",
            "set": "test" if number < 2 else None,
        }
        for color in COLORS
        for number in range(12)
    ]
    pl.DataFrame(rows).rename({"file": "path", "set": "split"}).write_csv(tmp_path / "list.csv")
    settings = ("data.label=kind", "data.group=part", "train.epochs=2")
    done = sortal(tmp_path, "train", "list.csv", *TINY, *settings, "--json")
    assert done.code == 0, done.err
    run = tmp_path / "runs" / "list-1"
    assert _counts(run) == {"train": 24, "val": 6, "test": 6}
    assert "group_across_splits" not in done.codes
    assert json.loads((run / "bundle" / "preprocess.json").read_text())["resize"] == "pad"
    assert "elongated" in _notes(run)
    assert "elongated" in done.err
    again = sortal(tmp_path, "evaluate", "runs/list-1", "list.csv", "--json")
    assert again.report["provenance"]["split"] == "test"
    assert again.report["metrics"]["accuracy"] == done.report["metrics"]["accuracy"]


def test_arrays(tmp_path: Path) -> None:
    random, arrays = np.random.default_rng(5), {}
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = np.stack([photo(color, random) for color in COLORS.values() for _ in range(count)])
        arrays[f"{split}_labels"] = np.repeat(np.arange(3, dtype=np.uint8), count)[:, None]
    np.savez(tmp_path / "set.npz", **arrays)
    done = sortal(tmp_path, "train", "set.npz", *TINY, "train.epochs=2", "--json")
    assert done.code == 0, done.err
    assert done.report["metrics"]["accuracy"]["n"] == 6
    assert done.report["provenance"]["split"] == "test"
    answered = sortal(tmp_path, "predict", "runs/set-1", "set.npz", "--sort-into", "sorted", "--json").report
    assert answered["metrics"]["images"]["value"] == 30
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 30


def test_lists_with_a_taxonomy(tmp_path: Path) -> None:
    """Fine and coarse classes as the Grocery Store data set has them, without a test list."""
    class_folders(tmp_path / "train", dict.fromkeys(COLORS, 6), seed=6)
    class_folders(tmp_path / "val", dict.fromkeys(COLORS, 2), seed=7)
    coarse = {"blue": ("cold", 0), "green": ("cold", 0), "red": ("warm", 1)}
    for split, count in (("train", 6), ("val", 2)):
        lines = [
            f"{split}/{name}/{number:03d}.png, {fine}, {coarse[name][1]}"
            for fine, name in enumerate(COLORS)
            for number in range(count)
        ]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    rows = [f"{name},{fine},{coarse[name][0]},{coarse[name][1]}" for fine, name in enumerate(COLORS)]
    header = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)"
    (tmp_path / "classes.csv").write_text("\n".join([header, *rows]) + "\n")
    done = sortal(tmp_path, "train", ".", *TINY, "data.split.test=0", "train.epochs=2", "--json")
    assert done.code == 0, done.err
    assert done.report["metrics"]["coarse_accuracy"]["n"] == 6
    assert done.report["provenance"]["split"] == "val"
    [finding] = [found for found in done.report["findings"] if found["code"] == "no_test_split"]
    assert "val images" in finding["message"]
    [run] = (tmp_path / "runs").iterdir()
    assert not (run / "test_reads.jsonl").exists()


def test_gray_images_of_sixteen_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    for level, name in ((9_000, "dark"), (30_000, "bright")):
        (tmp_path / "gray" / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.clip(level + random.normal(0, 500, (24, 24)), 0, 65535).astype(np.uint16)
            Image.fromarray(pixels).save(tmp_path / "gray" / name / f"{number}.png")
    settings = ("input.depth=16", "input.channels=1")
    done = sortal(tmp_path, "train", "gray", *TINY, *settings, "--json")
    assert done.code == 0, done.err
    assert done.report["metrics"]["accuracy"]["value"] == 1.0
    spec = json.loads((tmp_path / "runs" / "gray-1" / "bundle" / "preprocess.json").read_text())
    assert (spec["channels"], spec["depth"]) == (1, 16)
    assert sortal(tmp_path, "evaluate", "runs/gray-1", "gray", "--engine", "openvino").code == 0
