"""Drawn data sets on disk: repeatable to the byte, true to their truth.csv, all there or not there at all."""

from __future__ import annotations

import csv
import io
import json
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.core.errors import DataError, InputError, MachineError
from sortal.data.synth import dataset
from sortal.data.synth.catalog import catalog
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.nuts import NUTS
from sortal.data.synth.options import SynthOptions
from sortal.data.synth.plates import PLATES
from sortal.data.synth.relief import Grid
from sortal.data.synth.render import picture
from sortal.data.synth.rods import RODS


def small(**changes):
    return SynthOptions(**({"classes": 4, "images": 24, "size_px": 48, "seed": 5} | changes))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def truth(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "truth.csv").read_text(encoding="utf-8"))))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def draw(index, specimen=0, **changes):
    settings = {"seed": 3, "specimen": specimen, "frame": specimen, "grade": "none", "drift": 0.0, "size_px": (64, 64)}
    return picture(catalog()[index], **(settings | changes))


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(tmp_path):
    everything = small(
        images=40, label_noise=0.1, exact_duplicates=0.1, near_duplicates=0.1, bursts=0.3, corrupt=0.1, defects=0.5
    )
    one = synthesize(tmp_path / "one", everything)
    two = synthesize(tmp_path / "two", SynthOptions(**(vars_of(everything) | {"workers": 2})))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert one.digest == two.digest


def vars_of(options: SynthOptions) -> dict[str, object]:
    return {name: getattr(options, name) for name in SynthOptions.__dataclass_fields__}


def test_another_seed_gives_other_pictures(tmp_path):
    one, two = synthesize(tmp_path / "one", small()), synthesize(tmp_path / "two", small(seed=6))
    assert one.digest != two.digest
    pictures = [{data for name, data in files(result.path).items() if name.endswith(".jpg")} for result in (one, two)]
    assert not pictures[0] & pictures[1]


def test_a_class_keeps_its_pictures_whatever_else_is_drawn():
    assert np.array_equal(draw(3, 7), draw(3, 7))
    assert not np.array_equal(draw(3, 7), draw(3, 8))
    assert not np.array_equal(draw(3, 7), draw(3, 7, seed=4))


def test_the_folder_has_what_the_truth_says(tmp_path):
    told: list[tuple[int, int]] = []
    options = small(size_px=(64, 48), new_class=1)
    result = synthesize(tmp_path / "parts", options, progress=lambda done, total: told.append((done, total)))
    rows = truth(result.path)
    assert told[-1] == (30, 30)
    assert result.images == len(rows) == 30
    assert {row["path"] for row in rows} | {"truth.csv", "synth.json"} == set(files(result.path))
    assert result.new_classes == (catalog()[4].name,)
    assert {row["label"] for row in rows if row["new_class"] == "1"} == set(result.new_classes)
    for row in rows:
        assert row["label"] == row["true_label"] == row["path"].split("/")[0]
        assert pixels(result.path / row["path"]).shape == (48, 64, 3)
    summary = json.loads((result.path / "synth.json").read_text(encoding="utf-8"))
    assert summary["digest"] == result.digest
    assert summary["counts"] == result.counts
    assert "workers" not in summary["options"]


def test_duplicates_corrupt_files_and_wrong_labels_are_as_the_truth_says(tmp_path):
    options = small(images=60, size_px=64, exact_duplicates=0.1, near_duplicates=0.1, corrupt=0.1, label_noise=0.1)
    folder = synthesize(tmp_path / "parts", options).path
    rows = truth(folder)
    assert [sum(row["duplicate_kind"] == kind for row in rows) for kind in ("exact", "near")] == [6, 6]
    assert sum(row["mislabeled"] == "1" for row in rows) == 6
    for row in rows:
        path = folder / row["path"]
        if row["corrupt"]:
            with pytest.raises(OSError):  # what Pillow raises for all that it cannot read
                pixels(path)
        if row["duplicate_kind"] == "exact":
            assert path.read_bytes() == (folder / row["duplicate_of"]).read_bytes()
        if row["duplicate_kind"] == "near":
            copy, source = pixels(path).astype(float), pixels(folder / row["duplicate_of"]).astype(float)
            assert 0 < np.abs(copy - source).mean() < 20
            assert np.corrcoef(copy.ravel(), source.ravel())[0, 1] > 0.8
    assert sum(bool(row["corrupt"]) for row in rows) == 6


def test_frames_of_a_burst_resemble_each_other_more_than_other_objects(tmp_path):
    folder = synthesize(tmp_path / "parts", small(classes=2, images=40, bursts=1.0)).path
    rows = truth(folder)
    within, between = [], []
    for one, two in pairwise(rows):
        away = float(np.abs(pixels(folder / one["path"]).astype(float) - pixels(folder / two["path"])).mean())
        (within if one["group"] == two["group"] else between).append(away)
    assert len(within) > 20
    assert np.mean(within) < 0.5 * np.mean(between)
    assert min(within) > 0


