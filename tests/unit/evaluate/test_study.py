"""One evaluation from a source to its files, by a classifier that answers with the strongest color channel."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from sortal.core.decision import DecisionSpec
from sortal.core.errors import DataError, InputError, MachineError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec
from sortal.core.progress import Silent
from sortal.core.report import Report
from sortal.core.sections import EvaluateSection
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.evaluate.gallery import THUMBNAIL_PX, gallery, pair_pictures, shown_from
from sortal.evaluate.study import evaluate_source, measure, write_study
from sortal.evaluate.timed import with_latency
from sortal.runtime.classifier import Classifier
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.metadata import ArtifactInfo

NAMES = ("red", "green", "blue")


class Colors:
    """An engine whose logits are four times the mean of each channel."""

    name = "colors"
    metadata: ClassVar[dict[str, str]] = {}

    def run(self, batch: np.ndarray) -> Outputs:
        mean = batch.mean(axis=(2, 3))
        return Outputs(logits=4 * mean, embedding=mean, feature_map=batch)

    def close(self) -> None:
        pass


@pytest.fixture
def classifier() -> Classifier:
    info = ArtifactInfo(
        labels=LabelSet(names=NAMES),
        preprocess=PreprocessSpec(size=(8, 8), resize="stretch", mean=(0.0,) * 3, std=(0.25,) * 3),
        decision=DecisionSpec(),
        bundle_id="0" * 64,
        licence="none",
    )
    return Classifier(Colors(), info, threads=1)


def _write(folder: Path, shown: str, number: int = 0, size: tuple[int, int] = (12, 12)) -> None:
    color = [200 if name == shown else 10 * number for name in NAMES]
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(color)).save(folder / f"{shown}-{number}.png")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two right images a class, and one red image among the green ones."""
    for name in NAMES:
        for number in range(2):
            _write(tmp_path / "set" / name, name, number)
    _write(tmp_path / "set" / "green", "red", 3)
    return tmp_path / "set"


def _evaluate(classifier: Classifier, source: Path, **settings) -> Report:
    return evaluate_source(
        classifier, source, **({"out": None, "split": None, "engine": "auto", "listener": Silent()} | settings)
    )


def test_numbers_and_files(classifier: Classifier, source: Path, tmp_path: Path) -> None:
    report = _evaluate(classifier, source, out=tmp_path / "report")
    assert report.metrics["accuracy"].value == pytest.approx(6 / 7)
    assert report.provenance["engine"] == "colors"
    assert report.provenance["bundle_id"] == "0" * 64
    assert report.data_digest == scan(images(source)).content_digest
    assert json.loads(Path(report.paths["json"]).read_text())["metrics"] == report.model_dump()["metrics"]
    with Path(report.paths["predictions"]).open() as file:
        wrong = [row for row in csv.DictReader(file) if row["correct"] == "false"]
    assert [(row["image"], row["label"], row["answer"]) for row in wrong] == [("green/red-3.png", "green", "red")]


