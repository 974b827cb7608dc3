"""Teachers: the same picture for both, classes by name, frozen for good, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gratings import SOURCE, gratings
from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import RecipeError, SortalError
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec, normalize, prepare
from sortal.core.progress import Silent
from sortal.core.sections import DistillSection
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable
from sortal.export.publish import stamp, write_artifact
from sortal.models.backbones import create
from sortal.models.weights import save_weights, weights_bytes
from sortal.train.teacher import Teacher, align, open_teachers, remember, weak_teacher
from sortal.train.teacher_source import open_network
from sortal.train.teacher_view import as_seen, pictures_of
from worlds import class_folders

GREY = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
REGION = (0.1, 0.0, 0.9, 1.0)
SPEC = PreprocessSpec(size=(16, 16), resize="pad", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SORTAL_OFFLINE", "1")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SORTAL_ZOO", raising=False)


def pictures(count: int = 3, shape: tuple[int, int] = (16, 16), channels: int = 3) -> np.ndarray:
    """Smooth pictures with noise, so that resizing has something to do."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = [127 + 80 * np.sin((x * (1 + i) + y) / 5) for i in range(count)]
    noisy = np.stack(waves)[..., None] + random.normal(0, 20, (count, *shape, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def opened(teacher: str | tuple[str, ...], table: ImageTable, student: PreprocessSpec, **more: object) -> Teacher:
    found = open_teachers(DistillSection(teacher=teacher), table, student, threads=1, listener=Silent(), **more)  # type: ignore[arg-type]
    assert found is not None
    return found


# What a teacher sees


def test_a_teacher_of_the_same_size_sees_exactly_the_students_pixels_its_own_way() -> None:
    shown = pictures()
    teacher = SPEC.model_copy(update=GREY)
    seen = as_seen(pictures_of(shown, SPEC), teacher).numpy()
    np.testing.assert_allclose(seen, normalize(teacher, shown), atol=1e-5)


def test_the_students_normalized_and_mixed_input_is_seen_as_the_same_picture() -> None:
    shown = pictures(2)
    mixed = 0.3 * normalize(SPEC, shown[:1]) + 0.7 * normalize(SPEC, shown[1:])
    seen = as_seen(pictures_of(torch.from_numpy(mixed), SPEC), SPEC.model_copy(update=GREY)).numpy()
    expected = ((0.3 * shown[0] + 0.7 * shown[1]) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(seen[0], expected.transpose(2, 0, 1), atol=1e-4)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(8, 8), (48, 48)])
def test_other_sizes_are_resized_as_pillow_does(interpolation: str, size: tuple[int, int]) -> None:
    shown = pictures() // 2 + 64  # far enough from black and white that Pillow clips nothing between the axes
    teacher = PreprocessSpec(size=size, resize="stretch", interpolation=interpolation, **GREY)  # type: ignore[arg-type]
    seen = as_seen(pictures_of(shown, SPEC), teacher).numpy()
    expected = normalize(teacher, np.stack([prepare(teacher, image) for image in shown]))
    assert np.abs(seen - expected).max() < 1.5 / 255 / 0.25, "Pillow rounds to whole samples in between"


def test_bytes_and_floats_are_resized_alike() -> None:
    shown = pictures() // 2 + 64
    teacher = PreprocessSpec(size=(24, 24), interpolation="bicubic", **GREY)
    bytes_, floats = pictures_of(shown, SPEC), pictures_of(torch.from_numpy(normalize(SPEC, shown)), SPEC)
    assert (bytes_.dtype, floats.dtype) == (torch.uint8, torch.float32)
    difference = (as_seen(bytes_, teacher) - as_seen(floats, teacher)).abs().max()
    assert float(difference) < 1.5 / 255 / 0.25


def test_another_aspect_is_fitted_inside_and_nothing_is_cut_off() -> None:
    shown = np.full((1, 16, 32, 3), 200, np.uint8)
    teacher = PreprocessSpec(size=(16, 16), resize="crop", interpolation="bilinear", **GREY)
    seen = as_seen(pictures_of(shown, SPEC), teacher)[0, 0]
    value = (200 / 255 - 0.5) / 0.25
    assert torch.allclose(seen[4:12], torch.tensor(value), atol=1e-5)
    assert float(seen[:4].abs().max()) == float(seen[12:].abs().max()) == 0.0, "padded with the mean color"
    stretched = as_seen(pictures_of(shown, SPEC), teacher.model_copy(update={"resize": "stretch"}))
    assert torch.allclose(stretched, torch.tensor(value), atol=1e-5)


def test_channels_become_the_teachers() -> None:
    color, grey = pictures(), pictures(channels=1)
    one = PreprocessSpec(size=(16, 16), mean=(0.0,), std=(1.0,), channels=1)
    three = PreprocessSpec(size=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
    luma = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in color])
    assert np.abs(as_seen(pictures_of(color, SPEC), one).numpy()[:, 0] * 255 - luma).max() < 0.51
    spread = as_seen(pictures_of(grey, one), three)
    assert torch.equal(spread[:, 0], spread[:, 2])


