"""Learning from a teacher: the formula on hand examples, hard and soft, features, and a student that starts from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from gratings import SOURCE, recipe
from sortal.core.errors import RecipeError
from sortal.core.preprocess import prepare
from sortal.core.progress import Silent
from sortal.core.recipe import load_recipe
from sortal.core.sections import DistillSection
from sortal.data.table import ImageTable
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.weights import save_weights
from sortal.train.context import Context
from sortal.train.distill import DistillLoss, answers_once, copy_matching_layers, cosine_distance, make_teaching
from sortal.train.losses import cross_entropy
from sortal.train.plan import make_plan
from sortal.train.teacher import Outputs

RECIPES = Path(__file__).parents[3] / "recipes"
SAMPLES = np.arange(2)


def outputs(logits: list[list[float]], embedding: Tensor | None = None) -> Outputs:
    return Outputs(
        logits=torch.tensor(logits), embedding=torch.zeros(len(logits), 4) if embedding is None else embedding
    )


def teaching(said: Outputs, *, student_dim: int = 4, seed: int = 0, **section: object) -> DistillLoss:
    made = DistillSection.model_validate({"teacher": "t", **section})
    return DistillLoss(made, lambda *_: said, student_dim=student_dim, teacher_dim=said.embedding.shape[1], seed=seed)


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def entropy(shares: list[float]) -> float:
    return -sum(share * math.log(share) for share in shares)


def call(loss: DistillLoss, hard: Tensor, logits: Tensor, embedding: Tensor | None = None) -> Tensor:
    embedding = torch.zeros(len(logits), 4) if embedding is None else embedding
    return loss(hard, logits, embedding, np.zeros((len(logits), 1, 1, 3), np.uint8), SAMPLES)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_the_soft_loss_is_the_formula_with_the_temperature_on_both_sides(temperature: float) -> None:
    student, teacher = [[1.0, -0.5, 0.25], [0.0, 2.0, 1.0]], [[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]
    kl = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        p, q = softmax(theirs, temperature), softmax(ours, temperature)
        kl += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    loss = teaching(outputs(teacher), temperature=temperature, ce_weight=0.7)
    value = float(call(loss, torch.tensor(1.5), torch.tensor(student)))
    assert value == pytest.approx(0.7 * 1.5 + 0.3 * kl * temperature**2, rel=1e-5)


def test_equal_logits_leave_the_labels_share_alone_and_a_temperature_flattens() -> None:
    logits = [[3.0, 1.0, -2.0]]
    assert float(call(teaching(outputs(logits)), torch.tensor(2.0), torch.tensor(logits))) == pytest.approx(1.4)
    assert entropy(softmax(logits[0], 1.0)) < entropy(softmax(logits[0], 2.0)) < entropy(softmax(logits[0], 3.0))


def test_the_gradient_is_that_of_cross_entropy_with_the_softened_answers() -> None:
    """d(T^2 KL)/dz = T (softmax(z/T) - softmax(t/T)) / N."""
    student = torch.tensor([[0.5, -1.0, 2.0], [1.0, 1.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.5, 2.0]], requires_grad=True)
    loss = teaching(Outputs(logits=teacher, embedding=torch.zeros(2, 4)), temperature=2.0, ce_weight=0.0)
    call(loss, torch.tensor(0.0), student).backward()
    expected = 2.0 * (torch.softmax(student / 2, 1) - torch.softmax(teacher / 2, 1)) / 2
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected.detach())
    assert teacher.grad is None


def test_the_hard_loss_is_cross_entropy_with_the_teachers_answers() -> None:
    student, teacher = torch.tensor([[0.5, -1.0, 2.0], [1.0, 1.5, 0.0]]), [[9.0, 0.0, 1.0], [0.0, 0.1, 0.2]]
    loss = teaching(outputs(teacher), kind="hard", ce_weight=0.25, temperature=9.0)
    taught = torch.nn.functional.cross_entropy(student, torch.tensor([0, 2]))
    assert float(call(loss, torch.tensor(4.0), student)) == pytest.approx(1.0 + 0.75 * float(taught), rel=1e-5)


def test_the_feature_term_is_the_angle_between_embeddings() -> None:
    embedding = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, -2.0, 0.0, 0.0]])
    said = outputs([[0.0, 0.0], [0.0, 0.0]], torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]]))
    loss = teaching(said, feature=0.5)
    assert loss.projection is None
    assert list(loss.parameters()) == []
    value = float(call(loss, torch.tensor(0.0), torch.zeros(2, 2), embedding))
    assert value == pytest.approx(0.5 * (1.0 + 2.0) / 2)
    assert float(cosine_distance(embedding, 7 * embedding)) == pytest.approx(0.0, abs=1e-6)


def test_a_projection_bridges_widths_and_learns() -> None:
    random = torch.Generator().manual_seed(0)
    student = torch.randn(32, 5, generator=random)
    said = Outputs(logits=torch.zeros(32, 2), embedding=student @ torch.randn(5, 3, generator=random))
    loss = teaching(said, student_dim=5, feature=1.0, ce_weight=1.0)
    assert loss.projection is not None
    assert tuple(loss.projection.weight.shape) == (3, 5)
    optimizer = torch.optim.SGD(loss.parameters(), lr=2.0)
    values = []
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(torch.tensor(0.0), torch.zeros(32, 2), student, np.zeros(0), SAMPLES)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.1 * values[0]


def test_the_projection_comes_from_the_seed_alone_and_is_absent_without_a_feature_term() -> None:
    said = Outputs(logits=torch.zeros(1, 2), embedding=torch.zeros(1, 3))
    before = torch.random.get_rng_state()
    one, same, other = (teaching(said, student_dim=5, seed=seed, feature=1.0) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.projection is not None
    assert torch.equal(one.projection.weight, same.projection.weight)  # type: ignore[union-attr]
    assert not torch.equal(one.projection.weight, other.projection.weight)  # type: ignore[union-attr]
    assert teaching(said, student_dim=5).projection is None


# Starting from the teacher


def test_layers_of_the_same_name_and_shape_are_copied_without_the_head() -> None:
    narrow = {"width": 0.15, "depth": 0.5}
    teacher = create(ModelSource(name="t", architecture="sortal_tiny", arguments={"width": 0.15, "depth": 1.0}),
                     classes=3, size=(16, 16), seed=1)  # fmt: skip
    student = create(
        ModelSource(name="t", architecture="sortal_tiny", arguments=narrow), classes=3, size=(16, 16), seed=2
    )
    head = student.linear.weight.clone()
    names = copy_matching_layers(student, teacher)
    theirs, ours = teacher.state_dict(), student.state_dict()
    assert names
    assert all(name.startswith("backbone.") and torch.equal(ours[name], theirs[name]) for name in names)
    fitting = [n for n, t in ours.items() if n.startswith("backbone.") and n in theirs and theirs[n].shape == t.shape]
    assert list(names) == fitting
    assert torch.equal(student.linear.weight, head)
    theirs[names[0]].zero_()
    assert not torch.equal(student.state_dict()[names[0]], theirs[names[0]]), "a copy, not the same memory"


# In a run


@pytest.fixture
def taught(make_table: Callable[..., ImageTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run's context with a teacher of random weights, its own head and the classes of the images."""
    monkeypatch.setenv("SORTAL_OFFLINE", "1")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    table = make_table(train=4, val=2)
    path = tmp_path / "teacher.safetensors"
    save_weights(create(SOURCE, classes=3, size=(16, 16), seed=9), path)
    (tmp_path / "names.txt").write_text("\n".join(table.labels.names))
    card = {
        "architecture": SOURCE.architecture,
        "arguments": SOURCE.arguments,
        "weights": path.name,
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "labels": "names.txt",
        "licence": "none",
        "source": "made in a test",
    }
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(card))

    def make(*settings: str, said: list[str] | None = None) -> tuple[Context, Network]:
        chosen = recipe(f"distill.teacher={tmp_path / 'teacher.yaml'}", *settings)
        plan = make_plan(chosen, table, SOURCE).model_copy(update={"threads": 1})

        class Heard(Silent):
            def say(self, text: str) -> None:
                (said if said is not None else []).append(text)

        context = Context(
            recipe=chosen,
            table=table,
            run=None,
            plan=plan,
            spec=plan.preprocess(chosen),
            listener=Heard(),
            deadline_s=None,
        )
        return context, create(SOURCE, classes=3, size=plan.size, seed=0)

    return make


