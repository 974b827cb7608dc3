"""From training to answers: a run knows strangers, says so in files, and keeps a reference of its images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sortal.core.bundle import open_bundle
from sortal.core.reference import read_reference
from sortal.evaluate.measure.ranking import roc_auc
from worlds import COLORS, TINY, class_folders, sortal


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("strangers")
    class_folders(home / "photos", dict.fromkeys(COLORS, 60), seed=1)
    class_folders(home / "other", dict.fromkeys(COLORS, 10), seed=2)
    random = np.random.default_rng(3)
    strange = home / "other" / "stripes"
    strange.mkdir()
    for number in range(30):
        rows = np.where(np.arange(32)[:, None, None] // 4 % 2, 250, 5) * np.ones((32, 32, 3))
        Image.fromarray(np.clip(rows + random.normal(0, 10, rows.shape), 0, 255).astype(np.uint8)).save(
            strange / f"{number:02d}.png"
        )
    done = sortal(home, "train", "photos", *TINY, "seed=7", "data.split.val=0.25", "evaluate.unknown_rate=0.05")
    assert done.code == 0, done.err
    assert "unknown images are told by" in done.err
    return home / "runs" / "photos-1"


def test_strangers_score_higher_than_images_like_those_of_the_training(run: Path, tmp_path: Path) -> None:
    done = sortal(run.parents[1], "predict", run, "other", "--out", tmp_path / "a.csv", "--sets", "0.9")
    assert done.code == 0, done.err
    answers = pl.read_csv(tmp_path / "a.csv")
    strange = answers["image"].str.contains("stripes").to_numpy()
    own, _ = roc_auc(answers["unknown_score"].to_numpy(), strange)
    baseline, _ = roc_auc(1.0 - answers["probability"].to_numpy(), strange)
    assert own > 0.95
    assert own >= baseline
    unknown = answers["unknown"].to_numpy()
    assert unknown[strange].mean() > 0.8
    assert unknown[~strange].mean() < 0.3
    assert answers.filter(pl.col("unknown"))["abstained"].all()
    assert set("|".join(answers["set"].fill_null("").to_list()).split("|")) <= {*COLORS, ""}


def test_an_evaluation_counts_known_images_called_unknown_and_strangers_found(run: Path, tmp_path: Path) -> None:
    done = sortal(run.parents[1], "evaluate", run, "other", "--out", tmp_path / "e", "--json")
    assert done.code in (0, 1), done.err
    metrics = json.loads(done.out)["metrics"]
    assert metrics["unknown_rate"]["n"] == 30
    assert metrics["unknown_found"]["n"] == 30
    assert metrics["unknown_auroc"]["value"] > 0.95
    assert (tmp_path / "e" / "unknown_scores.png").stat().st_size > 5_000
    assert 0.5 <= metrics["set_coverage"]["value"] <= 1.0


def test_the_bundle_remembers_its_images(run: Path) -> None:
    bundle = open_bundle(run / "bundle")
    reference = read_reference(bundle)
    assert reference is not None
    assert bundle.decision.unknown is not None
    assert reference.facts["unknown"]["method"].startswith(bundle.decision.unknown.method)
    split = pl.read_csv(run / "split.csv", comment_prefix="#")
    seen = reference.has_seen(split["digest"].to_list())
    np.testing.assert_array_equal(seen, (split["split"] != "test").to_numpy())
    assert len(reference.names) == (split["split"] == "train").sum()
    assert reference.embeddings.shape == (len(reference.names), bundle.manifest.model.embedding)
    parity = json.loads((run / "bundle" / "artifacts" / "onnx" / "parity.json").read_text())
    assert parity["metrics"]["unknown_gap"]["value"] < 1e-2


def test_none_leaves_the_score_out(run: Path, tmp_path: Path) -> None:
    photos = run.parents[1] / "photos"
    done = sortal(tmp_path, "train", photos, *TINY, "seed=7", "evaluate.unknown=none", "train.epochs=1")
    assert done.code == 0, done.err
    bundle = open_bundle(tmp_path / "runs" / "photos-1" / "bundle")
    assert bundle.decision.unknown is None
    reference = read_reference(bundle)
    assert reference is not None
    assert reference.unknown == {}
    assert sortal(tmp_path, "predict", "runs/photos-1", photos, "--out", "a.csv").code == 0
    assert "unknown" not in pl.read_csv(tmp_path / "a.csv").columns