def test_sixteen_bits_keep_their_range() -> None:
    deep = SPEC.model_copy(update={"depth": 16})
    samples = np.full((1, 16, 16, 3), 65535, np.uint16)
    assert torch.equal(pictures_of(samples, deep), torch.ones(1, 3, 16, 16))
    teacher = PreprocessSpec(size=(16, 16), **GREY)
    assert torch.equal(as_seen(pictures_of(samples, deep), teacher), torch.full((1, 3, 16, 16), 2.0))


# Classes


def test_classes_are_matched_by_name_and_alias() -> None:
    ours = LabelSet(names=("a", "b", "c"), aliases={"sea": "c"})
    assert align(ours, LabelSet(names=("sea", "a", "b")), name="t") == [1, 2, 0]


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (("a", "b"), "it does not know 'c'"),
        (("a", "b", "c", "d"), "it knows 'd', which the images do not have"),
        (("a", "b", "c", "sea"), "two of its classes are one of ours"),
        (("w", "x", "y", "z"), "'w', 'x', 'y' and 1 more"),
    ],
)
def test_other_classes_are_refused_by_name(theirs: tuple[str, ...], said: str) -> None:
    ours = LabelSet(names=("a", "b", "c"), aliases={"sea": "c"})
    with pytest.raises(RecipeError, match=said) as refused:
        align(ours, LabelSet(names=theirs), name="runs/x-1")
    assert "runs/x-1" in str(refused.value)


# Bundles


