"""`sortal certify` from the command line and from Python: verdicts and exit codes, refusals, the ledger, the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import sortal as package
from sortal.core.bundle import open_bundle
from worlds import COLORS, World, class_folders, copied, refused, sortal


@pytest.fixture(scope="module")
def world(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Its own: what is written here is not found by others."""
    return copied(world, tmp_path_factory.mktemp("own") / "world")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTAL_STATE", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def home(world: World) -> Path:
    """The world with a hold-out of 40 images a color and some contracts."""
    class_folders(world.home / "holdout", dict.fromkeys(COLORS, 40), seed=50)
    contracts = {
        "easy": "max_error: 0.5\nmin_coverage: 0.5\nrecall: {red: 0.5}\nmax_latency_ms: 20000\nmax_size_mb: 50",
        "open": "recall: {red: 0.98}",
        "small": "max_error: 0.5\nmax_size_mb: 0.0001",
        "wrong": "max_eror: 0.1",
        "strange": "recall: {rad: 0.9}",
        "empty": "confidence: 0.9",
        "parts": "max_error: 0.5\nunit: part",
    }
    for name, text in contracts.items():
        (world.home / f"{name}.yaml").write_text(text)
    return world.home


def test_kept_undecided_and_broken_end_with_their_exit_codes(home: Path, world: World) -> None:
    kept = sortal(home, "certify", world.run, "holdout", "--contract", "easy.yaml", "--out", "c1")
    assert kept.code == 0, kept.err + kept.out
    assert "KEPT: " in kept.out
    assert "images a second from bytes to decision and" in kept.out
    saved = json.loads((home / "c1" / "certificate.json").read_text(encoding="utf-8"))
    assert saved["kind"] == "certificate"
    assert [clause["verdict"] for clause in saved["body"]["clauses"]] == ["kept"] * 5
    page = (home / "c1" / "certificate.html").read_text(encoding="utf-8")
    assert "The contract is kept" in page
    undecided = sortal(home, "certify", world.run, "holdout", "--contract", "open.yaml", "--json")
    assert undecided.code == 1
    assert undecided.report["body"]["verdict"] == "undecided"
    assert undecided.report["body"]["clauses"][0]["needed_of"] == "images of red"
    broken = sortal(home, "certify", world.run, "holdout", "--contract", "small.yaml")
    assert broken.code == 1
    assert "The contract is broken: size of the artifact." in broken.out


def test_uses_are_counted_whatever_the_folder_is_called(home: Path, world: World, tmp_path: Path) -> None:
    first = sortal(home, "certify", world.run, "holdout", "--contract", "open.yaml", "--json")
    assert first.report["provenance"]["earlier_uses"] == 0
    shutil.copytree(home / "holdout" / "red", tmp_path / "part" / "red")
    for file in sorted((tmp_path / "part" / "red").iterdir())[1:]:
        file.rename(file.with_name(f"renamed_{file.name}"))
    again = sortal(home, "certify", world.run, tmp_path / "part", "--contract", "open.yaml", "--json")
    assert again.report["provenance"]["earlier_uses"] == 1
    said = next(finding for finding in again.report["findings"] if finding["code"] == "hold_out_uses")
    assert "Of these 40 images up to 40 were used to certify once before" in said["message"]
    log = [json.loads(line) for line in (world.run / "test_reads.jsonl").read_text().splitlines()]
    assert log[-1]["reason"].startswith("sortal certify on ")


def test_seen_images_are_refused_by_content(home: Path, world: World, tmp_path: Path) -> None:
    shutil.copytree(home / "holdout", tmp_path / "mixed")
    fitted = [row.split(",") for row in (world.run / "split.csv").read_text().splitlines()[1:]]
    name = next(row[0] for row in fitted if row[3] == "train")
    shutil.copy(home / "photos" / name, tmp_path / "mixed" / "red" / "innocent.png")
    done = sortal(home, "certify", world.run, tmp_path / "mixed", "--contract", "easy.yaml")
    refused(done, "1 of 121 images were seen in training", "red/innocent.png", "take them out")
    done = sortal(home, "certify", world.run / "bundle", "photos", "--contract", "easy.yaml")
    refused(done, "were seen in training, validation or calibration")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("holdout", "--contract", "none.yaml"), ["there is no such contract", "none.yaml"]),
        (("holdout", "--contract", "wrong.yaml"), ["unknown key 'max_eror'", "max_error"]),
        (("holdout", "--contract", "strange.yaml"), ["does not know", "rad", "did you mean red?"]),
        (("holdout", "--contract", "empty.yaml"), ["promises nothing"]),
        (("holdout", "--contract", "parts.yaml"), ["a column that the hold-out does not have", "part"]),
        (("holdout",), ["trained without a contract", "--contract contract.yaml"]),
        (("nowhere", "--contract", "easy.yaml"), ["no such file or folder"]),
        (("unlabelled", "--contract", "easy.yaml"), ["label"]),
        (("others", "--contract", "easy.yaml"), ["none of the classes is known", "the classifier knows blue"]),
    ],
)
def test_bad_input_is_refused(home: Path, world: World, arguments: tuple[str, ...], said: list[str]) -> None:
    if not (home / "unlabelled").exists():
        shutil.copytree(home / "holdout" / "red", home / "unlabelled")
        class_folders(home / "others", {"cat": 3, "dog": 3}, seed=9)
    refused(sortal(home, "certify", world.run, *arguments), *said)


def test_python_attaches_a_certificate_on_request(home: Path, world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run, tmp_path / "run")
    contract = package.Contract(max_error=0.5, prevalence={"red": 0.01})
    report = package.certify(tmp_path / "run", home / "holdout", contract=contract, attach=True)
    assert report.body["verdict"] == "kept"
    bundle = open_bundle(tmp_path / "run" / "bundle")
    assert bundle.reports() == ["certificate-1"]
    assert (bundle.attachment("reports/certificate-1").path / "certificate.json").is_file()
    assert Path(report.paths["report"]).parent.parent == tmp_path / "run" / "certificates"
