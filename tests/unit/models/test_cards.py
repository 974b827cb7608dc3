"""Weights cards: what is accepted, what is refused and how that is said, and in which order folders are searched."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sortal.core.errors import WeightsError
from sortal.models.cards import (
    cache_folder,
    class_names,
    find_card,
    list_cards,
    load_card,
    verified_weights,
    zoo_cards,
)

MakeCard = Callable[..., Path]


def test_a_card_is_read_whole(make_card: MakeCard) -> None:
    stored = load_card(make_card(arguments={"width": 0.5}, identity=["stem.act"], labels="names.txt"))
    assert stored.card.arguments == {"width": 0.5}
    assert stored.card.identity == ("stem.act",)
    assert stored.labels_path == stored.path.parent / "names.txt"
    assert stored.card.input is not None
    assert (stored.card.input.size, stored.card.input.crop, stored.card.input.interpolation) == (32, 0.875, "bicubic")
    assert verified_weights(stored) == stored.path.parent / "net.v1.safetensors"


def test_an_unknown_field_names_the_nearest(make_card: MakeCard) -> None:
    with pytest.raises(WeightsError, match="did you mean licence"):
        load_card(make_card(licens="MIT"))
    with pytest.raises(WeightsError, match="did you mean size"):
        load_card(make_card(input={"sizes": 32, "size": 32, "mean": [0.5], "std": [0.5]}))


@pytest.mark.parametrize("field", ["architecture", "weights", "sha256", "licence", "source"])
def test_a_missing_field_is_named(make_card: MakeCard, field: str) -> None:
    with pytest.raises(WeightsError, match=field):
        load_card(make_card(**{field: None}))


@pytest.mark.parametrize("weights", ["../x.safetensors", "/etc/x.safetensors", "a/x.safetensors", "x.pth", "..", ""])
def test_weights_are_a_safetensors_file_beside_the_card(make_card: MakeCard, weights: str) -> None:
    with pytest.raises(WeightsError, match="weights"):
        load_card(make_card(weights=weights))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1", "just words", "\x00"])
def test_what_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with pytest.raises(WeightsError, match=r"card\.yaml"):
        load_card(path)


def test_an_absent_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights card"):
        load_card(tmp_path / "absent.yaml")


def test_altered_weights_are_refused(make_card: MakeCard) -> None:
    stored = load_card(make_card())
    data = bytearray(stored.weights_path.read_bytes())
    data[-1] ^= 1
    stored.weights_path.write_bytes(data)
    with pytest.raises(WeightsError, match="SHA-256 differs") as caught:
        verified_weights(stored)
    assert stored.card.sha256 in str(caught.value)


def test_missing_weights_are_named(make_card: MakeCard) -> None:
    stored = load_card(make_card())
    stored.weights_path.unlink()
    with pytest.raises(WeightsError, match=r"net\.v1\.safetensors.*cannot read"):
        verified_weights(stored)


def test_folders_are_searched_in_order_and_the_cache_last(
    make_card: MakeCard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    second, first = make_card(folder="b"), make_card(folder="a")
    make_card(folder="kept")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path))
    (tmp_path / "kept").rename(tmp_path / "weights")
    monkeypatch.setenv("SORTAL_ZOO", os.pathsep.join([str(second.parent), str(first.parent)]))
    assert [stored.path.parent.name for stored in zoo_cards()] == ["b", "a", "weights"]
    stored, notes = find_card("sortal_tiny")
    assert stored is not None
    assert stored.path == second
    assert "Several weights cards fit" in notes[0]
    assert str(first) in notes[0]


def test_a_stem_wins_over_an_architecture(make_card: MakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    make_card(stem="a", architecture="wanted")
    exact = make_card(stem="wanted", architecture="other")
    monkeypatch.setenv("SORTAL_ZOO", str(exact.parent))
    stored, notes = find_card("wanted")
    assert stored is not None
    assert (stored.path, notes) == (exact, ())
    assert find_card("unheard-of") == (None, ())


def test_other_yaml_files_are_not_cards(make_card: MakeCard) -> None:
    card = make_card()
    (card.parent / "docker-compose.yml").write_text("services: {}\n")
    assert [stored.path for stored in list_cards(card.parent)] == [card]


def test_a_zoo_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SORTAL_ZOO", str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match="SORTAL_ZOO"):
        zoo_cards()


def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SORTAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    found = {}
    for platform in ("linux", "win32", "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        found[platform] = cache_folder()
    assert found["linux"] == tmp_path / "xdg" / "sortal" / "weights"
    assert found["win32"] == tmp_path / "local" / "sortal" / "weights"
    assert found["darwin"].parts[-4:] == ("Library", "Caches", "sortal", "weights")


@pytest.mark.parametrize("text", ["ant\nbee\n", "background\nant\nbee\n"])
def test_a_background_class_that_the_weights_lack_shifts_no_name(make_card: MakeCard, text: str) -> None:
    stored = load_card(make_card(labels="names.txt"))
    (stored.path.parent / "names.txt").write_text(text)
    assert class_names(stored, classes=2) == ("ant", "bee")
    with pytest.raises(WeightsError, match="expected 7 class names"):
        class_names(stored, classes=7)


def test_class_names_may_be_absent_from_a_card_but_not_from_the_disk(make_card: MakeCard) -> None:
    assert class_names(load_card(make_card()), classes=2) == ()
    with pytest.raises(WeightsError, match=r"names\.txt"):
        class_names(load_card(make_card(labels="names.txt")), classes=2)