def color_graph() -> bytes:
    """embedding = mean over space, channel by channel; logits = the first channel, the second, their sum."""
    make, info = helper.make_node, helper.make_tensor_value_info
    weight = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]], np.float32)
    stored = {"space": np.asarray([2, 3], np.int64), "weight": weight}
    nodes = [
        make("Identity", ["image"], ["feature_map"]),
        make("ReduceMean", ["image", "space"], ["embedding"], keepdims=0),
        make("MatMul", ["embedding", "weight"], ["logits"]),
    ]
    shape = ["batch", 3, 16, 24]
    outputs = [("logits", ["batch", 3]), ("embedding", ["batch", 3]), ("feature_map", shape)]
    graph = helper.make_graph(
        nodes,
        "colors",
        [info("image", TensorProto.FLOAT, shape)],
        [info(name, TensorProto.FLOAT, dims) for name, dims in outputs],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with weights, and a graph that can be checked by eye; it looks at the middle of images."""
    folder = tmp_path_factory.mktemp("teacher")
    network = create(SOURCE, classes=3, size=(16, 16), seed=7)
    contents = BundleContents(
        labels=LabelSet(names=("垫圈", "nut", "Schraube")),
        preprocess=PreprocessSpec(size=(16, 24), resize="pad", region=REGION, **GREY),
        decision=DecisionSpec(),
        model=ModelSpec(
            architecture=network.architecture,
            arguments=network.arguments,
            classes=3,
            embedding=network.embedding_dim,
            parameters=network.parameter_count,
        ),
        weights=weights_bytes(network),
        weights_licence="Apache-2.0",
    )
    path = write_bundle(folder / "bundle", contents)
    (folder / "work.onnx").write_bytes(color_graph())
    stamp(folder / "work.onnx", open_bundle(path))
    write_artifact(path, "onnx", folder / "work.onnx", None)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> ImageTable:
    """Images of the bundle's classes, whose order here is that of folders."""
    return images(class_folders(tmp_path / "photos", {"垫圈": 2, "nut": 2, "Schraube": 2}))


def test_a_bundle_answers_in_the_students_class_order(bundle: Path, photos: ImageTable) -> None:
    shown = pictures(4, shape=(16, 24))
    theirs = open_bundle(bundle)
    mean = torch.from_numpy(normalize(theirs.preprocess, shown)).mean(dim=(2, 3))
    answers = {"垫圈": mean[:, 0], "nut": mean[:, 1], "Schraube": mean[:, 0] + mean[:, 1]}
    assert photos.labels.names != theirs.labels.names, "the orders differ"
    for path in (bundle, bundle.parent, bundle / "artifacts" / "onnx"):
        with opened(str(path), photos, theirs.preprocess) as teacher:
            outputs = teacher.outputs(shown)
            expected = torch.stack([answers[name] for name in photos.labels.names], dim=1)
            torch.testing.assert_close(outputs.logits, expected)
            torch.testing.assert_close(teacher.embedding(shown), mean)
            assert not outputs.logits.requires_grad
            assert teacher.embedding_dim == 3


def test_several_teachers_average_their_probabilities(bundle: Path, photos: ImageTable, card) -> None:
    spec = open_bundle(bundle).preprocess
    other = str(card(3, ("nut", "Schraube", "垫圈")))
    one, two, both = (opened(names, photos, spec) for names in (str(bundle), other, (str(bundle), other)))
    shown = pictures(2, shape=(16, 24))
    mean = (torch.softmax(one.logits(shown), 1) + torch.softmax(two.logits(shown), 1)) / 2
    found = both.outputs(shown)
    torch.testing.assert_close(torch.softmax(found.logits, 1), mean)
    torch.testing.assert_close(found.embedding.square().sum(1), torch.full((2,), 2.0))
    assert both.embedding_dim == one.embedding_dim + two.embedding_dim
    assert len({one.digest, two.digest, both.digest}) == 3


def test_a_teacher_that_looks_at_another_region_is_refused(bundle: Path, photos: ImageTable) -> None:
    with pytest.raises(RecipeError, match="would not see the same picture") as refused:
        opened(str(bundle), photos, SPEC)
    assert "input.region=[0.1, 0.0, 0.9, 1.0]" in str(refused.value)


def test_a_bundle_without_the_students_classes_is_refused(bundle: Path, tmp_path: Path) -> None:
    table = images(class_folders(tmp_path / "other", {"nut": 1, "Schraube": 1, "gear": 1}))
    with pytest.raises(RecipeError, match="it does not know 'gear'; it knows '垫圈'"):
        opened(str(bundle), table, open_bundle(bundle).preprocess)


def test_layers_can_be_taken_from_a_run_or_a_bundle(bundle: Path) -> None:
    for path in (bundle, bundle.parent):
        network = open_network(str(path))
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_no_teacher_and_unknown_teachers(make_table: Callable[..., ImageTable]) -> None:
    table = make_table()
    assert open_teachers(DistillSection(), table, SPEC, threads=1, listener=Silent()) is None
    with pytest.raises(RecipeError, match="no such teacher"):
        opened("runs/photos-99", table, SPEC)
    with pytest.raises(SortalError, match=r"unknown|no such"):
        opened("resnet_of_nobody", table, SPEC)
    with pytest.raises(RecipeError, match="no weights"):
        opened("sortal_tiny", table, SPEC)


# Weights cards


@pytest.fixture
def card(tmp_path: Path) -> Callable[..., Path]:
    """A card of a small network with `classes` outputs, and names of its classes where given."""

    def make(classes: int, names: tuple[str, ...] = ()) -> Path:
        folder = tmp_path / f"zoo{classes}{''.join(names)}"
        folder.mkdir()
        network = create(SOURCE, classes=classes, size=(16, 16), seed=5)
        torch.nn.init.normal_(network.linear.weight, std=1.0, generator=torch.Generator().manual_seed(classes))
        save_weights(network, folder / "net.safetensors")
        data = {
            "architecture": SOURCE.architecture,
            "arguments": SOURCE.arguments,
            "weights": "net.safetensors",
            "sha256": sha256((folder / "net.safetensors").read_bytes()).hexdigest(),
            "input": {"size": 24, "mean": [0.5] * 3, "std": [0.5] * 3},
            "licence": "Apache-2.0",
            "source": "made in a test",
        }
        if names:
            (folder / "labels.txt").write_text("\n".join(names))
            data["labels"] = "labels.txt"
        (folder / "net.yaml").write_text(yaml.safe_dump(data))
        return folder / "net.yaml"

    return make


def test_a_card_with_our_classes_keeps_its_own_head(
    make_table: Callable[..., ImageTable], card: Callable[..., Path]
) -> None:
    table = make_table()
    names = tuple(reversed(table.labels.names))
    path = card(3, names)
    student = SPEC.model_copy(update={"size": (24, 24), "mean": (0.5,) * 3, "std": (0.5,) * 3})
    teacher = opened(str(path), table, student)
    network = create(SOURCE, classes=3, size=(16, 16), seed=5).eval()
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path.with_name("net.safetensors")))
    shown = pictures(shape=(24, 24))
    with torch.no_grad():
        expected = network(torch.from_numpy(normalize(student, shown)))[0].flip(1)
    torch.testing.assert_close(teacher.logits(shown), expected, atol=1e-4, rtol=1e-4)


