"""Fine-tuning peers: fastai's `fine_tune`, timm's and torchvision's training recipes, from the same weights card.

They read the split that a Sortal run recorded and stop after so many CPU seconds (training and validation, decoding
included). Each keeps to what its own project does by default: fastai `Learner.fine_tune` (frozen epoch, then one-cycle
with discriminative rates, its default augmentation); timm its `create_loader` and `create_optimizer_v2` with the flags
that its documentation gives for fine-tuning (AdamW, cosine with warm-up, RandAugment, random erasing, smoothing 0.1);
torchvision its classification reference (SGD, momentum 0.9, weight decay 1e-4, random resized crop and mirror image,
cosine; the rate is the best of 0.001, 0.01 and 0.1 by the authors of this file on validation).

Run in an environment of its own: pip install fastai timm safetensors "pillow<12.1" (fastai for --recipe fastai only;
newer Pillow refuses the posterize of timm's RandAugment).
Usage: fine_tuning.py --recipe fastai|timm|torchvision --split RUN/split.csv --root IMAGES --card CARD
       [--cpu-seconds 1200] [--size 224] [--seed 0] [--judge test|val] [--out answers.csv]      prints one JSON line
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

Rows = list[tuple[Path, int]]


def network(card_path: Path, classes: int) -> nn.Module:
    """The network of the card with a new classifier."""
    card = yaml.safe_load(card_path.read_text(encoding="utf-8"))
    model = timm.create_model(card["architecture"], pretrained=False, **card["arguments"])
    model.load_state_dict(load_file(card_path.parent / card["weights"]))
    for name in card.get("identity", []):
        model.set_submodule(name, nn.Identity())
    model.reset_classifier(classes)
    return model


def read_split(path: Path, root: Path) -> tuple[dict[str, Rows], list[str]]:
    """Rows of each split and the class names, sorted."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"]]
    names = sorted({row["label"] for row in rows})
    found: dict[str, Rows] = {split: [] for split in ("train", "val", "test")}
    for row in rows:
        found[row["split"]].append((root / row["name"], names.index(row["label"])))
    return found, names


class Spent:
    """CPU seconds of this process and of the workers it has waited for."""

    def __init__(self, limit_s: float):
        self.limit_s = limit_s

    @property
    def now_s(self) -> float:
        own = time.process_time()
        children = __import__("resource").getrusage(__import__("resource").RUSAGE_CHILDREN)
        return own + children.ru_utime + children.ru_stime


def torch_loop(
    model: nn.Module,
    epoch: Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]],
    optimizer: torch.optim.Optimizer,
    loss: nn.Module,
    spent: Spent,
    reserve_s: float,
    warmup: float,
) -> int:
    """Train until the budget is used; the rate follows the share of it that is used (warm-up, then half a cosine)."""
    bases = [group["lr"] for group in optimizer.param_groups]
    number, limit_s, begun_s = 0, spent.limit_s - reserve_s, spent.now_s
    while spent.now_s < limit_s:
        model.train()
        for images, targets in epoch(number):
            done = min(1.0, (spent.now_s - begun_s) / (limit_s - begun_s))
            factor = done / warmup if done < warmup else 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
            for group, base in zip(optimizer.param_groups, bases, strict=True):
                group["lr"] = base * max(factor, 1e-3)
            optimizer.zero_grad(set_to_none=True)
            loss(model(images), targets).backward()
            optimizer.step()
            if done >= 1.0:
                break
        number += 1
    return number


def train_torchvision(model: nn.Module, rows: Rows, size: int, spent: Spent, seed: int, reserve_s: float) -> int:
    from torchvision.transforms import v2

    steps = v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images = [Image.open(path).convert("RGB") for path, _ in rows]
    labels = torch.tensor([label for _, label in rows])

    def epoch(_: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(rows))
        for begin in range(0, len(rows) - 1, 32):
            chosen = order[begin : begin + 32]
            yield (
                torch.stack([steps(images[i]) for i in chosen]).contiguous(memory_format=torch.channels_last),
                labels[chosen],
            )

    return torch_loop(model, epoch, optimizer, nn.CrossEntropyLoss(), spent, reserve_s, 0.05)


def train_timm(model: nn.Module, rows: Rows, size: int, spent: Spent, seed: int, reserve_s: float) -> int:
    from timm.data import create_transform
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

    steps = create_transform(
        (3, size, size),
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        interpolation="random",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    torch.manual_seed(seed)
    np.random.seed(seed)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=5e-4, weight_decay=0.05, layer_decay=None)
    images = [Image.open(path).convert("RGB") for path, _ in rows]
    labels = torch.tensor([label for _, label in rows])

    def epoch(_: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(rows))
        for begin in range(0, len(rows) - 1, 32):
            chosen = order[begin : begin + 32]
            yield (
                torch.stack([steps(images[i]) for i in chosen]).contiguous(memory_format=torch.channels_last),
                labels[chosen],
            )

    return torch_loop(model, epoch, optimizer, LabelSmoothingCrossEntropy(0.1), spent, reserve_s, 0.05)


