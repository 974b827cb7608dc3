"""CPU time of a probe against that of a ten-epoch fine-tune of the same network and size, and what each reaches.

    python benchmarks/probe_cost.py IMAGES --card CARD.yaml [--size 224] [--epochs 10] [--seed 0] [--threads 2]

The probe is what `sortal train` does: the exported graph computes the features of the training and validation images
once, both kinds of head are compared, the chosen one is fitted. The fine-tune is plain eager PyTorch on the same
training images: float32, channels last, AdamW (1e-3 for the new head, 3e-4 for the rest) with cosine rates, random
resized crops and mirror images of pixels that were decoded before the clock starts. Counted are the CPU seconds of the
process from the first image to the finished head; loading weights, exporting and judging are not. Both are judged on
the validation images, so the test split is not read; the probe chose its penalty there, which flatters it a little.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.transforms import v2

from sortal.asked import recipe_of, table_for
from sortal.core.preprocess import normalize
from sortal.core.progress import Silent
from sortal.core.recipe import Recipe
from sortal.data.table import ImageTable
from sortal.divide import divide
from sortal.graphs import embedder
from sortal.start import Start, start_of
from sortal.train.context import Context
from sortal.train.features import Extractor, Features, extract
from sortal.train.head_choice import choose_head
from sortal.train.store import read_image

BATCH = 32
ARGUMENTS = ("train.epochs=0", "train.cache=false", "data.split.val=0.3", "data.split.test=0")


def probe(recipe: Recipe, table: ImageTable, start: Start) -> tuple[float, float]:
    """CPU seconds and validation accuracy."""
    context = Context(
        recipe=recipe,
        table=table,
        run=None,
        plan=start.plan,
        spec=start.plan.preprocess(recipe),
        listener=Silent(),
        deadline_s=None,
        source=start.source,
    )
    with embedder(start.network, context.spec, start.plan.threads) as extractor:
        started_s = time.process_time()
        train, val = (_features(context, extractor, split) for split in ("train", "val"))
        choice = choose_head(context, train, val, start.network.pooling.parts)
        used_s = time.process_time() - started_s
    answers = choice.head.logits(val.values).argmax(1)
    return used_s, float((answers == val.labels).mean())


def _features(context: Context, extractor: Extractor, split: str) -> Features:
    found, _ = extract(
        context.table,
        context.table.split_rows(split),
        context.spec,
        extractor,
        threads=context.plan.workers,
        listener=Silent(),
        stage=split,
    )
    return found


def pixels(table: ImageTable, split: str, start: Start, recipe: Recipe) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(N, side, side, 3), the whole picture at 8/7 of the input size for training and at the input size for judging."""
    spec = start.plan.preprocess(recipe)
    if split == "train":
        side = round(spec.size[0] / spec.crop)
        spec = spec.model_copy(update={"size": (side, side), "crop": 1.0})
    rows = table.split_rows(split)
    return np.stack([read_image(table, int(row), spec) for row in rows]), table.label_array()[rows]


def fine_tune(
    network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], given: argparse.Namespace
) -> float:
    """Train in place; the CPU seconds it took."""
    vary = v2.Compose([v2.RandomResizedCrop(given.size, antialias=True), v2.RandomHorizontalFlip()])
    finish = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5,) * 3, (0.5,) * 3)])
    stored, truth = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
    head = {id(parameter) for parameter in network.head.parameters()}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in head]
    optimizer = torch.optim.AdamW([{"params": network.head.parameters(), "lr": 1e-3}, {"params": rest, "lr": 3e-4}])
    steps = given.epochs * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 0.5 * (1 + math.cos(math.pi * n / steps)))
    network.train().to(memory_format=torch.channels_last)
    started_s = time.process_time()
    for _ in range(given.epochs):
        order = torch.randperm(len(labels))
        for begin in range(0, len(labels) - BATCH + 1, BATCH):
            chosen = order[begin : begin + BATCH]
            batch = finish(torch.stack([vary(stored[i]) for i in chosen]))
            loss = nn.functional.cross_entropy(
                network(batch.contiguous(memory_format=torch.channels_last))[0], truth[chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return time.process_time() - started_s


@torch.inference_mode()
def judge(network: nn.Module, batches: list[NDArray[np.float32]], labels: NDArray[np.int64]) -> float:
    """Accuracy."""
    network.eval()
    answers = [network(torch.from_numpy(batch))[0].argmax(1).numpy() for batch in batches]
    return float((np.concatenate(answers) == labels).mean())


def main() -> None:
    """Both, one after the other; prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--card", required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    own = (*ARGUMENTS, f"model={given.card}", f"input.size={given.size}", f"seed={given.seed}")
    recipe = recipe_of(None, own)
    table = divide(table_for(given.images, recipe), recipe, Silent())
    start = start_of(recipe, table, Silent())
    probe_s, probe_accuracy = probe(recipe, table, start)
    plain = start_of(recipe_of(None, [*own, "model.pooling=mean"]), table, Silent())
    train, val = (pixels(table, split, plain, recipe) for split in ("train", "val"))
    tuned_s = fine_tune(plain.network, *train, given)
    spec = plain.plan.preprocess(recipe)
    batches = [normalize(spec, val[0][begin : begin + BATCH]) for begin in range(0, len(val[0]), BATCH)]
    tuned_accuracy = judge(plain.network, batches, val[1])
    print(
        json.dumps(
            {
                "images": {"train": len(train[1]), "val": len(val[1])},
                "probe": {"cpu_s": round(probe_s, 1), "accuracy": probe_accuracy},
                "fine_tune": {"cpu_s": round(tuned_s, 1), "accuracy": tuned_accuracy, "epochs": given.epochs},
                "ratio": round(tuned_s / probe_s, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