def test_any_pretrained_network_becomes_a_teacher_by_a_head_fitted_on_its_features(
    make_table: Callable[..., ImageTable], card: Callable[..., Path]
) -> None:
    table = make_table(train=12, val=6)
    said: list[str] = []

    class Heard(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    section = DistillSection(teacher=str(card(7, tuple("abcdefg"))))
    teacher = open_teachers(section, table, SPEC, threads=1, listener=Heard())
    assert teacher is not None
    rows = table.split_rows("val")
    kept, outputs = remember(teacher, table, rows, SPEC, threads=0, listener=Silent(), stage="s")
    right = (outputs.logits.argmax(1).numpy() == table.label_array()[kept]).mean()
    assert np.array_equal(kept, rows)
    assert right > 0.6, "three gratings by random features"
    assert any("a linear head fitted on its frozen features" in text and f"{right:.1%}" in text for text in said)


def test_remembered_answers_are_those_of_the_same_pictures(
    make_table: Callable[..., ImageTable], card: Callable[..., Path]
) -> None:
    table = make_table(train=5)
    teacher = opened(str(card(3, table.labels.names)), table, SPEC)
    rows = table.split_rows("train")
    kept, outputs = remember(teacher, table, rows, SPEC, threads=0, listener=Silent(), stage="s")
    shown = np.stack([prepare(SPEC, np.asarray(table.read(int(row)))) for row in rows])
    difference = (outputs.logits - teacher.logits(shown)).abs().max()
    assert float(difference) < 0.05 * float(outputs.logits.std()), "up to the rounding of resized bytes"
    assert outputs.embedding.shape == (len(kept), teacher.embedding_dim)


def test_answers_are_kept_for_later_runs_by_the_teacher_and_the_content(
    make_table: Callable[..., ImageTable], card: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = scan(make_table(train=5))
    rows = table.split_rows("train")
    teacher, other = (opened(str(card(3, names)), table, SPEC) for names in (table.labels.names, ("2", "1", "0")))

    def ask(asked: Teacher) -> torch.Tensor:
        return remember(asked, table, rows, SPEC, threads=0, listener=Silent(), stage="s", keep=True)[1].logits

    first, of_other = ask(teacher), ask(other)
    assert not torch.allclose(first, of_other), "another teacher has other answers"
    monkeypatch.setattr(Teacher, "outputs", None)  # nobody is asked any more
    assert torch.equal(ask(teacher), first)
    assert torch.equal(ask(other), of_other)


def test_nothing_of_a_teacher_changes_while_it_teaches(
    make_table: Callable[..., ImageTable], card: Callable[..., Path]
) -> None:
    table = make_table()
    teacher = opened(str(card(3, table.labels.names)), table, SPEC)
    network = teacher._members[0].network  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for number in range(3):
        x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(number), requires_grad=True)
        outputs = teacher.outputs(x)
        assert not outputs.logits.requires_grad
        assert not outputs.embedding.requires_grad
    assert not network.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert any("running_mean" in name for name in before), "there are statistics that could have changed"


def test_elongated_pictures_keep_their_shape_for_a_card(
    tmp_path: Path, make_table: Callable[..., ImageTable], card: Callable[..., Path]
) -> None:
    table = gratings(tmp_path / "long.npz", classes=3, train=4, val=2)
    teacher = opened(str(card(9)), table, SPEC.model_copy(update={"size": (16, 64)}))
    height, width = teacher._members[0].spec.size
    assert width > height


# Strength


def test_a_teacher_that_is_not_better_is_warned_about_with_both_numbers() -> None:
    assert weak_teacher(0.91, 0.9, names=("t",)) is None
    for accuracy in (0.9, 0.85):
        finding = weak_teacher(accuracy, 0.9, names=("runs/a-1", "b"))
        assert finding is not None
        assert (finding.code, finding.severity) == ("weak_teacher", "warning")
        assert f"{accuracy:.1%}" in finding.message
        assert "90.0%" in finding.message
        assert "runs/a-1, b" in finding.message