def test_without_a_folder_the_report_is_numbered(
    classifier: Classifier, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [Path(_evaluate(classifier, source).paths["report"]).parent for _ in range(2)]
    assert paths == [Path("evaluations/set-1"), Path("evaluations/set-2")]


def test_the_test_split_is_taken_where_there_is_one(classifier: Classifier, tmp_path: Path) -> None:
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        for name in NAMES:
            for number in numbers:
                _write(tmp_path / "set" / split / name, name, number)
    counts = {
        split: _evaluate(classifier, tmp_path / "set", split=split, out=tmp_path / str(split)).metrics["accuracy"].n
        for split in (None, "test", "train")
    }
    assert counts == {None: 3, "test": 3, "train": 6}
    with pytest.raises(DataError, match=r"no such split(.|\n)*val"):
        _evaluate(classifier, tmp_path / "set", split="val")


def test_images_of_unknown_classes_and_unreadable_ones_are_left_out_and_listed(
    classifier: Classifier, source: Path, tmp_path: Path
) -> None:
    _write(source / "zebra", "red", 5)
    (source / "red" / "bad.png").write_bytes(b"nothing")
    report = _evaluate(classifier, source, out=tmp_path / "report")
    assert report.metrics["accuracy"].n == 7
    assert report.body["counts"]["without_known_label"] == 1
    assert "unreadable" in [finding.code for finding in report.findings]
    assert "zebra" in (tmp_path / "report" / "predictions.csv").read_text()


@pytest.mark.parametrize("name", ["manifest.json", "recipe.yaml"])
def test_a_run_or_bundle_is_never_written_over(classifier: Classifier, source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(InputError, match="never overwritten"):
        _evaluate(classifier, source, out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]


def test_a_source_without_labels(classifier: Classifier, tmp_path: Path) -> None:
    _write(tmp_path / "flat", "red")
    with pytest.raises(DataError, match="no image has a label"):
        _evaluate(classifier, tmp_path / "flat")


def test_a_report_that_cannot_be_written_leaves_no_numbered_folder(
    classifier: Classifier, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.chdir(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(MachineError, match="File too large"):
            _evaluate(classifier, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "evaluations").iterdir()) == []


def test_measuring_alone_writes_nothing(classifier: Classifier, source: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    study = measure(classifier, scan(images(source)), listener=Silent(), split="test")
    assert sorted(tmp_path.rglob("*")) == before
    assert study.report.provenance["split"] == "test"
    assert study.labels.tolist().count(1) == 3
    written = write_study(study, tmp_path / "report")
    assert "evaluation-data" in Path(written.paths["report"]).read_text()


def test_the_page_shows_the_images_behind_its_cells(classifier: Classifier, tmp_path: Path) -> None:
    for name in NAMES:
        _write(tmp_path / "set" / name, name)
    _write(tmp_path / "set" / "green", "red", 3, size=(400, 200))
    study = measure(classifier, scan(images(tmp_path / "set")), listener=Silent())
    shown = gallery(study.predictions, study.labels, study.table.names(), show=shown_from(study.table))
    assert len(shown.names) == len(study.table)
    assert shown.names[0].startswith("green/")  # the one mistake comes first
    [(pair, [picture])] = pair_pictures(shown, NAMES).items()
    assert pair == ("green", "red")
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (THUMBNAIL_PX, THUMBNAIL_PX // 2)
        assert not image.getexif()


def test_columns_groups_and_settings_of_an_evaluation(classifier: Classifier, tmp_path: Path) -> None:
    rows = ["path,label,camera,part"]
    for number in range(30):
        name = NAMES[number % len(NAMES)]
        _write(tmp_path / "set" / name, name, number)
        rows.append(f"set/{name}/{name}-{number}.png,{name},{'left' if number < 20 else 'right'},{number // 5}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    settings = ["evaluate.reference={accuracy: {human: 0.7}}", f"contract.prevalence={{{NAMES[0]}: 0.01}}"]
    report = _evaluate(
        classifier, tmp_path / "list.csv", out=tmp_path / "out", by=["camera", "part"], group="part", settings=settings
    )
    assert report.body["intervals_count"] == {"what": "groups", "number": 6}
    slices = {(row[0], row[1]): row[2] for row in report.tables["slices"].rows}
    assert slices["camera", "left"] == 20
    assert slices["camera × part", "right × 4"] == 5
    assert report.tables["references"].rows[0][:3] == ("accuracy", "human", 0.7)
    assert "accuracy_at_prevalence" in report.metrics
    with pytest.raises(DataError, match="unknown class"):
        _evaluate(classifier, tmp_path / "list.csv", settings=["contract.prevalence={mauve: 0.1}"])
    with pytest.raises(InputError, match="no such column"):
        _evaluate(classifier, tmp_path / "list.csv", by=["camra"])


def test_a_page_without_thumbnails_names_its_images_and_shows_none(classifier: Classifier, tmp_path: Path) -> None:
    for name in NAMES:
        _write(tmp_path / "set" / name, name, 8)
    _write(tmp_path / "set" / "green", "red", 3)
    settings = EvaluateSection(thumbnails=False, robustness=4)
    study = measure(classifier, scan(images(tmp_path / "set")), listener=Silent(), settings=settings)
    written = write_study(study, tmp_path / "report")
    page = Path(written.paths["report"]).read_text(encoding="utf-8")
    assert 'src="data:image/jpeg' not in page
    assert '"thumb":{}' in page
    assert study.table.name(0) in page
    assert "Accuracy under corruption" in page
    assert not (tmp_path / "report/corruptions.png").exists()
    assert written.metrics["corrupted_accuracy"].n == 4


def test_time_is_measured_from_the_bytes_of_files_and_held_against_a_figure(
    classifier: Classifier, tmp_path: Path
) -> None:
    for name in NAMES:
        _write(tmp_path / "set" / name, name, 4)
    figures = {"accuracy": 0.2, "seconds_per_image": {"paper": 3.0}, "images_per_s": {"demand": 1e9}}
    settings = EvaluateSection(latency=40, reference=figures)
    report = measure(classifier, scan(images(tmp_path / "set")), listener=Silent(), settings=settings).report
    verdicts = {(row[0], row[1]): row[6] for row in report.tables["references"].rows}
    assert verdicts[("seconds_per_image", "paper")] == "below, better"
    assert verdicts[("images_per_s", "demand")] == "below, worse"
    assert verdicts[("accuracy", "reference")] == "above, better"
    assert not [found for found in report.findings if found.code == "reference_without_metric"]
    assert report.metrics["latency_p99_ms"].n == 40
    assert [row[0] for row in report.tables["latency"].rows] == ["from bytes to decision", "network alone"]


def test_arrays_have_no_time_from_their_bytes(classifier: Classifier, tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", images=np.full((6, 8, 8, 3), 90, np.uint8), labels=np.arange(6) % 3)
    table = scan(images(tmp_path / "some.npz"))
    report = with_latency(Report(kind="evaluation", subject="x", body={"confidence": 0.95}), classifier, table, 10)
    assert [found.code for found in report.findings] == ["latency_not_measured"]
    assert report.metrics == {}
