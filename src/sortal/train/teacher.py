"""Teachers: what a student learns from beside the labels. A frozen network or an exported graph, or several averaged.

    with open_teachers(recipe.distill, table, spec, threads=2, listener=listener) as teacher:
        outputs = teacher.outputs(batch)

A teacher sees the student's own augmented pictures (Beyer et al. 2022, "Knowledge distillation: a good teacher is
patient and consistent"), answers in evaluation mode without gradients, and its classes are matched by name. Shapes: N
images, K classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.canonical import digest
from sortal.core.errors import InternalError, RecipeError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.progress import Listener
from sortal.core.report import Finding
from sortal.core.sections import DistillSection
from sortal.data.table import ImageTable
from sortal.train.features import extract
from sortal.train.teacher_source import Member, Opening, open_member
from sortal.train.teacher_view import as_seen, check_view, pictures_of


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a teacher says about N pictures; no gradient flows into it."""

    logits: Tensor
    """(N, K) float32 in the student's class order."""
    embedding: Tensor
    """(N, D) float32; of several teachers: their embeddings side by side, each of length 1."""


class Teacher:
    """One or more frozen members. Close it, or use it in a `with` block, to give memory and threads back."""

    def __init__(self, members: Sequence[Member], columns: Sequence[Sequence[int]], student: PreprocessSpec):
        self._members = tuple(members)
        self._columns = tuple(tuple(chosen) for chosen in columns)
        self._student = student
        empty = self.outputs(
            np.zeros((1, *student.size, student.channels), np.uint8 if student.depth == 8 else np.uint16)
        )
        self.embedding_dim: int = empty.embedding.shape[1]

    @property
    def names(self) -> tuple[str, ...]:
        """What the members are called, for sentences."""
        return tuple(member.name for member in self._members)

    @property
    def digest(self) -> str:
        """64 hex digits: equal for teachers that answer alike."""
        return digest(
            {"members": [member.digest for member in self._members], "columns": [list(c) for c in self._columns]}
        )

    def logits(self, images: Pixels | Tensor) -> Tensor:
        """The logits of `outputs`."""
        return self.outputs(images).logits

    def embedding(self, images: Pixels | Tensor) -> Tensor:
        """The embeddings of `outputs`."""
        return self.outputs(images).embedding

    @torch.no_grad()
    def outputs(self, images: Pixels | Tensor) -> Outputs:
        """Answers to the student's batch: augmented samples (N, H, W, C), or its input (N, C, H, W), normalized and
        perhaps mixed, as the student gets it.

        Several members: logits are the logarithm of the mean of their probabilities.
        """
        pictures = pictures_of(images, self._student)
        found = [_run(member, chosen, pictures) for member, chosen in zip(self._members, self._columns, strict=True)]
        if len(found) == 1:
            return found[0]
        mean = torch.stack([torch.softmax(one.logits, dim=1) for one in found]).mean(dim=0)
        unit = [torch.nn.functional.normalize(one.embedding, dim=1) for one in found]
        return Outputs(logits=mean.clamp(min=1e-30).log(), embedding=torch.cat(unit, dim=1))

    def close(self) -> None:
        """Give memory and threads back."""
        for member in self._members:
            member.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_teachers(
    section: DistillSection,
    table: ImageTable,
    student: PreprocessSpec,
    *,
    threads: int,
    listener: Listener,
    seed: int = 0,
    device: torch.device | None = None,
    keep: bool = False,
) -> Teacher | None:
    """The teacher that `distill.teacher` names, or None. `table` gives the classes, and images where a head has to be
    fitted; `student` is how the student's images are prepared. With `keep`, features stay in the cache of runs.

    Raises RecipeError where classes differ or a teacher sees other pictures, and as the opening of bundles and weights.
    """
    references = (section.teacher,) if isinstance(section.teacher, str) else section.teacher or ()
    if not references:
        return None
    how = Opening(
        table=table,
        student=student,
        threads=threads,
        listener=listener,
        seed=seed,
        device=device or torch.device("cpu"),
        keep=keep,
    )
    members, columns = [], []
    for reference in references:
        member = open_member(reference, how)
        check_view(member.spec, student, member.name)
        members.append(member)
        columns.append(align(table.labels, member.labels, name=member.name))
    return Teacher(members, columns, student)


def align(ours: LabelSet, theirs: LabelSet, *, name: str) -> list[int]:
    """For each of our classes its position in a teacher's, by name or alias. Raises RecipeError that names what is
    missing on either side."""
    index = ours.mapping_from(theirs)
    unknown = [label for label, ours_at in zip(theirs.names, index, strict=True) if ours_at < 0]
    missing = [label for at, label in enumerate(ours.names) if at not in index]
    if missing or unknown or len(index) != len(ours):
        said = [f"it does not know {_some(missing)}"] if missing else []
        said += [f"it knows {_some(unknown)}, which the images do not have"] if unknown else []
        said += [] if said else ["two of its classes are one of ours"]
        raise RecipeError(
            f"the teacher's classes are not those of the images: {'; '.join(said)}",
            where=f"distill.teacher: {name}",
            hint="a teacher answers about the same classes; a network without its own head is fitted to them: "
            "give the name of an architecture or a weights card",
        )
    return [index.index(at) for at in range(len(ours))]


def remember(
    teacher: Teacher,
    table: ImageTable,
    rows: NDArray[np.int64],
    student: PreprocessSpec,
    *,
    threads: int,
    listener: Listener,
    stage: str,
    keep: bool = False,
) -> tuple[NDArray[np.int64], Outputs]:
    """The teacher's outputs for the readable ones of `rows`, seen without variation, and which rows these are.

    With `keep` they come from, and go to, the cache that runs share.
    """

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        found = teacher.outputs(torch.from_numpy(batch))
        return np.asarray(torch.cat([found.logits, found.embedding], dim=1).cpu().numpy())

    key = f"teacher {teacher.digest}" if keep else None
    features, _ = extract(table, rows, student, run, threads=threads, listener=listener, stage=stage, key=key)
    values, classes = torch.from_numpy(features.values), len(table.labels)
    return features.rows, Outputs(logits=values[:, :classes], embedding=values[:, classes:])


def weak_teacher(teacher: float, student: float, *, names: Sequence[str]) -> Finding | None:
    """A warning where a teacher's validation accuracy (0..1) is not above the student's: there is little to learn."""
    if teacher > student:
        return None
    return Finding(
        code="weak_teacher",
        severity="warning",
        message=f"the teacher ({', '.join(names)}) has {teacher:.1%} of the validation images right and the student "
        f"{student:.1%}: a teacher that is not better has little to teach",
        hint="take a stronger teacher, average several, or give the labels more weight (distill.ce_weight)",
    )


def _run(member: Member, chosen: Sequence[int], pictures: Tensor) -> Outputs:
    logits, embedding = member.run(as_seen(pictures, member.spec))
    if logits.shape != (len(pictures), len(member.labels)):
        raise InternalError(f"a teacher gave logits of shape {tuple(logits.shape)}", received=member.name)
    order = torch.tensor(chosen, device=logits.device)
    return Outputs(logits=logits.float()[:, order], embedding=embedding.float())


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
