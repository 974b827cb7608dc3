"""Distillation while training: the loss that adds a teacher to the labels, and a student that starts from a teacher.

The teacher's probabilities at a temperature, or its answers as labels (Hinton et al. 2015), and the direction of its
embedding (Sanh et al. 2019, "DistilBERT", section 3). Nothing of the teacher is learned or stored. Shapes: N images, K
classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sortal.core.errors import RecipeError
from sortal.core.preprocess import Pixels
from sortal.core.recipe import Recipe
from sortal.core.report import Finding
from sortal.core.sections import DistillSection
from sortal.models.network import Network
from sortal.train.context import Context
from sortal.train.losses import cross_entropy, distill_total, distillation
from sortal.train.randomness import torch_randomness
from sortal.train.scores import score
from sortal.train.teacher import Outputs, Teacher, open_teachers, remember, weak_teacher
from sortal.train.team import device
from sortal.train.unlabelled import check_unlabelled

Ask = Callable[[Pixels | Tensor, NDArray[np.int64]], Outputs]
"""(what the student saw, sample numbers) -> what the teacher says about it."""

_PROJECTION = 1_000_003
"""Where the projection's first values come from in the stream `init`: a place that no network uses."""


class DistillLoss(nn.Module):
    """ce_weight * labels' loss + (1 - ce_weight) * teacher's loss + feature * cosine distance of the embeddings.

    `projection` is learned where student and teacher have embeddings of different widths, and None otherwise: its
    parameters belong into the optimizer and its `state_dict` into checkpoints. `teacher_accuracy` is the share of
    validation images that the teacher has right, None where it was not measured.
    """

    def __init__(
        self,
        section: DistillSection,
        ask: Ask,
        *,
        student_dim: int,
        teacher_dim: int,
        seed: int = 0,
        names: tuple[str, ...] = (),
        teacher_accuracy: float | None = None,
    ):
        super().__init__()
        self.names = names
        self.teacher_accuracy = teacher_accuracy
        self.projection = _projection(section, student_dim, teacher_dim, seed)
        self._section = section
        self._ask = ask

    def forward(
        self, hard: Tensor, logits: Tensor, embedding: Tensor, images: Pixels | Tensor, samples: NDArray[np.int64]
    ) -> Tensor:
        """The loss of a step, a scalar, from the labels' loss `hard` and the student's logits and embedding.

        `images` are what the student saw: augmented samples (N, H, W, C), or its input (N, C, H, W), which is needed
        where images are mixed or erased after augmentation. `samples` are their numbers, (N,).
        """
        return self.combine(hard, logits, embedding, self._ask(images, samples))

    def combine(self, hard: Tensor, logits: Tensor, embedding: Tensor, teacher: Outputs) -> Tensor:
        """As `forward`, when the teacher has already answered."""
        logits, embedding = logits.float(), embedding.float()
        total = distill_total(hard, self._taught(logits, teacher.logits.to(logits)), ce_weight=self._section.ce_weight)
        if self._section.feature == 0:
            return total
        own = embedding if self.projection is None else self.projection(embedding)
        return total + self._section.feature * cosine_distance(own, teacher.embedding.to(own))

    def finding(self, student_accuracy: float) -> Finding | None:
        """A warning where the teacher is not better on the validation images than the student (0..1)."""
        if self.teacher_accuracy is None:
            return None
        return weak_teacher(self.teacher_accuracy, student_accuracy, names=self.names)

    def _taught(self, logits: Tensor, teacher: Tensor) -> Tensor:
        if self._section.kind == "hard":
            return cross_entropy(logits, teacher.argmax(dim=1))
        return distillation(logits, teacher, temperature=self._section.temperature)


def make_teaching(context: Context, network: Network, rows: NDArray[np.int64] | None = None) -> DistillLoss | None:
    """The loss that the `distill` section asks for, on the training device, or None where no teacher is named.

    `rows` are the table's rows of the training samples, in their order: with kept answers (`answers_once`) the teacher
    is asked about them before the first step, for all epochs. Its accuracy on validation images is measured and said.
    Raises as `open_teachers` does, and RecipeError where kept answers cannot fit the pictures.
    """
    recipe = context.recipe
    once = answers_once(recipe, context.remedy)
    teacher = open_teachers(
        recipe.distill,
        context.table,
        context.spec,
        threads=context.plan.threads,
        listener=context.listener,
        seed=recipe.seed,
        device=device(),
        keep=recipe.train.cache,
    )
    if teacher is None:
        return None
    made = DistillLoss(
        recipe.distill,
        (remembered(context, teacher, rows) if once and rows is not None else None) or _live(teacher),
        student_dim=network.embedding_dim,
        teacher_dim=teacher.embedding_dim,
        seed=recipe.seed,
        names=teacher.names,
        teacher_accuracy=_accuracy(context, teacher),
    )
    return made.to(device())


