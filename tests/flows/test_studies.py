"""Looks before and beside a training, through the command line."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

from sortal.core.progress import Silent
from sortal.core.recipe import load_recipe
from sortal.data.open import images
from sortal.divide import divide
from sortal.models.backbones import create
from sortal.models.resolve import ModelSource
from sortal.models.weights import weights_bytes
from worlds import COLORS, TINY, World, class_folders, refused, sortal

SHAPE = {"width": 0.15, "depth": 0.5}
FAST = (*(setting for setting in TINY if not setting.startswith("train.epochs")), "train.epochs=1")
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, and a card of weights whose features tell colors apart."""
    home = tmp_path_factory.mktemp("studies")
    class_folders(home / "photos", {**dict.fromkeys(COLORS, 20), "红色": 20}, seed=5)
    torch.manual_seed(0)
    network = create(ModelSource(name="x", architecture="sortal_tiny", arguments=SHAPE), classes=3, size=(32, 32))
    data = weights_bytes(network)
    (home / "zoo").mkdir()
    (home / "zoo" / "tiny.safetensors").write_bytes(data)
    card = {
        "architecture": "sortal_tiny",
        "arguments": SHAPE,
        "weights": "tiny.safetensors",
        "sha256": sha256(data).hexdigest(),
        "input": {"size": 32, "crop": 1.0, "mean": [0.5] * 3, "std": [0.25] * 3},
        "licence": "Apache-2.0",
        "source": "random numbers",
    }
    (home / "zoo" / "tiny.yaml").write_text(yaml.safe_dump(card))
    return home


@pytest.fixture(autouse=True)
def _surroundings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTAL_ZOO", str(home / "zoo"))
    monkeypatch.setenv("SORTAL_CACHE", str(home / "cache"))
    monkeypatch.setenv("SORTAL_OFFLINE", "1")


def test_a_learning_curve_is_drawn_and_says_how_sure_it_is(home: Path) -> None:
    done = sortal(home, "learning-curve", "photos", "model=tiny", "--json")
    assert done.code == 0, done.err
    report = done.report
    assert report["kind"] == "learning_curve"
    assert [row[0] for row in report["tables"]["curve"]["rows"]] == [1.0, 2.0, 4.0, 8.0, 14.0]
    assert report["metrics"]["accuracy"]["n"] == 12
    for name in ("accuracy", "accuracy_with_2x_images", "gain_of_2x_images"):
        metric = report["metrics"][name]
        assert metric["low"] <= metric["value"] <= metric["high"]
    assert {row[0] for row in report["tables"]["classes"]["rows"]} == {*COLORS, "红色"}
    assert (home / report["paths"]["picture"]).read_bytes()[:4] == PNG
    assert not list(home.glob("runs/photos-learning-curve-1/test*")), "no test image is read"
    again = sortal(home, "learning-curve", "photos", "model=tiny")
    assert "Next:    sortal train photos" in again.out
    assert "learning-curve-2" in again.out


def test_a_learning_curve_needs_weights_and_judges(home: Path) -> None:
    refused(sortal(home, "learning-curve", "photos", *TINY), "pretrained network")
    refused(sortal(home, "learning-curve", "photos", "model=tiny", "data.split.val=0"), "needs validation images")


def test_a_sweep_compares_and_goes_on_where_it_stopped(home: Path) -> None:
    command = ("sweep", "photos", *FAST, "--vary", "augment=none,basic", "--json")
    done = sortal(home, *command)
    assert done.code == 0, done.err
    tables = done.report["tables"]
    assert {row[0] for row in tables["settings"]["rows"]} == {"augment=none", "augment=basic"}
    assert [row[1] for row in tables["settings"]["rows"]] == [1, 1]
    gap = tables["settings"]["columns"].index("train - validation gap")
    assert all(isinstance(row[gap], float) for row in tables["settings"]["rows"])
    assert [row[0] for row in tables["throughput"]["rows"]] == [1, 2, 4, 8, 16, 32, 64]
    assert sum(row[3] == "<-" for row in tables["throughput"]["rows"]) == 1
    folder = home / "runs" / "photos-sweep"
    assert (folder / "sweep.png").read_bytes()[:4] == PNG
    kept = json.loads((folder / "sweep.json").read_text())
    assert len(kept) == 2
    assert not any("test" in (folder / Path(run["run"]).name / "split.csv").read_text() for run in kept.values())
    dropped = sorted(kept)[0]
    (folder / "sweep.json").write_text(json.dumps({key: run for key, run in kept.items() if key != dropped}))
    again = sortal(home, *command[:-1])
    assert again.err.count("done before") == 1
    following = again.out.splitlines()[-1]
    assert following.startswith("Next:    sortal train photos model=sortal_tiny 'model.arguments={width: 0.15")
    assert following.endswith(("augment=none", "augment=basic"))
    assert set(json.loads((folder / "sweep.json").read_text())) == set(kept)


@pytest.mark.parametrize(
    ("vary", "said"),
    [("augmnt=none,basic", "augment"), ("augment", "--vary"), ("train.batch=8,many", "train.batch")],
)
def test_a_wrong_setting_is_refused_before_anything_is_trained(home: Path, vary: str, said: str) -> None:
    refused(sortal(home, "sweep", "photos", *FAST, "--out", "refused", "--vary", vary), said)
    assert not (home / "refused").exists()


