"""A workspace by the command line: promoted, beside, back again, and asked about."""

from __future__ import annotations

from pathlib import Path

import pytest

from worlds import World, copied, refused, sortal


@pytest.fixture(scope="module")
def world(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """With a second classifier whose decision was fitted on other images."""
    own = copied(world, tmp_path_factory.mktemp("own") / "world")
    assert sortal(own.home, "calibrate", "runs/photos-1", "other").code in (0, 1)
    return own


def test_from_the_first_promotion_to_the_way_back(world: World) -> None:
    first = sortal(world.home, "promote", "runs/photos-1", "line4", "--note", "first", "--json").report
    second = next(path.name for path in (world.home / "runs").iterdir() if path.name != "photos-1")
    canary = sortal(world.home, "promote", f"runs/{second}", "line4", "--canary", "10%")
    assert "canary: " in canary.out
    assert "10 % of the requests" in canary.out
    assert "sortal rollback line4" in canary.out
    ended = sortal(world.home, "rollback", "line4", "--json").report
    assert (ended["body"]["live"], ended["body"]["canary"]) == (first["body"]["live"], None)
    live = sortal(world.home, "promote", f"runs/{second}", "line4", "--json").report
    assert live["body"]["live"] != first["body"]["live"]
    back = sortal(world.home, "rollback", "line4", "--note", "complaints from station 2", "--json").report
    assert back["body"]["live"] == first["body"]["live"]
    told = sortal(world.home, "journal", "line4")
    for words in ("promote", "canary", "withdraw", "rollback", "complaints from station 2"):
        assert words in told.out
    assert sortal(world.home, "journal", "line4", "--last", 2, "--json").report["tables"]["journal"]["rows"][0][2] == (
        "rollback"
    )
    kept = sortal(world.home, "workspace", "line4", "images_mb=50", "--json").report
    assert kept["metrics"]["bundles"]["value"] == 2.0
    assert kept["body"]["settings"]["images_mb"] == 50.0


def test_what_is_live_answers_from_its_own_place(world: World) -> None:
    report = sortal(world.home, "promote", "runs/photos-1", "line5", "--json").report
    done = sortal(world.home, "predict", report["paths"]["live"], "inbox")
    assert done.code == 0, done.err


def test_wrong_input_is_told_in_one_sentence(world: World, tmp_path: Path) -> None:
    refused(sortal(world.home, "promote", "nowhere", "line4"), "neither a run nor a bundle")
    refused(sortal(world.home, "promote", "runs/photos-1", "photos"), "neither a workspace nor an empty place")
    refused(sortal(world.home, "promote", "runs/photos-1", "line6", "--canary", "ten"), "percentage", "--canary 10%")
    refused(sortal(world.home, "promote", "runs/photos-1", "line6", "--canary", "10"), "above 0 and below 1")
    refused(sortal(world.home, "rollback", "photos"), "this is no workspace")
    refused(sortal(world.home, "rollback", "line6"), "nothing is live")
    refused(sortal(world.home, "workspace", "line6", "images=3"), "no such setting", "images_mb")
    refused(sortal(world.home, "workspace", "line6", "images_mb=-3"), "greater than 0")
    refused(sortal(world.home, "workspace", "line6", "images_mb=["), "no value in YAML", "images_mb=500")
    refused(sortal(world.home, "serve", "runs/photos-1", "port=2020-99-99"), "no value in YAML", "port=8000")
    refused(sortal(world.home, "serve", "runs/photos-1", "--host", "0.0.0.0"), "not authenticated", "--auth")
