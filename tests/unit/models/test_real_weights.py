"""Real ImageNet weights on real photographs: strictly loaded, set up as their cards say, they recognize fruit."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from sortal.core.preprocess import PreprocessSpec, apply
from sortal.data.decode import decode
from sortal.models.backbones import create
from sortal.models.cards import class_names, load_card
from sortal.models.network import Network
from sortal.models.resolve import ModelSource, resolve

pytestmark = pytest.mark.real

SHARED = Path(os.environ.get("SORTAL_SHARED", Path(__file__).parents[4] / "shared"))
CARDS = ("mobilenetv2_100.tf2_in1k_dequant.yaml", "mobilenet_edgetpu_100.mlperf_in1k_dequant.yaml")
ICONIC = "iconic-images-and-descriptions"
FRUIT = {
    "Fruit/Apple/Granny-Smith/Granny-Smith_Iconic.jpg": "Granny Smith",
    "Fruit/Banana/Banana_Iconic.jpg": "banana",
    "Fruit/Lemon/Lemon_Iconic.jpg": "lemon",
    "Fruit/Pineapple/Pineapple_Iconic.jpg": "pineapple, ananas",
}


@cache
def _photographs() -> dict[str, np.ndarray]:
    """Class name -> upright pixels, out of the archive of the Grocery Store data set."""
    found = {}
    with tarfile.open(SHARED / "data" / "grocery.tar") as archive:
        for member in archive:
            name = member.name.partition(f"{ICONIC}/")[2]
            if name in FRUIT and (file := archive.extractfile(member)) is not None:
                found[FRUIT[name]] = decode(file.read())
                if len(found) == len(FRUIT):
                    break
    return found


@pytest.fixture(params=CARDS)
def card(request: pytest.FixtureRequest) -> Path:
    path = SHARED / "weights" / str(request.param)
    if not path.is_file() or not (SHARED / "data" / "grocery.tar").is_file():
        pytest.skip(f"{path} or the grocery archive is not here; set SORTAL_SHARED to the folder that holds them")
    return path


def _logits(network: Network, source: ModelSource) -> torch.Tensor:
    """(photographs, 1000), in the order of `_photographs`."""
    known = source.input
    assert known is not None
    spec = PreprocessSpec(
        size=(known.size, known.size),
        crop=known.crop,
        interpolation=known.interpolation,
        mean=known.mean,
        std=known.std,
        resize="pad",
    )
    batch = np.stack([apply(spec, photograph) for photograph in _photographs().values()])
    with torch.no_grad():
        logits: torch.Tensor = network.eval()(torch.from_numpy(batch))[0]
    return logits


def test_fruit_is_recognized(card: Path) -> None:
    source = resolve(str(card))
    labels = class_names(load_card(card), classes=1000)
    best = _logits(create(source, classes=1000), source).topk(5).indices
    for wanted, row in zip(_photographs(), best, strict=True):
        assert wanted in [labels[int(index)] for index in row]


def test_arguments_and_identity_of_the_card_change_the_answer(card: Path) -> None:
    source = resolve(str(card))
    as_told = _logits(create(source, classes=1000), source)
    plain = _logits(create(replace(source, arguments={}, identity=()), classes=1000), source)
    assert float((as_told - plain).abs().max()) > 0.1
    if source.identity:
        without = _logits(create(replace(source, identity=()), classes=1000), source)
        assert float((as_told - without).abs().max()) > 0.1


def test_another_class_count_keeps_the_backbone_and_starts_a_new_head(card: Path) -> None:
    source = resolve(str(card))
    whole, small = create(source, classes=1000), create(source, classes=81)
    assert small.linear.weight.shape == (81, whole.embedding_dim)
    for mine, theirs in zip(small.backbone_parameters(), whole.backbone_parameters(), strict=True):
        assert torch.equal(mine, theirs)
