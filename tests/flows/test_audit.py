"""`sortal audit` through the command line, on a small drawn set with planted faults."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.data.open import images
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.faults import FaultOptions, Truth, plant, read_truth
from sortal.data.synth.options import SynthOptions
from worlds import Done, World, refused, sortal

LEAKING = ("near_duplicates_across_splits", "duplicates_across_splits", "burst_across_splits")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `parts`: about 90 pictures with planted faults."""
    home = tmp_path_factory.mktemp("audits")
    synthesize(home / "drawn", SynthOptions(classes=3, images=72, size_px=64, seed=4))
    options = FaultOptions(
        corrupt=0.06, exact_duplicates=0.06, near_duplicates=0.06, wrong_labels=0.0, leaking_groups=2, seed=1
    )
    plant(images(home / "drawn"), home / "parts", options)
    return home


@pytest.fixture(scope="module")
def done(home: Path) -> Done:
    return sortal(home, "audit", "parts", "--features", "none")


def _findings(folder: Path) -> list[dict[str, str]]:
    with (folder / "findings.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _names(folder: Path, *codes: str) -> set[str]:
    return {row["name"] for row in _findings(folder) if row["code"] in codes}


def _truth(home: Path) -> Truth:
    return read_truth(home / "parts")


def test_it_ends_with_1_and_says_what_is_worst_and_what_to_do(home: Path, done: Done) -> None:
    assert done.code == 1, done.err
    lines = done.out.splitlines()
    severities = [line.strip().split(":")[0] for line in lines if line.startswith("  ") and ": " in line][:6]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert "  1. Divide the images anew" in done.out
    assert "sortal split parts --ignore-splits --out split.csv" in done.out
    assert "sortal fix parts --plan audits/parts-1/audit.json" in done.out
    assert "Results: audits/parts-1/report.html" in done.out


def test_all_files_are_there_and_no_others(home: Path, done: Done) -> None:
    folder = home / "audits" / "parts-1"
    assert {path.name for path in folder.iterdir()} == {"report.html", "audit.json", "findings.csv", "plan.yaml"}
    report = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert report["kind"] == "audit"
    assert {report["paths"][name] for name in report["paths"]} == {
        f"audits/parts-1/{path.name}" for path in folder.iterdir()
    }
    severities = [found["severity"] for found in report["findings"]]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)


def test_planted_faults_are_rows_of_the_findings(home: Path, done: Done) -> None:
    folder, truth = home / "audits" / "parts-1", _truth(home)
    assert _names(folder, "unreadable") == {one.name for one in truth.of("corrupt")}
    copies = {frozenset((row["name"], row["other"])) for row in _findings(folder) if row["code"] == "exact_duplicates"}
    assert copies == {frozenset((one.name, one.source)) for one in truth.of("exact")}
    near = {frozenset((row["name"], row["other"])) for row in _findings(folder) if row["code"] == "near_duplicates"}
    assert {frozenset((one.name, one.source)) for one in truth.of("near")} <= near
    for group in truth.groups:
        assert group <= _names(folder, *LEAKING)


def test_the_plan_takes_broken_files_out_and_keeps_one_of_each_copy(home: Path, done: Done) -> None:
    plan = json.loads((home / "audits" / "parts-1" / "audit.json").read_text(encoding="utf-8"))["body"]["plan"]
    out = {action["image"] for action in plan["actions"] if action["do"] in ("quarantine", "drop")}
    truth = _truth(home)
    assert {one.name for one in truth.of("corrupt")} <= out
    for one in truth.of("exact"):
        assert len({one.name, one.source} & out) == 1


def test_a_plan_with_broken_files_in_it_is_of_the_data_set_as_it_still_is(home: Path, done: Done) -> None:
    shown = sortal(home, "fix", "parts", "--plan", "audits/parts-1/audit.json")
    assert shown.code == 0, shown.err
    assert "changed since the plan was made" not in shown.out + shown.err