def test_drift_darkens_and_blurs():
    def sharpness(image):
        gray = image.mean(axis=2)
        return np.percentile(np.abs(np.diff(gray, axis=0)), 99.5) / gray.mean()

    clean = [draw(0, number, size_px=(128, 128)) for number in range(5)]
    drifted = [draw(0, number, size_px=(128, 128), drift=1.0) for number in range(5)]
    half = [draw(0, number, size_px=(128, 128), drift=0.5) for number in range(5)]
    assert np.mean(clean) > 1.1 * np.mean(half) > 1.2 * np.mean(drifted)
    assert np.mean([sharpness(i) for i in clean]) > 1.1 * np.mean([sharpness(i) for i in half])


@pytest.mark.parametrize("index", [0, 1, 6, 11])
def test_a_worse_grade_changes_more_of_the_part(index):
    def change(grade):
        pairs = [(draw(index, n, size_px=(96, 96)), draw(index, n, size_px=(96, 96), grade=grade)) for n in range(12)]
        return float(np.mean([np.abs(clean.astype(float) - worn).mean() for clean, worn in pairs]))

    light, medium, severe = change("light"), change("medium"), change("severe")
    assert 0.02 < light < medium < severe


def test_classes_can_be_told_apart_by_a_simple_rule():
    """Nearest class mean of radial brightness around the middle: turned parts stay alike under it."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    rings = np.hypot(rows, columns).astype(int)

    def features(image):
        flat = image.reshape(-1, 3).astype(float)
        means = [np.bincount(rings.ravel(), flat[:, c], 40)[:28] for c in range(3)]
        spread = np.bincount(rings.ravel(), flat.mean(axis=1) ** 2, 40)[:28]
        counts = np.bincount(rings.ravel(), minlength=40)[:28]
        mean = np.stack(means) / counts
        deviation = np.sqrt(np.clip(spread / counts - mean.mean(axis=0) ** 2, 0, None))
        return np.concatenate([(mean[0] - mean[2]), deviation, mean.mean(axis=0) - mean.mean(axis=0)[-1]])

    drawn = np.array([[features(draw(index, n)) for n in range(16)] for index in range(12)])
    scale = drawn.reshape(-1, drawn.shape[-1]).std(axis=0) + 1e-6
    centers = drawn[:, :10].mean(axis=1) / scale
    tested = drawn[:, 10:] / scale
    away = ((tested[:, :, None] - centers[None, None]) ** 2).sum(axis=-1)
    assert (away.argmin(axis=-1) == np.arange(12)[:, None]).mean() > 0.5  # chance is 0.083


def test_two_of_208_classes_of_one_finish_never_have_nearly_the_same_shape():
    axis = (np.arange(96, dtype=np.float32) - 47.5) * (31 / 96)
    x, y = np.meshgrid(axis, axis)
    grid = Grid(x=x, y=y, pixel_mm=31 / 96, roll=0.3)
    shapes = {}
    for part in catalog()[:208]:
        relief = (RODS | NUTS | PLATES)[part.kind](grid, part.size_mm, part.variant)
        shapes[part] = np.stack([relief.cover, relief.height * relief.cover])
    for one, two in combinations(shapes, 2):
        if one.finish == two.finish:
            smaller = min(shapes[one][0].sum(), shapes[two][0].sum())
            assert np.abs(shapes[one] - shapes[two]).sum() > 0.1 * smaller, (one.name, two.name)


def test_every_kind_shows_a_part_inside_the_picture():
    kinds = {part.kind: part for part in reversed(catalog())}
    for part in kinds.values():
        image = draw(part.index).astype(float).mean(axis=2)
        assert image[16:48, 16:48].std() > 5, part.name


@pytest.mark.parametrize("size", [(65, 47), (33, 64), 51])
def test_odd_sizes_are_drawn_as_asked(tmp_path, size):
    made = synthesize(tmp_path / "odd", SynthOptions(classes=3, images=9, size_px=size, seed=1)).path
    wanted = (size, size) if isinstance(size, int) else size
    found = set()
    for file in made.rglob("*.jpg"):
        with Image.open(file) as image:
            found.add(image.size)
    assert found == {wanted}


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        synthesize(tmp_path, small())
    with pytest.raises(DataError, match="not a folder"):
        synthesize(tmp_path / "note.txt", small())
    assert files(tmp_path) == {"note.txt": b"mine"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "parts").mkdir()
    assert synthesize(tmp_path / "parts", small()).images == 24
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_wrong_options_write_nothing(tmp_path):
    with pytest.raises(InputError):
        synthesize(tmp_path / "parts", small(drift=2.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_leaves_nothing_behind(tmp_path, workers):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "parts", small(workers=workers), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_machine_error_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(job: object) -> tuple[str, str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "_write_picture", full)
    with pytest.raises(MachineError, match="No space left"):
        synthesize(tmp_path / "parts", small())
    assert list(tmp_path.iterdir()) == []