def test_a_run_without_a_teacher_has_no_teaching(taught: Callable[..., tuple[Context, Network]]) -> None:
    context, network = taught("distill.teacher=null")
    assert make_teaching(context, network) is None


def test_a_run_measures_its_teacher_and_warns_where_the_student_is_as_good(
    taught: Callable[..., tuple[Context, Network]],
) -> None:
    said: list[str] = []
    context, network = taught(said=said)
    made = make_teaching(context, network)
    assert made is not None
    assert made.teacher_accuracy is not None
    assert any("of 6 validation images right" in text for text in said)
    finding = made.finding(made.teacher_accuracy)
    assert finding is not None
    assert finding.code == "weak_teacher"
    assert made.finding(made.teacher_accuracy - 0.1) is None


def test_pictures_that_never_change_are_answered_once_and_alike(
    taught: Callable[..., tuple[Context, Network]],
) -> None:
    context, network = taught("augment=none", "train.epochs=1")
    rows = context.labeled("train")
    live, once = make_teaching(context, network), make_teaching(context, network, rows)
    assert live is not None
    assert once is not None
    chosen = np.array([5, 0, 7])
    table = context.table
    pixels = np.stack([prepare(context.spec, np.asarray(table.read(int(rows[i])))) for i in chosen])
    logits, embedding = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(3, 4)
    first = live(torch.tensor(1.0), logits, embedding, pixels, chosen)
    torch.testing.assert_close(once(torch.tensor(1.0), logits, embedding, np.zeros_like(pixels), chosen), first)
    assert not torch.allclose(once(torch.tensor(1.0), logits, embedding, pixels, chosen[::-1].copy()), first)


