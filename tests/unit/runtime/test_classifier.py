"""One classifier, every kind of input, every place it can be opened from; bad images are rows, not crashes."""

from __future__ import annotations

import io
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from sortal.core.bundle import open_bundle
from sortal.core.errors import BundleError, DataError, InputError
from sortal.runtime.classifier import open_classifier

ORIENTATION = 0x0112


def encoded(image: np.ndarray, *, orientation: int | None = None, format: str = "PNG") -> bytes:
    picture, exif = Image.fromarray(image), Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    file = io.BytesIO()
    picture.save(file, format=format, exif=exif.tobytes() if orientation else b"", quality=95)
    return file.getvalue()


def flat(*color: int) -> np.ndarray:
    return np.full((20, 30, 3), color, np.uint8)


@pytest.fixture
def classifier(bundle):
    with open_classifier(bundle, threads=1) as opened:
        yield opened


def test_every_kind_of_input_gets_the_same_answer(classifier, halves, tmp_path):
    data = encoded(halves)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    kinds = [
        path,
        str(path),
        data,
        halves,
        Image.open(io.BytesIO(data)),
        np.dstack([halves, np.full((20, 40), 255, np.uint8)]),
    ]
    predictions = classifier.predict(kinds)
    assert predictions.answers() == ["red"] * len(kinds)
    assert len(np.unique(predictions.probabilities, axis=0)) == 1
    assert predictions.names == (str(path), str(path), "input[2]", "input[3]", "input[4]", "input[5]")
    assert predictions.errors == {}


def test_batches_that_follow_one_another_do_not_disturb_what_was_answered(classifier):
    colors = [flat(250, 0, 0), flat(0, 250, 0), flat(0, 0, 250)]
    apart = [classifier.predict([color]).probabilities[0].copy() for color in colors]
    first, embeddings = classifier.predict_outputs(colors, batch=2)
    kept = first.probabilities.copy(), embeddings.copy()
    classifier.predict(colors[::-1], batch=1)
    np.testing.assert_array_equal(first.probabilities, kept[0])
    np.testing.assert_array_equal(embeddings, kept[1])
    np.testing.assert_allclose(first.probabilities, np.stack(apart), atol=1e-6)


def test_three_channels_are_rgb(classifier):
    assert classifier.predict([flat(250, 0, 0), flat(0, 250, 0), flat(0, 0, 250)]).answers() == ["red", "green", "blue"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_paths_bytes_and_pillow_images_alike(orientation, classifier, halves, tmp_path):
    data = encoded(halves, orientation=orientation, format="JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    chances = classifier.predict([path, data, Image.open(io.BytesIO(data))]).probabilities
    np.testing.assert_array_equal(chances[0], chances[1])
    np.testing.assert_array_equal(chances[0], chances[2])
    turned = {1: "red", 2: "blue", 3: "blue", 4: "red"}
    if orientation in turned:
        assert classifier.predict(data).answers() == [turned[orientation]]


def test_images_that_cannot_be_read_become_rows(classifier, halves, tmp_path):
    data = encoded(halves)
    (tmp_path / "empty.png").touch()
    inputs = [data, tmp_path / "absent.png", halves, tmp_path / "empty.png", b"no image", data[:60], tmp_path, data]
    predictions = classifier.predict(inputs, batch=3)
    assert {row: code for row, (code, _) in predictions.errors.items()} == {
        1: "missing",
        3: "empty",
        4: "not_an_image",
        5: "truncated",
        6: "not_a_file",
    }
    assert predictions.answers() == ["red", None, "red", None, None, None, None, "red"]
    assert np.isnan(predictions.probabilities[[1, 3, 4, 5, 6]]).all()


def test_only_unreadable_images_and_no_images_at_all(classifier):
    assert classifier.predict([b"", b"x"]).answers() == [None, None]
    predictions, embeddings = classifier.predict_outputs([])
    assert (len(predictions), len(embeddings)) == (0, 0)


def test_what_is_no_image_is_refused(classifier):
    with pytest.raises(InputError, match="not an image") as caught:
        classifier.predict([b"", 7])
    assert "input[1]" in str(caught.value)


def test_a_single_image_needs_no_list(classifier, halves, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(halves))
    for image in (path, str(path), encoded(halves), halves, Image.fromarray(halves)):
        assert classifier.predict(image).answers() == ["red"]
    assert classifier.predict(np.stack([halves, halves[:, ::-1]])).answers() == ["red", "blue"]


def test_a_folder_and_a_table_are_read_as_datasets(classifier, tmp_path):
    from sortal.data.open import images

    for name, color in {"red": (250, 0, 0), "blue": (0, 0, 250)}.items():
        (tmp_path / name).mkdir()
        for index in range(3):
            (tmp_path / name / f"{index}.png").write_bytes(encoded(flat(*color)))
    table = images(tmp_path)
    by_table, by_path = classifier.predict(table, batch=2), classifier.predict(tmp_path)
    assert by_table.names == by_path.names == tuple(table.names())
    assert by_table.answers() == [name.split("/")[0] for name in table.names()]


def test_a_path_that_does_not_exist_is_an_error(classifier, tmp_path):
    with pytest.raises(DataError):
        classifier.predict(tmp_path / "absent")


def test_order_is_kept_and_progress_is_told(classifier):
    colors = np.random.default_rng(0).integers(0, 3, 50)
    told = []
    images = [flat(*(250 * (np.arange(3) == color))) for color in colors]
    predictions = classifier.predict(images, batch=8, progress=lambda done, total: told.append((done, total)))
    np.testing.assert_array_equal(predictions.index, colors)
    assert told[-1] == (50, 50)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_single_image_is_answered_as_among_others(classifier):
    told = []
    images = [flat(250, 0, 0), b"", flat(0, 0, 250)]
    together = classifier.predict(images)
    for row, image in enumerate(images):
        alone = classifier.predict([image], progress=lambda done, total: told.append((done, total)))
        np.testing.assert_array_equal(alone.probabilities[0], together.probabilities[row])
        assert alone.answers() == [together.answers()[row]]
        assert alone.errors.get(0) == together.errors.get(row)
    assert told == [(1, 1)] * 3


def test_embeddings_stand_beside_the_answers(classifier):
    predictions, embeddings = classifier.predict_outputs([flat(255, 0, 51), b"", flat(0, 255, 0)])
    assert predictions.answers() == ["red", None, "green"]
    np.testing.assert_allclose(embeddings[[0, 2]], [[4.0, 0, 0.8], [0, 4.0, 0]], atol=1e-5)
    assert np.isnan(embeddings[1]).all()


def test_the_decision_of_the_bundle_is_applied(classifier):
    predictions = classifier.predict([flat(250, 0, 0), flat(100, 100, 90)])
    assert predictions.abstained.tolist() == [False, True]
    assert predictions.bundle_id == classifier.bundle_id


def test_only_a_few_batches_are_opened_ahead(bundle):
    """Images are opened as they are needed: a consumer that stands still holds the readers back."""
    from sortal.runtime.feed import prepared_batches
    from sortal.runtime.sources import Item

    opened, lock = [], threading.Lock()

    def open_image(row):
        with lock:
            opened.append(row)
        return flat(1, 2, 3)

    items = [Item(name=str(row), open=lambda row=row: open_image(row)) for row in range(100)]
    batches = prepared_batches(items, open_bundle(bundle).preprocess, batch=4, workers=2)
    next(batches)
    assert len(opened) <= 12
    batches.close()
    assert len(opened) <= 12


def test_a_reader_that_fails_unexpectedly_is_not_swallowed(bundle):
    from sortal.runtime.feed import prepared_batches
    from sortal.runtime.sources import Item

    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(prepared_batches([Item(name="a", open=broken)], open_bundle(bundle).preprocess, batch=4, workers=1))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "auto"])