def train_fastai(model: nn.Module, rows: Rows, held: Rows, size: int, spent: Spent, seed: int, reserve_s: float) -> int:
    """As many epochs of `fine_tune` as fit, by the CPU time of a first epoch that is thrown away and counted."""
    from fastai.vision.all import (
        Categorize,
        DataLoaders,
        Datasets,
        IntToFloatTensor,
        Learner,
        Normalize,
        PILImage,
        Resize,
        ToTensor,
        aug_transforms,
        set_seed,
    )

    set_seed(seed, reproducible=True)
    every = [*rows, *held]
    splits = [list(range(len(rows))), list(range(len(rows), len(every)))]
    steps = [[lambda number: PILImage.create(every[number][0])], [lambda number: every[number][1], Categorize()]]
    data = Datasets(list(range(len(every))), steps, splits=splits)  # numbers: fastai would take pairs apart
    loaders: Any = data.dataloaders(
        bs=64,
        num_workers=0,
        after_item=[Resize(size + 36), ToTensor()],
        after_batch=[
            IntToFloatTensor(),
            *aug_transforms(size=size, min_scale=0.75),
            Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=False),
        ],
    )
    assert isinstance(loaders, DataLoaders)
    body, head = nn.Sequential(*list(model.children())[:-1]), model.get_classifier()
    split_model = nn.Sequential(body, head)
    learner = Learner(
        loaders,
        split_model,
        loss_func=nn.CrossEntropyLoss(),
        splitter=lambda m: [list(m[0].parameters()), list(m[1].parameters())],
    )
    begun_s = spent.now_s
    with learner.no_bar(), learner.no_logging():
        state = {key: value.clone() for key, value in split_model.state_dict().items()}
        learner.fit_one_cycle(1, 1e-9)
        split_model.load_state_dict(state)
        epoch_s = spent.now_s - begun_s
        epochs = max(1, int((spent.limit_s - reserve_s - spent.now_s) / epoch_s) - 1)
        learner.fine_tune(epochs)
    return epochs + 1


@torch.inference_mode()
def answers(model: nn.Module, rows: Rows, size: int) -> np.ndarray:
    """Class indices by the weights' own evaluation transform: shorter side to size / 0.875, centre crop."""
    from timm.data import create_transform

    steps = create_transform(
        (3, size, size), is_training=False, interpolation="bicubic", crop_pct=0.875, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    model.eval()
    found = []
    for begin in range(0, len(rows), 32):
        batch = torch.stack([steps(Image.open(path).convert("RGB")) for path, _ in rows[begin : begin + 32]])
        found.append(model(batch.contiguous(memory_format=torch.channels_last)).argmax(1).numpy())
    return np.concatenate(found)


def main() -> None:
    """Train one peer and judge it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=("fastai", "timm", "torchvision"), required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--cpu-seconds", type=float, default=1200.0)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", choices=("test", "val"), default="test")
    parser.add_argument("--join", action="store_true", help="validation images join the training images")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    splits, names = read_split(given.split, given.root)
    rows = [*splits["train"], *splits["val"]] if given.join else splits["train"]
    judged = splits[given.judge]
    model = network(given.card, len(names)).to(memory_format=torch.channels_last)
    spent = Spent(given.cpu_seconds)
    reserve_s = 0.012 * len(judged) * (given.size / 224) ** 2 * 2
    if given.recipe == "fastai":
        epochs = train_fastai(model, rows, splits["val"], given.size, spent, given.seed, reserve_s)
    else:
        trainer = {"timm": train_timm, "torchvision": train_torchvision}[given.recipe]
        epochs = trainer(model, rows, given.size, spent, given.seed, reserve_s)
    found = answers(model, judged, given.size)
    truth = np.array([label for _, label in judged])
    if given.out:
        with given.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "label", "answer"])
            writer.writerows(
                (path.relative_to(given.root).as_posix(), names[label], names[answer])
                for (path, label), answer in zip(judged, found, strict=True)
            )
    print(
        json.dumps(
            {
                "recipe": given.recipe,
                "judged": given.judge,
                "accuracy": float((found == truth).mean()),
                "images": len(judged),
                "epochs": epochs,
                "cpu_s": round(spent.now_s, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