def answers_once(recipe: Recipe, remedy: str) -> bool:
    """Whether the teacher answers once about every image, instead of about each picture that the student sees.

    A picture that was varied is not quite the one that was answered about: steps are several times as cheap and the
    student's pictures are not those of the teacher (Beyer et al. 2022, "A good teacher is patient and consistent", say
    what that costs in very long training). Raises RecipeError where pictures are mixed: an answer about one image says
    nothing about two.
    """
    if recipe.distill.unlabelled is not None:
        check_unlabelled(recipe)
        return False
    augment = recipe.augment
    mixed = augment.mixup > 0 or augment.cutmix > 0 or remedy == "mixup_rare"
    if recipe.distill.answers == "kept" and mixed:
        hint = "distill.answers=live, or augment.mixup=0 augment.cutmix=0"
        raise RecipeError("kept answers of a teacher do not fit mixed pictures", where="distill.answers", hint=hint)
    if recipe.distill.answers != "auto":
        return recipe.distill.answers == "kept"
    return (augment.name == "none" or augment.strength == 0) and not mixed and augment.erase == 0


def remembered(context: Context, teacher: Teacher, rows: NDArray[np.int64]) -> Ask | None:
    """A teacher that has answered for the samples in `rows` beforehand; None where not all of them can be read."""
    kept, outputs = _answers(context, teacher, rows, "teacher's answers for train images")
    if not np.array_equal(kept, rows):
        return None

    def ask(_: Pixels | Tensor, samples: NDArray[np.int64]) -> Outputs:
        chosen = torch.from_numpy(np.asarray(samples))
        return Outputs(logits=outputs.logits[chosen], embedding=outputs.embedding[chosen])

    return ask


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over N of 1 - cos of the angle between rows of (N, D): 0 for the same direction, 2 for opposite ones."""
    return 1.0 - torch.nn.functional.cosine_similarity(student, teacher.detach(), dim=1).mean()


@torch.no_grad()
def copy_matching_layers(student: Network, teacher: Network) -> tuple[str, ...]:
    """Start the student from the teacher: copy what has the same name and shape in both, and say its names.

    Weights and running statistics of the backbone, in the student's order; the head is left out, because its rows are
    classes and their order may differ. For students that are a teacher with fewer or narrower layers, as DistilBERT is
    of BERT (Sanh et al. 2019): the student's layers are the first ones of each stage of the teacher.
    """
    theirs = teacher.backbone.state_dict()
    copied = []
    for name, tensor in student.backbone.state_dict().items():
        if name in theirs and theirs[name].shape == tensor.shape:
            tensor.copy_(theirs[name])
            copied.append(f"backbone.{name}")
    return tuple(copied)


def _live(teacher: Teacher) -> Ask:
    def ask(images: Pixels | Tensor, _: NDArray[np.int64]) -> Outputs:
        return teacher.outputs(images)

    return ask


def _projection(section: DistillSection, student_dim: int, teacher_dim: int, seed: int) -> nn.Linear | None:
    if section.feature == 0 or student_dim == teacher_dim:
        return None
    with torch_randomness(seed, "init", index=_PROJECTION):
        return nn.Linear(student_dim, teacher_dim, bias=False)


def _accuracy(context: Context, teacher: Teacher) -> float | None:
    rows = context.table.split_rows("val")
    rows, outputs = _answers(context, teacher, rows, "teacher's answers for val images")
    if not len(rows):
        return None
    accuracy = score(outputs.logits.numpy(), context.table.label_array()[rows]).accuracy
    context.listener.say(f"teacher {', '.join(teacher.names)}: {accuracy:.1%} of {len(rows):,} validation images right")
    return accuracy


def _answers(
    context: Context, teacher: Teacher, rows: NDArray[np.int64], stage: str
) -> tuple[NDArray[np.int64], Outputs]:
    return remember(
        teacher,
        context.table,
        rows,
        context.spec,
        threads=context.plan.workers,
        listener=context.listener,
        stage=stage,
        keep=context.recipe.train.cache,
    )
