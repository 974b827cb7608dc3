"""Images without labels as more to learn from a teacher: beside every batch of labelled images one of them is seen, and
counts with the teacher's answers alone.

They are varied, and repeated, like training images. Copies of validation and test images are left out by their digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sortal.core.errors import DataError, RecipeError
from sortal.core.recipe import Recipe
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable
from sortal.train.context import Context
from sortal.train.loader import Batch, TrainLoader

Loaders = Mapping[tuple[int, int], TrainLoader]


def check_unlabelled(recipe: Recipe) -> None:
    """Raises RecipeError where nobody would answer about the images, or only once about each labelled one."""
    section = recipe.distill
    if section.unlabelled is None:
        return
    if section.teacher is None:
        hint = "name one: distill.teacher=runs/big-1"
        raise RecipeError(
            "images without labels teach nothing without a teacher", where="distill.unlabelled", hint=hint
        )
    if section.answers == "kept":
        hint = "distill.answers=live"
        raise RecipeError("a teacher answers live about images without labels", where="distill.answers", hint=hint)


def unlabelled_images(context: Context) -> ImageTable | None:
    """The readable images of `distill.unlabelled`, as training images whose class means nothing; None without.

    Raises DataError where there is none.
    """
    where = context.recipe.distill.unlabelled
    if where is None:
        return None
    check_unlabelled(context.recipe)
    table = scan(images(where))
    held_out = np.concatenate([context.table.split_rows(name) for name in ("val", "test")])
    known = set(context.table.frame["digest"][held_out].to_list()) if "digest" in context.table.frame.columns else set()
    kept = np.array([one is not None and one not in known for one in table.frame["digest"].to_list()], bool)
    if not kept.any():
        raise DataError("there is no image to learn from", where=str(where))
    left = int(len(kept) - kept.sum())
    said = f"; {left:,} were left out, unreadable or copies of validation or test images" if left else ""
    context.listener.say(f"{int(kept.sum()):,} images without labels beside the training images{said}")
    some = replace(table.select(np.flatnonzero(kept)), labels=context.table.labels)
    return some.with_columns({"label": np.zeros(len(some), np.int64), "split": ["train"] * len(some)})


class Beside:
    """Batches of images without labels, one for each training step, in an order that the step's number decides."""

    def __init__(self, loaders: Loaders, steps: int):
        self._loaders = loaders
        self._steps = steps
        self._next: tuple[tuple[int, int], int] | None = None
        self._batches: Iterator[Batch] = iter(())

    def images(self, batch: Batch, like: Tensor) -> Tensor:
        """(M, C, H, W) on the device of `like`, the step's labelled images (N, C, H, W), and at their size."""
        size, number = (like.shape[2], like.shape[3]), batch.epoch * self._steps + batch.step
        loader = self._loaders[size]
        epoch, step = divmod(number, loader.steps)
        if self._next != (size, number) or step == 0:
            self._batches = loader.epoch(epoch, first_step=step)
        self._next = size, number + 1
        layout = (
            torch.channels_last if like.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        )
        return loader.finish(next(self._batches), like.device, layout)[0]