def test_the_same_audit_gives_the_same_bytes(home: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert sortal(home, "audit", "parts", "--features", "none", "--out", tmp_path / "out").code == 1
        (tmp_path / "kept").mkdir(exist_ok=True)
        for name in ("audit.json", "findings.csv", "plan.yaml", "report.html"):
            kept = tmp_path / "kept" / name
            new = (tmp_path / "out" / name).read_bytes()
            assert not kept.exists() or kept.read_bytes() == new
            kept.write_bytes(new)


def test_a_clean_set_ends_with_0_and_the_next_number(home: Path) -> None:
    shutil.copytree(home / "drawn", home / "clean" / "parts")
    done = sortal(home / "clean", "audit", "parts", "--features", "none", "--json")
    assert done.code == 0, done.err
    assert done.report["metrics"]["severe"]["value"] == 0
    again = sortal(home / "clean", "audit", "parts", "--features", "none")
    assert "audits/parts-2/report.html" in again.out


def test_only_and_skip_choose_checks(home: Path, tmp_path: Path) -> None:
    only = sortal(
        home, "audit", "parts", "--features", "none", "--only", "readable,balance", "--out", tmp_path / "a", "--json"
    )
    assert set(only.report["body"]["checks"]) == {"readable", "balance"}
    skip = sortal(home, "audit", "parts", "--features", "none", "--skip", "readable", "--out", tmp_path / "b", "--json")
    assert "readable" not in skip.report["body"]["checks"]
    assert "duplicates" in skip.report["body"]["checks"]
    refused(sortal(home, "audit", "parts", "--only", "redable"), "redable", "readable")


def test_chinese_names_one_image_no_label_and_a_folder_of_broken_files(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label in ("六角螺栓", "垫圈 大"):
        (tmp_path / "照片" / label).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "照片" / label / f"图{number}.png")
    assert sortal(tmp_path, "audit", "照片", "--features", "none").code == 0
    assert "六角螺栓" in (tmp_path / "audits" / "照片-1" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "one" / "a").mkdir(parents=True)
    shutil.copy(tmp_path / "照片" / "六角螺栓" / "图0.png", tmp_path / "one" / "a")
    one = sortal(tmp_path, "audit", "one", "--features", "none")
    assert (one.code, "one class" in one.out) == (1, True)
    shutil.copytree(tmp_path / "照片" / "六角螺栓", tmp_path / "flat")
    assert sortal(tmp_path, "audit", "flat", "--features", "none").code == 0
    (tmp_path / "broken" / "a").mkdir(parents=True)
    (tmp_path / "broken" / "a" / "x.jpg").write_bytes(b"")
    assert sortal(tmp_path, "audit", "broken", "--features", "none").code == 1


def test_thumbnails_carry_pixels_alone_and_can_be_left_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    for name in ("a/1.jpg", "b/2.jpg"):
        (tmp_path / "p" / name).parent.mkdir(parents=True)
        Image.effect_noise((300, 200), 90).convert("RGB").save(tmp_path / "p" / name, exif=exif)
    (tmp_path / "p" / "a" / "3.jpg").write_bytes((tmp_path / "p" / "a" / "1.jpg").read_bytes())
    assert sortal(tmp_path, "audit", "p", "--features", "none").code == 0
    page = (tmp_path / "audits" / "p-1" / "report.html").read_text(encoding="utf-8")
    pictures = [base64.b64decode(text) for text in re.findall(r"data:image/jpeg;base64,([^\"]+)\"", page)]
    assert pictures
    for data in pictures:
        assert b"Exif" not in data
        assert b"SecretCamera" not in data
        with Image.open(io.BytesIO(data)) as image:
            assert max(image.size) <= 128
    assert sortal(tmp_path, "audit", "p", "--features", "none", "--no-thumbnails").code == 0
    assert (
        "data:image"
        not in (tmp_path / "audits" / "p-2" / "report.html").read_text(encoding="utf-8").split("</style>")[1]
    )


def test_seen_through_a_run(world: World) -> None:
    done = sortal(world.home, "audit", "other", "--model", "runs/photos-1", "--json")
    assert done.code == 0, done.err
    assert done.report["provenance"]["features"] == "runs/photos-1"
    assert done.report["body"]["checks"]["labels"]["judged"] == 9
    page = Path(world.home / done.report["paths"]["report"]).read_text(encoding="utf-8")
    assert 'id="map-canvas"' in page
    assert "not_looked_for" not in done.codes


def test_where_nothing_can_be_audited_nothing_is_written(home: Path, world: World, tmp_path: Path) -> None:
    refused(sortal(tmp_path, "audit", "nowhere"), "nowhere")
    (tmp_path / "file").write_text("x")
    refused(sortal(home, "audit", "parts", "--features", "none", "--out", tmp_path / "file"), "is a file")
    refused(sortal(home, "audit", "parts", "--features", "none", "--out", world.run), "never overwritten")
    refused(sortal(home, "audit", "parts", "--model", world.run, "--features", "some.yaml"), "two networks")
    assert not (tmp_path / "audits").exists()


def test_names_stay_on_their_line_and_odd_ones_are_counted(tmp_path: Path) -> None:
    for name in ("new\nline", "plain"):
        (tmp_path / "odd" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (9, 99, len(name))).save(tmp_path / "odd" / name / "a.png")
    (tmp_path / "odd" / "plain" / os.fsdecode(b"bad\xff.png")).write_bytes(b"")
    done = sortal(tmp_path, "audit", "odd", "--features", "none", "--only", "balance")
    assert "new\\nline" in done.out
    assert "left out: 1 name that is not valid UTF-8" in done.out
    assert all(line.startswith((" ", "odd:", "Most", "Results")) for line in done.out.splitlines())


def test_page_report_list_and_terminal_count_alike(home: Path, done: Done) -> None:
    folder = home / "audits" / "parts-1"
    report = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    rows = [row for row in _findings(folder) if row["severity"] != "info"]
    touched = len({row["name"] for row in rows})
    assert report["metrics"]["images_with_issues"]["value"] == touched
    assert f"{touched} of {report['metrics']['images']['value']:.0f} images need a look" in done.out
    urgent = len({row["name"] for row in rows if row["severity"] == "error"})
    assert f"{urgent} of them urgently" in done.out
    assert report["body"]["summary"][0] in (folder / "report.html").read_text(encoding="utf-8")
