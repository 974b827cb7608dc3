"""Wrong input: one clear error with the right exit code and nothing left behind, or a finding that is listed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from worlds import COLORS, TINY, World, class_folders, refused, sortal, spoil


def _table(folder: Path, rows: list[tuple[str, str]], columns: str = "path,label") -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([columns, *(f"{file},{label}" for file, label in rows)]) + "\n")
    return path


def _unreadable(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / "set" / name).mkdir(parents=True)
        (folder / "set" / name / "x.jpg").write_bytes(b"this is no image")


def _foreign_class(folder: Path) -> None:
    class_folders(folder / "set" / "train", {"a": 4, "b": 4})
    class_folders(folder / "set" / "test", {"a": 1, "b": 1, "zebra": 2}, seed=1)


SOURCES = {
    "an empty folder": (lambda folder: (folder / "set").mkdir(), "set", ("no images here", "class folders")),
    "one class": (
        lambda folder: class_folders(folder / "set", {"a": 4}),
        "set",
        ("at least two classes", "images of a"),
    ),
    "unreadable images": (_unreadable, "set", ("none of the images can be read", "2 × not_an_image", "a/x.jpg")),
    "a class in test that is not in train": (_foreign_class, "set", ("none to train on: zebra", "move some")),
    "a path that does not exist": (
        lambda folder: (folder / "sett").mkdir(),
        "set",
        ("no such file", "did you mean sett"),
    ),
    "no labels": (
        lambda folder: _table(class_folders(folder, {"a": 2}), [("a/000.png", ""), ("a/001.png", "")]),
        "labels.csv",
        ("no image has a label",),
    ),
    "another label column": (
        lambda folder: _table(class_folders(folder, {"a": 2}), [("a/000.png", "x"), ("a/001.png", "y")], "path,kind"),
        "labels.csv",
        ("no image has a label", "kind", "data.label=kind"),
    ),
    "a table of files that are gone": (
        lambda folder: _table(folder, [("a/000.png", "x"), ("a/001.png", "y")]),
        "labels.csv",
        ("none of the images exists", "a/000.png", "relative to the folder of the table"),
    ),
    "no images but text": (lambda folder: (folder / "set").write_text("hello"), "set", ("not a source of images",)),
}


@pytest.mark.parametrize("case", SOURCES)
def test_images_that_nothing_can_be_learned_from(case: str, tmp_path: Path) -> None:
    make, source, said = SOURCES[case]
    make(tmp_path)
    refused(sortal(tmp_path, "train", source, *TINY), *said)
    assert not (tmp_path / "runs").exists()


SETTINGS = {
    "an unknown model": (("model=resnet1888",), ("unknown architecture", "resnet1888", "did you mean")),
    "weights that do not exist": ((*TINY, "model.weights=nowhere.safetensors"), ("nowhere.safetensors",)),
    "weights that are none": ((*TINY, "model.weights=photos/red/000.png"), ("000.png", "safetensors")),
    "an unknown key": ((*TINY, "optim.lrr=3"), ("optim.lrr", "did you mean lr?")),
    "an unknown section": ((*TINY, "optmi.lr=3"), ("optmi", "optim")),
    "a wrong value": ((*TINY, "optim.lr=fast"), ("optim.lr", "fast")),
    "a value out of range": ((*TINY, "train.epochs=-1"), ("train.epochs", "-1")),
    "no setting": ((*TINY, "fast"), ("key=value", "fast")),
    "shares that leave nothing": ((*TINY, "data.split.val=0.5", "data.split.test=0.5"), ("val 0.5, test 0.5",)),
    "a frozen backbone without weights": ((*TINY, "train.freeze=backbone"), ("train.freeze", "pretrained")),
    "a recipe that does not exist": (("--recipe", "small-dta"), ("small-dta", "did you mean small-data")),
    "an unknown group": ((*TINY, "data.group=lot"), ("group", "lot")),
    "no taxonomy": ((*TINY, "data.level=coarse"), ("taxonomy",)),
    "another number of channels": ((*TINY, "input.channels=7"), ("input.channels", "7")),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_be_meant(case: str, world: World, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(world.home / "photos")
    settings, said = SETTINGS[case]
    refused(sortal(tmp_path, "train", "photos", *settings), *said)
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_network_are_refused_before_there_is_a_run(world: World, tmp_path: Path) -> None:
    weights = world.run / "bundle" / "weights.safetensors"
    wider = ("model.arguments={width: 0.3, depth: 0.5}", f"model.weights={weights}")
    refused(sortal(tmp_path, "train", world.home / "photos", *TINY, *wider), "weights.safetensors")
    assert not (tmp_path / "runs").exists()


def test_odd_images_are_listed_and_training_goes_on(tmp_path: Path) -> None:
    """Files that cannot be read, and classes that differ only by case."""
    class_folders(tmp_path / "photos", {"red": 6, "Red": 6, "blue": 6})
    spoil(tmp_path / "photos" / "blue")
    done = sortal(tmp_path, "train", "photos", *TINY, "train.epochs=1", "--json")
    assert done.code == 0, done.err
    found = {finding["code"]: finding for finding in done.report["findings"]}
    assert "Red" in found["case_collision"]["message"]
    rows = [row for finding in done.report["findings"] if finding["code"] == "unreadable" for row in finding["rows"]]
    assert "blue/nothing.png" in rows
    assert "left out" in done.err


def test_one_image_a_class_is_learned_with_a_warning_that_the_numbers_flatter(tmp_path: Path) -> None:
    class_folders(tmp_path / "photos", dict.fromkeys(COLORS, 1))
    done = sortal(tmp_path, "train", "photos", *TINY, "train.epochs=1", "--json")
    assert done.code == 0, done.err
    assert done.codes.count("no_test_split") == 1
    found = {finding["code"]: finding for finding in done.report["findings"]}
    assert found["single_image_class"]["severity"] == "warning"
    assert found["no_test_split"]["severity"] == "error"
    assert "trained on" in found["no_test_split"]["message"]


def _photo_of(world: World) -> Path:
    return world.home / "photos" / "red" / "000.png"


PREDICTIONS = {
    "an empty folder": ("{run}", "empty", (), ("empty", "no images here")),
    "images that do not exist": ("{run}", "nowhere", (), ("nowhere", "no such file")),
    "a model that does not exist": ("nothing", "{photo}", (), ("nothing", "no such model")),
    "a folder without a model": ("empty", "{photo}", (), ("empty", "neither a run, a bundle nor an artifact")),
    "an image for a model": ("{photo}", "{photo}", (), ("000.png", "not an ONNX model")),
    "an unknown kind of file": ("{run}", "{photo}", ("--out", "a.xls"), ("a.xls", ".parquet")),
    "an unknown engine": ("{run}", "{photo}", ("--engine", "tensorrt"), ("tensorrt", "onnxruntime")),
    "links without sorting": ("{run}", "{photo}", ("--link",), ("--sort-into",)),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_predictions_that_cannot_be_made(case: str, world: World, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    model, source, more, said = PREDICTIONS[case]
    given = [text.format(run=world.run, photo=_photo_of(world)) for text in (model, source)]
    refused(sortal(tmp_path, "predict", *given, *more), *said)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_what_is_read_is_not_written_over(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.home / "other", tmp_path / "files")
    table = _table(tmp_path, [("files/red/000.png", "red"), ("files/blue/000.png", "blue")])
    before = table.read_bytes()
    refused(sortal(tmp_path, "predict", world.run, "labels.csv", "--out", "labels.csv"), "labels.csv", "read from")
    refused(sortal(tmp_path, "predict", world.run, "files", "--sort-into", "files"), "files", "read from")
    refused(sortal(tmp_path, "evaluate", world.run, "files", "--out", world.run), "never overwritten")
    assert table.read_bytes() == before


EVALUATIONS = {
    "foreign classes": (
        lambda folder: class_folders(folder / "set", {"x": 2, "y": 2}),
        ("none of the classes", "x, y"),
    ),
    "an empty folder": (lambda folder: (folder / "set").mkdir(), ("no images here",)),
    "unreadable images": (_unreadable, ("none",)),
    "no labels": (lambda folder: class_folders(folder / "set" / "..", {"set": 2}), ("no image has a label",)),
}


@pytest.mark.parametrize("case", EVALUATIONS)
def test_evaluations_that_cannot_be_made(case: str, world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations"))
    make, said = EVALUATIONS[case]
    make(tmp_path)
    refused(sortal(tmp_path, "evaluate", "run", "set"), *said)
    folder = tmp_path / "run" / "evaluations"
    assert not folder.exists() or not list(folder.iterdir())


def test_a_split_that_is_not_there(world: World, tmp_path: Path) -> None:
    refused(sortal(tmp_path, "evaluate", world.run, world.home / "other", "--split", "test"), "test", "no splits")


def test_classes_that_the_classifier_does_not_know_are_listed(world: World, tmp_path: Path) -> None:
    class_folders(tmp_path / "set", {"red": 2, "zebra": 2}, seed=12)
    done = sortal(tmp_path, "evaluate", world.run, "set", "--out", "report", "--json")
    assert done.code == 0, done.err
    assert done.report["metrics"]["accuracy"]["n"] == 2
    assert any("zebra" in str(finding) for finding in done.report["findings"])


def test_show_refuses_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(sortal(tmp_path, "show", "nowhere"), "nowhere", "no such model")
    refused(sortal(tmp_path, "show", "empty"), "empty", "neither a run, a bundle nor an artifact")


@pytest.mark.parametrize("arguments", [["evaluate"], ["trian"], ["predict", "a"], ["show", "a", "--nope"]])
def test_a_wrong_command_line(arguments: list[str], tmp_path: Path) -> None:
    done = sortal(tmp_path, *arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage:" in done.err


def test_train_without_images_says_what_to_type(tmp_path: Path) -> None:
    done = sortal(tmp_path, "train")
    assert (done.code, done.out) == (2, "")
    assert "sortal train photos/" in done.err
    assert "--resume RUN" in done.err
