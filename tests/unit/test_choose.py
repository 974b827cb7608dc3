"""`model=auto` with several cards: validation decides, latency limits, budgets and broken cards are obeyed and said."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from sortal import choose
from sortal.choose import choose_model
from sortal.core.errors import RecipeError
from sortal.core.recipe import Recipe, load_recipe
from sortal.data.open import images
from sortal.data.table import ImageTable
from sortal.divide import divide
from sortal.models.backbones import create
from sortal.models.resolve import ModelSource
from sortal.models.weights import weights_bytes
from sortal.train.scores import Scores
from worlds import class_folders

SHAPES = {"blind": {"width": 0.1, "depth": 0.25}, "seeing": {"width": 0.15, "depth": 0.5}}


@dataclass
class Heard:
    """What a listener was told."""

    lines: list[str] = field(default_factory=list)
    stages: list[tuple[str, int, int]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append((stage, done, total))


def card(folder: Path, name: str) -> Path:
    """Weights of an untrained network, whose features tell colors apart; those of `blind` are all zero."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = create(
        ModelSource(name="x", architecture="sortal_tiny", arguments=SHAPES[name]), classes=3, size=(32, 32)
    )
    if name == "blind":
        with torch.no_grad():
            for parameter in network.backbone.parameters():
                parameter.zero_()
    data = weights_bytes(network)
    (folder / f"{name}.safetensors").write_bytes(data)
    fields = {
        "architecture": "sortal_tiny",
        "arguments": SHAPES[name],
        "weights": f"{name}.safetensors",
        "sha256": sha256(data).hexdigest(),
        "input": {"size": 32, "crop": 1.0, "mean": [0.5] * 3, "std": [0.25] * 3},
        "licence": "Apache-2.0",
        "source": name,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SHAPES:
        card(tmp_path / "zoo", name)
    monkeypatch.setenv("SORTAL_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SORTAL_OFFLINE", "1")
    return tmp_path / "zoo"


def recipe(*settings: str) -> Recipe:
    return load_recipe(None, ["train.workers=1", *settings])


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    class_folders(tmp_path / "photos", {"red": 24, "green": 24, "blue": 24})
    return divide(images(tmp_path / "photos"), recipe(), Heard())


def test_validation_decides_and_the_log_says_why(zoo: Path, table: ImageTable) -> None:
    heard = Heard()
    found = choose_model(recipe(), table, heard)
    assert found is not None
    assert (found.card, found.name) == (str(zoo / "seeing.yaml"), "auto")
    assert "seeing, the best macro_f1 by a probe on validation images" in found.notes[0]
    train, val = (len(table.split_rows(split)) for split in ("train", "val"))
    assert sum(f"on {val} validation images with {train} training images" in line for line in heard.lines) == 2
    again = Heard()
    same = choose_model(recipe(), table, again)
    assert same is not None
    assert same.card == found.card
    begun = {stage: done for stage, done, _ in reversed(again.stages)}
    assert set(begun.values()) == {train, val}, "the second time all features come from the cache"


def tried(name: str, accuracy: float, latency_ms: float) -> choose.Tried:
    scores = Scores(loss=1.0, accuracy=accuracy, macro_f1=accuracy)
    return choose.Tried(source=ModelSource(name=name, architecture=name), scores=scores, latency_ms=latency_ms)


def test_networks_that_are_too_slow_are_left_out() -> None:
    both = [tried("quick", 0.8, 2.0), tried("good", 0.9, 50.0)]
    assert choose._best(recipe(), both).architecture == "good"
    found = choose._best(recipe("model.max_latency_ms=10"), both)
    assert found.architecture == "quick"
    assert found.notes[0] == (
        "model=auto: quick, the only one that came into question within 10 ms an image "
        "(quick 0.8000 in 2.0 ms, good is too slow with 50.0 ms)."
    )
    with pytest.raises(RecipeError, match="the quickest needs 2"):
        choose._best(recipe("model.max_latency_ms=1"), both)


def test_one_network_alone_is_asked_how_quick_it_is_only_where_that_matters(zoo: Path, table: ImageTable) -> None:
    (zoo / "blind.yaml").unlink()
    assert choose_model(recipe(), table, Heard()) is None
    with pytest.raises(RecipeError, match="no network at hand answers as quickly"):
        choose_model(recipe("model.max_latency_ms=0.0001"), table, Heard())


def test_a_budget_that_is_too_short_compares_nothing_and_says_so(zoo: Path, table: ImageTable) -> None:
    heard = Heard()
    assert choose_model(recipe("train.time=0.001"), table, heard) is None
    assert sum("the time budget is too short" in line for line in heard.lines) == 2


def test_altered_weights_are_left_out(zoo: Path, table: ImageTable) -> None:
    with (zoo / "seeing.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x77")
    heard = Heard()
    found = choose_model(recipe(), table, heard)
    assert found is not None
    assert found.card == str(zoo / "blind.yaml")
    assert any("seeing.yaml is left out" in line for line in heard.lines)


def test_nothing_is_chosen_where_a_name_is_given(zoo: Path, table: ImageTable) -> None:
    assert choose_model(recipe("model=sortal_tiny", "model.weights=null"), table, Heard()) is None


def test_the_order_of_images_spreads_the_classes(table: ImageTable) -> None:
    rows = choose._shuffled(table, "train")
    labels = table.label_array()[rows]
    assert sorted(rows.tolist()) == table.split_rows("train").tolist()
    for end in (12, 24, 36):
        assert np.ptp(np.bincount(labels[:end], minlength=3)) <= 1
