"""Images without labels beside a teacher: they change what is learned by its answers alone."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from gratings import SOURCE, draw, recipe
from sortal.core.errors import DataError, RecipeError
from sortal.core.sections import DistillSection
from sortal.data.table import ImageTable
from sortal.models.backbones import create
from sortal.models.weights import save_weights
from sortal.train.criterion import Wrapped, make_criterion
from sortal.train.distill import DistillLoss, answers_once
from sortal.train.fit import FitResult, fit
from sortal.train.loader import Batch
from sortal.train.losses import cross_entropy, distillation
from sortal.train.plan import make_plan
from sortal.train.teacher import Outputs
from sortal.train.team import SOLO
from sortal.train.unlabelled import Beside, check_unlabelled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve gratings without labels, and a file that is no image."""
    made, random = tmp_path / "more", np.random.default_rng(3)
    made.mkdir()
    for number in range(12):
        Image.fromarray(draw(number % 3, 3, random, 16, 20.0)).save(made / f"{number}.png")
    (made / "broken.png").write_bytes(b"no image")
    return made


@pytest.fixture
def trained(make_table: Callable[..., ImageTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Fits a small network taught by another, and what was said."""
    monkeypatch.setenv("SORTAL_OFFLINE", "1")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    table, path = make_table(train=4, val=2), tmp_path / "teacher.safetensors"
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

    def make(*settings: str) -> FitResult:
        chosen = recipe(f"distill.teacher={tmp_path / 'teacher.yaml'}", *settings)
        plan = make_plan(chosen, table, SOURCE).model_copy(update={"threads": 1})
        return fit(chosen, table, source=SOURCE, plan=plan)

    return make


class _More(Beside):
    """Always the same images."""

    def __init__(self, more: torch.Tensor):
        super().__init__({}, 1)
        self.more = more

    def images(self, batch: Batch, like: torch.Tensor) -> torch.Tensor:
        return self.more


def test_the_labels_loss_is_that_of_labelled_images_and_the_teachers_that_of_all() -> None:
    network = create(SOURCE, classes=3, size=(16, 16), seed=1).eval()
    random = torch.Generator().manual_seed(0)
    images, more = torch.randn(4, 3, 16, 16, generator=random), torch.randn(6, 3, 16, 16, generator=random)
    labels, answers = torch.tensor([0, 1, 2, 0]), torch.randn(10, 3, generator=random)
    section = DistillSection(teacher="t", temperature=2.0, ce_weight=0.4)
    teaching = DistillLoss(
        section, lambda *_: Outputs(logits=answers, embedding=torch.zeros(10, 4)), student_dim=4, teacher_dim=4
    )
    batch = Batch(pixels=np.zeros((4, 16, 16, 3), np.uint8), labels=labels, samples=np.arange(4), epoch=0, step=0)
    criterion = make_criterion(
        cross_entropy, teaching, Wrapped(SOLO, compiled=False), altered=False, beside=_More(more)
    )
    with torch.no_grad():
        value = criterion(network, images, labels, batch)
        logits = network(torch.cat([images, more]))[0]
        soft = distillation(logits, answers, temperature=2.0)
        expected = 0.4 * cross_entropy(logits[:4], labels) + 0.6 * soft
    assert float(value) == pytest.approx(float(expected), rel=1e-5)


def test_a_run_learns_from_them_and_repeats_to_the_bit(trained: Callable[..., FitResult], folder: Path) -> None:
    alone = trained().network.state_dict()
    first, again = (trained(f"distill.unlabelled={folder}").network.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], alone[name]) for name in first)


def test_a_folder_without_an_image_is_an_error(trained: Callable[..., FitResult], tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError):
        trained(f"distill.unlabelled={tmp_path / 'bad'}")


def test_without_a_teacher_or_with_kept_answers_they_are_refused() -> None:
    with pytest.raises(RecipeError, match="without a teacher"):
        check_unlabelled(recipe("distill.unlabelled=more"))
    with pytest.raises(RecipeError, match="answers live"):
        check_unlabelled(recipe("distill.unlabelled=more", "distill.teacher=t", "distill.answers=kept"))
    still = ("distill.teacher=t", "augment=none")
    assert answers_once(recipe(*still), "none")
    assert not answers_once(recipe(*still, "distill.unlabelled=more"), "none")