def test_a_run_a_bundle_an_artifact_and_a_file_open_alike(engine, bundle, tmp_path, halves):
    loose, copied = tmp_path / "model.onnx", tmp_path / "copied"
    shutil.copyfile(bundle / "artifacts" / "onnx" / "model.onnx", loose)
    shutil.copytree(bundle / "artifacts" / "onnx", copied)
    places = [bundle.parent, bundle, bundle / "artifacts" / "onnx", bundle / "artifacts" / "onnx" / "model.onnx"]
    for place in [*places, loose, copied]:
        with open_classifier(place, engine=engine, threads=1) as opened:
            assert opened.bundle_id == open_bundle(bundle).id
            assert opened.decision.threshold == 0.6
            assert opened.predict([halves]).answers() == ["red"]


def altered(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("place", ["bundle", "bundle/artifacts/onnx", "bundle/artifacts/onnx/model.onnx"])
@pytest.mark.parametrize("victim", ["labels.json", "artifacts/onnx/model.onnx", "artifacts/onnx/manifest.json"])
def test_an_altered_bundle_is_refused_from_every_place(place, victim, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "bundle")
    altered(tmp_path / "bundle" / victim, lambda data: data.__setitem__(len(data) // 2, data[len(data) // 2] ^ 1))
    with pytest.raises(BundleError):
        open_classifier(tmp_path / place, threads=1)


def test_a_copied_artifact_that_was_altered_is_refused(bundle, tmp_path):
    shutil.copytree(bundle / "artifacts" / "onnx", tmp_path / "copied")
    altered(tmp_path / "copied" / "model.onnx", lambda data: data.append(0))
    with pytest.raises(BundleError):
        open_classifier(tmp_path / "copied", threads=1)


def test_places_without_a_classifier(tmp_path, bundle):
    with pytest.raises(BundleError, match="no such model"):
        open_classifier(tmp_path / "absent")
    with pytest.raises(BundleError, match="neither a run"):
        open_classifier(tmp_path)
    with pytest.raises(InputError, match="unknown inference engine"):
        open_classifier(bundle, engine="onnx")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match="not an ONNX model"):
        open_classifier(tmp_path / "notes.txt")


def test_a_bundle_without_its_artifact_says_so(tmp_path, bundle):
    shutil.copytree(bundle, tmp_path / "bundle")
    shutil.rmtree(tmp_path / "bundle" / "artifacts")
    with pytest.raises(BundleError, match="artifacts/onnx"):
        open_classifier(tmp_path / "bundle")


def test_a_closed_classifier_says_so(bundle, halves):
    with open_classifier(bundle, threads=1) as opened:
        pass
    with pytest.raises(BundleError, match="closed"):
        opened.predict([halves])
