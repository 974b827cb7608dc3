"""Training with rounded weights and activations, where no int8 without training is within the budget.

The rounding is that of a candidate of the search, scale by scale (`compress.rounding`). The float32 network teaches it:
its answers to every varied training image, beside the labels, and the direction of its embedding, which the unknown
score reads. A few passes with AdamW and a cosine, in units of rounding steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import polars as pl
import torch
from onnx import numpy_helper
from torch import Tensor

from sortal.compress.graph import shortened
from sortal.compress.pricing import Candidate
from sortal.compress.rounding import put_back, trainable
from sortal.core.errors import InputError, RecipeError
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.sections import AugmentSection, DistillSection, ScheduleSection
from sortal.data.table import ImageTable
from sortal.export.torch_graph import as_module
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.threads import allowed_cpus
from sortal.train.augment import AUGMENTATIONS, ClassFacts
from sortal.train.distill import DistillLoss
from sortal.train.fit import reproducible
from sortal.train.loader import TrainLoader
from sortal.train.losses import cross_entropy
from sortal.train.randomness import torch_randomness
from sortal.train.sampling import make_sampler
from sortal.train.schedule import rate_at
from sortal.train.store import prepared
from sortal.train.teacher import Outputs

if TYPE_CHECKING:
    from sortal.compress.search import Search
    from sortal.export.torch_graph.module import GraphModule

RATE = 0.003
"""Of AdamW, in rounding steps. It is small because hundreds of weights of a channel that move together add up."""
BATCH = 32
_CLIP = 1.0
_DECAY: ScheduleSection = ScheduleSection(name="cosine", warmup=0.05)
_TAUGHT = DistillSection(teacher="float32", temperature=2.0, ce_weight=0.3, feature=1.0)


def train_rounded(
    search: Search, start: Candidate, original: Path, folder: Path, *, recipe: Recipe, listener: Listener
) -> onnx.ModelProto:
    """The Q/DQ graph of the candidate `start` with weights and biases that were trained to be rounded, without the
    unknown score. `folder` holds prepared images meanwhile.

    Raises InputError where there are no training images beside those for calibration, RecipeError where training
    diverges. The same images and settings give the same graph.
    """
    graph = search.graph_of(start, brief=False)
    floats = {one.name: numpy_helper.to_array(one) for one in search.mended(start).graph.initializer}
    made = trainable(graph, floats, narrow=start.narrow)
    module = as_module(made.model, where="int8")
    weights = [module.stored(name) for name in made.learned]
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    with reproducible(allowed_cpus()), _batches(search, folder, recipe, listener) as loader:
        _train(module, weights, original, loader, recipe=recipe, listener=listener)
    values = {name: module.stored(name).detach().numpy() for name in made.learned}
    return shortened(put_back(graph, made.learned, values, narrow=start.narrow))


def _train(
    module: GraphModule,
    weights: list[Tensor],
    original: Path,
    loader: TrainLoader,
    *,
    recipe: Recipe,
    listener: Listener,
) -> None:
    epochs, steps = recipe.compress.qat_epochs, loader.steps
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    teacher: Engine = ENGINES.get("onnxruntime").open(original, threads=allowed_cpus())
    places = [module.output_names.index(name) for name in ("logits", "embedding")]
    try:
        for epoch in range(epochs):
            for batch in loader.epoch(epoch):
                step = epoch * steps + batch.step
                listener.progress("training with rounding", step, epochs * steps)
                rate = rate_at(step / (epochs * steps), _DECAY, base=RATE, epochs=epochs)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                images, labels = loader.finish(batch, torch.device("cpu"), torch.channels_last)
                with torch_randomness(recipe.seed, "step", index=step):
                    outputs = module(images)
                logits, embedding = (outputs[place] for place in places)
                loss = _loss(logits, embedding, labels, _answers(teacher, images))
                _require_number(float(loss.detach()), step)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                _require_number(float(torch.nn.utils.clip_grad_norm_(weights, _CLIP)), step)
                optimizer.step()
        listener.progress("training with rounding", epochs * steps, epochs * steps)
    finally:
        teacher.close()


def _loss(logits: Tensor, embedding: Tensor, labels: Tensor, teacher: Outputs) -> Tensor:
    flat = embedding.flatten(1)
    taught = DistillLoss(_TAUGHT, _never, student_dim=flat.shape[1], teacher_dim=teacher.embedding.shape[1])
    return taught.combine(cross_entropy(logits, labels), logits, flat, teacher)


def _never(*_: object) -> Outputs:
    raise NotImplementedError("the teacher has answered already")


def _answers(teacher: Engine, images: Tensor) -> Outputs:
    found = teacher.run(images.contiguous().numpy())
    return Outputs(logits=torch.from_numpy(found.logits), embedding=torch.from_numpy(found.embedding).flatten(1))


def _require_number(value: float, step: int) -> None:
    if not math.isfinite(value):
        hint = "compress.qat=false, or other images"
        raise RecipeError(f"training with rounding diverged at step {step}", where="compress.qat", hint=hint)


@contextmanager
def _batches(search: Search, folder: Path, recipe: Recipe, listener: Listener) -> Iterator[TrainLoader]:
    """Batches of the training images, varied as in the run but for mixtures."""
    bundle = search.pricing.bundle
    table, spec, classes = _labelled(search), bundle.preprocess, len(bundle.labels)
    rows = table.split_rows("train")
    rows = rows[table.label_array()[rows] >= 0]
    counts = np.bincount(table.label_array()[rows], minlength=classes)
    section: AugmentSection = recipe.augment.model_copy(update={"mixup": 0.0, "cutmix": 0.0, "erase": 0.0})
    policy = AUGMENTATIONS.get(section.name)(section, spec, ClassFacts(names=bundle.labels.names, counts=counts))
    with prepared(
        table,
        rows,
        policy.stored(spec),
        folder=folder,
        threads=allowed_cpus(),
        listener=listener,
        stage="preparing train images",
        keep=recipe.train.cache,
    ) as (images, _):
        yield TrainLoader(
            images=images,
            spec=spec,
            policy=policy,
            section=section,
            sampler=make_sampler("none", images.labels, classes, recipe.seed),
            classes=classes,
            batch=min(BATCH, len(images)),
            seed=recipe.seed,
            workers=allowed_cpus(),
        )


def _labelled(search: Search) -> ImageTable:
    """The images with the classifier's own class numbers."""
    material, bundle = search.pricing.material, search.pricing.bundle
    if material.table is None or material.labels is None:
        raise InputError("there are no images to train with", where=material.source, hint="compress.qat=false")
    kind = material.table.frame["label"].dtype
    labels = pl.Series("label", material.labels, dtype=kind)
    return replace(material.table, labels=bundle.labels, frame=material.table.frame.with_columns(labels))