def test_a_teacher_answers_once_where_pictures_stay_the_same_or_where_it_is_told_to() -> None:
    assert answers_once(recipe("augment=none"), "none")
    assert answers_once(recipe("augment.strength=0"), "none")
    assert not answers_once(recipe(), "none")
    assert not answers_once(recipe("augment=none", "augment.mixup=0.2"), "none")
    assert not answers_once(recipe("augment=none"), "mixup_rare")
    assert not answers_once(recipe("augment=none", "distill.answers=live"), "none")
    assert answers_once(recipe("augment.erase=0.2", "distill.answers=kept"), "none")


@pytest.mark.parametrize(
    ("key", "remedy"), [("augment.mixup=0.2", "none"), ("augment.cutmix=1", "none"), ("seed=0", "mixup_rare")]
)
def test_kept_answers_do_not_fit_mixed_pictures(key: str, remedy: str) -> None:
    with pytest.raises(RecipeError, match="mixed pictures"):
        answers_once(recipe("distill.answers=kept", key), remedy)


def test_a_student_learns_what_only_its_teacher_knows(taught: Callable[..., tuple[Context, Network]]) -> None:
    """With all the weight on the teacher the student comes to answer as it does, whatever the labels say."""
    context, network = taught("distill.ce_weight=0", "augment=none")
    made = make_teaching(context, network)
    assert made is not None
    x = torch.randn(16, 3, *context.spec.size, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        logits, embedding, _ = network(x)
        hard = cross_entropy(logits, torch.zeros(16, dtype=torch.int64))
        value = made(hard, logits, embedding, x, np.arange(16))
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.3 * values[0]


@pytest.mark.parametrize(
    ("name", "student", "temperature"),
    [("distill-mobilenet", "mobilenetv3_large_100", 3.0), ("distill-convnext", "convnext_tiny", 2.0)],
)
def test_recipes_pair_resnet152_with_small_students(name: str, student: str, temperature: float) -> None:
    found = load_recipe(RECIPES / f"{name}.yaml")
    assert (found.model.name, found.distill.temperature, found.distill.ce_weight) == (student, temperature, 0.7)
    assert str(found.distill.teacher).startswith("resnet152")
    assert load_recipe(RECIPES / "distill-t2.yaml").distill.temperature == 2.0
    assert load_recipe(RECIPES / "distill-t3.yaml").distill.temperature == 3.0
