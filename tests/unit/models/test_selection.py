"""Which network for which machine, budget, wish and number of images."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sortal.core.errors import InputError
from sortal.models import selection
from sortal.models.catalog import describe
from sortal.models.listing import selection_report
from sortal.models.recommended import BY_GOAL, BY_HARDWARE, RECOMMENDED, suggest
from sortal.models.selection import Wanted, select


@pytest.fixture(autouse=True)
def _counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs change the reasons only by parameters; counting large networks takes seconds."""
    small = describe("sortal_tiny")
    heavy = ("resnet50", "resnet152", "convnext_tiny", "vit_base_patch16_224", "swin_tiny_patch4_window7_224")
    monkeypatch.setattr(
        selection, "describe", lambda name: replace(small, parameters=25_000_000 if name in heavy else 5_000_000)
    )


@pytest.mark.parametrize(
    ("hardware", "family"),
    [("cpu", "MobileNet"), ("low-power gpu", "MobileNet"), ("edge", "MobileNet"), ("gpu", "ResNet")],
)
def test_each_class_of_hardware_gets_its_family_first(hardware: str, family: str) -> None:
    assert suggest(hardware)[0].family == family  # type: ignore[arg-type]


def test_several_cards_get_vision_transformers() -> None:
    assert [item.family for item in suggest("multi-gpu")[:2]] == ["Vision Transformer", "Swin Transformer"]


@pytest.mark.parametrize(
    ("goal", "families"),
    [
        ("light", {"MobileNet", "EfficientNet-Lite"}),
        ("accuracy", {"ResNet", "Vision Transformer", "ConvNeXt"}),
        ("medium", {"ResNet"}),
        ("real-time", {"MobileNet"}),
    ],
)
def test_each_goal_names_its_families(goal: str, families: set[str]) -> None:
    by_name = {item.name: item.family for item in RECOMMENDED}
    assert families <= {by_name[name] for name in BY_GOAL[goal]}  # type: ignore[index]


def test_every_row_of_the_table_is_recommended_with_a_reason() -> None:
    names = {name for row in (*BY_HARDWARE.values(), *BY_GOAL.values()) for name in row}
    assert names <= {item.name for item in RECOMMENDED if item.why}
    assert {"resnet152", "resnet50", "tf_efficientnet_lite0", "mobilenetv3_small_100", "coatnet_nano_rw_224"} <= names


def test_a_goal_comes_before_what_suits_the_machine_and_says_so() -> None:
    ranked = select(Wanted(hardware="cpu", goal="accuracy"))
    assert ranked[0].item.name in BY_GOAL["accuracy"]
    assert any("Not made for cpu" in reason for reason in ranked[0].reasons)
    assert ranked[-1].item.name in BY_HARDWARE["cpu"]


def test_what_breaks_the_latency_budget_comes_last() -> None:
    slow = {"mobilenetv3_large_100": 31.0}
    ranked = select(Wanted(hardware="cpu", latency_ms=20.0), measure_ms=lambda name: slow.get(name, 9.0))
    assert ranked[0].item.name == "mobilenetv2_100"
    assert (ranked[-1].item.name, ranked[-1].fits, ranked[-1].latency_ms) == ("mobilenetv3_large_100", False, 31.0)
    assert "over the budget of 20 ms" in ranked[-1].reasons[-1]
    text = selection_report(Wanted(hardware="cpu"), ranked, machine="a processor").to_markdown()
    assert "a processor" in text
    assert "float32" in text


def test_without_measurements_no_time_is_claimed() -> None:
    wanted = Wanted(hardware="cpu", latency_ms=20.0)
    ranked = select(wanted)
    assert all(choice.latency_ms is None and choice.fits is None for choice in ranked)
    report = selection_report(wanted, ranked, machine="a processor")
    assert report.findings == ()
    assert {row[6] for row in report.tables["ranking"].rows} == {"not measured"}


def test_few_images_put_transformers_behind_and_only_heads_of_large_networks_are_fitted() -> None:
    ranked = select(Wanted(hardware="multi-gpu", images=400))
    assert [choice.item.family for choice in ranked][:2] == ["ConvNeXt", "ResNet"]
    assert "only its head" in " ".join(ranked[0].reasons)
    many = select(Wanted(hardware="multi-gpu", images=400_000))
    assert many[0].item.family == "Vision Transformer"
    assert "enough to train all" in " ".join(many[0].reasons)


def test_without_pretrained_weights_the_small_network_leads_and_transformers_are_warned_of() -> None:
    ranked = select(Wanted(hardware="gpu", images=5000, pretrained=False))
    assert ranked[0].item.name == "sortal_small"
    assert "pretrained" in " ".join(ranked[-1].reasons)
    assert "hybrid" in ranked[-1].item.family


def test_the_task_is_asked_for_first() -> None:
    with pytest.raises(InputError, match="AGPL"):
        select(Wanted(hardware="gpu", task="detection"))
    wanted = Wanted(hardware="edge", goal="real-time")
    assert "YOLOv5" in selection_report(wanted, select(wanted), machine="").findings[0].message


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(hardware="mainframe"),  # type: ignore[arg-type]
        Wanted(hardware="cpu", goal="beauty"),  # type: ignore[arg-type]
        Wanted(hardware="cpu", latency_ms=0.0),
    ],
)
def test_unknown_wishes_are_refused(wanted: Wanted) -> None:
    with pytest.raises(InputError):
        select(wanted)
