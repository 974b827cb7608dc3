"""What names and weights settings come to mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sortal.core.errors import WeightsError
from sortal.models.hub import is_offline
from sortal.models.resolve import SCRATCH_LICENCE, resolve

MakeCard = Callable[..., Path]


def test_null_means_from_scratch() -> None:
    source = resolve("resnet18", None, {"drop_path_rate": 0.1})
    assert (source.architecture, source.weights_path, source.licence) == ("resnet18", None, SCRATCH_LICENCE)
    assert source.arguments == {"drop_path_rate": 0.1}


def test_a_card_gives_everything_and_arguments_of_the_user_win(make_card: MakeCard) -> None:
    path = make_card(arguments={"width": 0.5, "depth": 2.0}, identity=["stem.act"])
    source = resolve(str(path), "auto", {"depth": 1.0})
    assert source.arguments == {"width": 0.5, "depth": 1.0}
    assert (source.architecture, source.identity) == ("sortal_tiny", ("stem.act",))
    assert (source.licence, source.source) == ("Apache-2.0", "made in a test")
    assert source.weights_path == path.with_suffix(".safetensors")
    assert source.input is not None
    assert source.sha256 is not None


def test_the_zoo_is_found_by_architecture_and_by_stem(make_card: MakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_card(stem="tiny.v7")
    monkeypatch.setenv("SORTAL_ZOO", str(path.parent))
    assert resolve("sortal_tiny").weights_path == resolve("tiny.v7").weights_path == path.with_suffix(".safetensors")
    assert resolve("sortal_tiny", None).weights_path is None
    assert resolve("tiny.v7", None).architecture == "sortal_tiny"
    assert resolve("sortal_tiny", "tiny.v7").sha256 == resolve("sortal_tiny", str(path)).sha256


def test_a_card_of_another_architecture_is_refused(make_card: MakeCard) -> None:
    with pytest.raises(WeightsError, match=r"weights of sortal_tiny, not of resnet18"):
        resolve("resnet18", str(make_card()))


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(WeightsError, match="unknown architecture") as caught:
        resolve("resnet5O")
    assert "resnet50" in str(caught.value)
    with pytest.raises(WeightsError, match="sortal models"):
        resolve("zzzzzzzz")
    with pytest.raises(WeightsError, match="torchvision:resnet18"):
        resolve("torchvision:resnet17", None)


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp/x", "timm/resnet18"])
def test_names_that_would_load_from_elsewhere_are_unknown(name: str) -> None:
    with pytest.raises(WeightsError, match="unknown architecture"):
        resolve(name, None)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".pkl"])
def test_pickles_are_refused_with_the_way_out(suffix: str) -> None:
    with pytest.raises(WeightsError, match="can run code") as caught:
        resolve("resnet18", f"weights{suffix}")
    assert "safetensors" in str(caught.value.hint)
    assert "weights_only=True" in str(caught.value.hint)


def test_offline_refuses_a_download_and_says_what_to_do() -> None:
    with pytest.raises(WeightsError, match="SORTAL_OFFLINE") as caught:
        resolve("resnet18")
    assert "SORTAL_ZOO" in str(caught.value)
    assert "weights=null" in str(caught.value)
    with pytest.raises(WeightsError, match="SORTAL_OFFLINE"):
        resolve("resnet18", "timm/resnet18.a1_in1k")


@pytest.mark.parametrize(("name", "value", "offline"), [("SORTAL_OFFLINE", "0", False), ("HF_HUB_OFFLINE", "1", True)])
def test_either_switch_turns_the_network_off(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, *, offline: bool
) -> None:
    monkeypatch.delenv("SORTAL_OFFLINE")
    monkeypatch.setenv(name, value)
    assert is_offline() is offline


def test_an_architecture_without_published_weights_starts_from_scratch_and_says_so() -> None:
    source = resolve("mobilenet_edgetpu_100")
    assert source.weights_path is None
    assert "No weights are published" in source.notes[0]
    assert "from scratch" in resolve("sortal_small").notes[0]


def test_torchvision_has_no_weights_that_could_be_used() -> None:
    assert resolve("torchvision:resnet18", None).architecture == "torchvision:resnet18"
    with pytest.raises(WeightsError, match=r"resnet18\.tv_in1k"):
        resolve("torchvision:resnet18")


def test_a_local_file_is_taken_with_the_input_of_its_architecture(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    source = resolve("resnet18", str(path))
    assert (source.weights_path, source.licence) == (path, "unknown (local file)")
    assert source.input is not None
    assert source.input.size == 224
    assert "licence" in source.notes[0]
    with pytest.raises(WeightsError, match="cannot read"):
        resolve("resnet18", str(tmp_path / "absent.safetensors"))
    with pytest.raises(WeightsError, match="no such weights"):
        resolve("resnet18", "imagenet")


def test_an_unknown_tag_names_those_that_exist() -> None:
    with pytest.raises(WeightsError, match=r"resnet18\.a"):
        resolve("resnet18.a9_in1k")


def test_auto_prefers_a_card_then_a_small_network(make_card: MakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("auto").architecture == "sortal_small"
    assert resolve("auto", size_px=28).architecture == "sortal_tiny"
    assert resolve("auto").name == "auto"
    assert "downloads are off" in resolve("auto").notes[0]
    make_card(stem="a", architecture="resnet50")
    preferred = make_card(stem="b", architecture="mobilenetv2_100")
    monkeypatch.setenv("SORTAL_ZOO", str(preferred.parent))
    source = resolve("auto")
    assert source.architecture == "mobilenetv2_100"
    assert str(preferred) in source.notes[0]
    assert resolve("auto", None).architecture == "sortal_small"


def test_auto_takes_the_smallest_card_when_none_is_preferred(
    make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_card(stem="a", architecture="resnet34", state={"x": torch.zeros(1000)})
    small = make_card(stem="b", architecture="sortal_tiny")
    monkeypatch.setenv("SORTAL_ZOO", str(small.parent))
    assert resolve("auto").architecture == "sortal_tiny"


def test_auto_without_a_working_network_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SORTAL_OFFLINE")
    monkeypatch.setenv("SORTAL_MIRROR", "http://127.0.0.1:9/")
    source = resolve("auto", say=lambda message: None)
    assert source.architecture == "sortal_small"
    assert "cannot download" in source.notes[0]