def test_augmentation_is_shown(home: Path) -> None:
    done = sortal(home, "augment", "photos", *TINY, "augment=industrial", "augment.families=[geometric, color]")
    assert done.code == 0, done.err
    assert (home / "runs" / "photos-augment-1" / "augmentation.png").read_bytes()[:4] == PNG
    assert "Next:    sortal train photos" in done.out
    shown = sortal(home, "augment", "photos", *TINY, "--out", "looks", "--json").report
    assert shown["tables"]["families"]["rows"] == [["geometric", "on"], ["color", "on"], ["advanced", "on"]]
    assert (home / "looks" / "augmentation.png").is_file()
    refused(sortal(home, "augment", "photos", *TINY, "augment=wild"), "wild")
    assert not (home / "runs" / "photos-augment-2").exists()


def test_a_rate_is_found(home: Path) -> None:
    done = sortal(home, "find-lr", "photos", *TINY, "--steps", "30")
    assert done.code == 0, done.err
    report = json.loads((home / "runs" / "photos-find-lr-1" / "report.json").read_text())
    rate = report["metrics"]["suggested"]["value"]
    assert 1e-6 < rate < 1
    assert f"optim.lr={rate:g}" in done.out.splitlines()[-1]
    assert (home / "runs" / "photos-find-lr-1" / "lr_finder.png").read_bytes()[:4] == PNG
    tuned = sortal(home, "find-lr", "photos", "model=tiny", "--steps", "10", "--json")
    assert tuned.code == 0, tuned.err
    assert "looked at is train.freeze=none" in tuned.err


def test_steps_are_profiled(home: Path) -> None:
    done = sortal(home, "profile", "photos", *TINY, "--steps", "3", "--json")
    assert done.code == 0, done.err
    report = done.report
    assert report["metrics"]["step_ms"]["n"] == 3
    shares = {name: report["metrics"][f"share_{name}"]["value"] for name in ("data", "forward", "backward", "step")}
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) < 1
    assert json.loads((home / report["paths"]["trace"]).read_text())["traceEvents"]
    assert [path.name for path in (home / "runs" / "photos-profile-1").iterdir() if path.suffix] == ["run.lock"]


def test_the_cache_says_what_it_holds_and_can_be_emptied(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    assert sortal(home, "cache", "--json").report["metrics"]["items"]["value"] == 0
    assert sortal(home, "augment", "photos", *TINY, "--out", str(tmp_path / "looks")).code == 0
    assert sortal(home, "profile", "photos", *TINY, "--steps", "1", "--out", str(tmp_path / "profile")).code == 0
    assert sortal(home, "cache", "--json").report["metrics"]["items"]["value"] > 0
    emptied = sortal(home, "cache", "--clear")
    assert emptied.code == 0
    assert "freed_mb" in emptied.out
    assert sortal(home, "cache", "--json").report["metrics"]["items"]["value"] == 0
    monkeypatch.setenv("SORTAL_CACHE_GB", "lots")
    refused(sortal(home, "cache"), "SORTAL_CACHE_GB")


def test_networks_are_ranked_for_a_machine(home: Path) -> None:
    ranked = sortal(home, "models", "--hardware", "edge", "--images", "2000", "--json")
    assert ranked.code == 0, ranked.err
    rows = ranked.report["tables"]["ranking"]["rows"]
    assert rows[0][2] == "MobileNet"
    assert all(row[-1] for row in rows), "each with a reason"
    refused(sortal(home, "models", "--hardware", "toaster"), "toaster", "edge")
    refused(sortal(home, "models", "--latency-ms", "5"), "--hardware")


def test_metrics_are_split_by_source(world: World, tmp_path: Path) -> None:
    class_folders(tmp_path / "new", dict.fromkeys(COLORS, 4), seed=9)
    paths = sorted((tmp_path / "new").rglob("*.png"))
    frame = {
        "path": [str(path.relative_to(tmp_path)) for path in paths],
        "label": [path.parent.name for path in paths],
        "camera": ["left" if number % 2 else "right" for number in range(len(paths))],
    }
    pl.DataFrame(frame).write_csv(tmp_path / "new.csv")
    done = sortal(tmp_path, "evaluate", world.run, "new.csv", "--by", "camera", "--out", "by", "--json")
    assert done.code == 0, done.err
    rows = done.report["tables"]["slices"]["rows"]
    assert {tuple(row[:3]) for row in rows} == {("camera", "left", 6), ("camera", "right", 6)}
    refused(sortal(tmp_path, "evaluate", world.run, "new.csv", "--by", "camra"), "camera")


def test_a_source_can_be_held_out(home: Path, tmp_path: Path) -> None:
    """`data.group` keeps a camera on one side of the split: the test images are of cameras that training never saw."""
    paths = sorted((home / "photos").rglob("*.png"))
    frame = {
        "path": [str(path) for path in paths],
        "label": [path.parent.name for path in paths],
        "camera": [f"camera {number % 5}" for number in range(len(paths))],
    }
    pl.DataFrame(frame).write_csv(tmp_path / "all.csv")
    settings = load_recipe(None, ["data.group=camera", "data.split.test=0.2", "data.split.val=0.2"])
    divided = divide(images(tmp_path / "all.csv", group="camera"), settings, Silent())
    pairs = divided.frame.select("group", "split").unique()
    assert sorted(pairs["split"].to_list()) == ["test", "train", "train", "train", "val"]
