"""The peer of the `quick` recipe: torchvision's ResNet-18 and reference recipe on small images, for so much CPU time.

The network is unmodified but for the number of classes. The recipe is that of torchvision's classification reference:
SGD with momentum 0.9, rate 0.1 for a batch of 256 (scaled to the batch here), weight decay 1e-4, random crop and mirror
image; the crop is that of small images, 4 pixels of padding. Images are decoded once and kept in memory and tensors are
channels last, both faster than the reference. The rate follows the CPU time used, so a run ends with its schedule.

Usage: torchvision_resnet18.py --train FOLDER --val FOLDER [--cpu-seconds 1200] [--seed 0] [--schedule cosine|step]
       [--batch 128] [--size 32] [--threads 1] [--out answers.csv]        prints one JSON line
FOLDER has one folder of images a class. `answers.csv` has the columns name, label, answer.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_image
from torchvision.models import resnet18
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the reference recipe."""
SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Decoded images (N, 3, size, size) uint8, class indices (N,), and the path of each below the folder."""

    images: Tensor
    labels: Tensor
    names: list[str]


def read(folder: Path, classes: list[str], size: int) -> Folder:
    """Every image of the folders `classes`, resized to `size` pixels a side where it has another size."""
    files = [(file, number) for number, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
    files = [(file, number) for file, number in files if file.suffix.lower() in SUFFIXES]
    resize = v2.Resize((size, size), antialias=True)
    images = torch.stack([resize(decode_image(file, ImageReadMode.RGB)) for file, _ in files])
    labels = torch.tensor([number for _, number in files])
    return Folder(images=images, labels=labels, names=[file.relative_to(folder).as_posix() for file, _ in files])


def factor(progress: float, schedule: str) -> float:
    """What the rate is multiplied with: half a cosine, or a tenth after each third (30 of 90 epochs) of training."""
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 0.1 ** int(3 * progress)


def train(model: nn.Module, data: Folder, arguments: argparse.Namespace) -> tuple[float, float]:
    """Train until the CPU time is used; the seconds used and the epochs that they were enough for."""
    size, batch = arguments.size, arguments.batch
    vary = v2.Compose([v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip()])
    rate = 0.1 * batch / 256
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    started_s, seen, used_s = time.process_time(), 0, 0.0
    model.train()
    while used_s < arguments.cpu_seconds:
        for samples in torch.randperm(len(data.labels)).split(batch):
            if len(samples) < batch or used_s >= arguments.cpu_seconds:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate * factor(used_s / arguments.cpu_seconds, arguments.schedule)
            images = normalized(torch.stack([vary(data.images[sample]) for sample in samples]))
            loss = nn.functional.cross_entropy(model(images), data.labels[samples])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            seen += batch
            used_s = time.process_time() - started_s
    return used_s, seen / len(data.labels)


@torch.inference_mode()
def answers(model: nn.Module, data: Folder) -> Tensor:
    """(N,) the likeliest class of every image, seen once as it is."""
    model.eval()
    return torch.cat([model(normalized(images)).argmax(1) for images in data.images.split(256)])


def normalized(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) to normalized float32, channels last."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--cpu-seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--schedule", choices=("cosine", "step"), default="cosine")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    """Train on one folder, answer for the other."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    classes = sorted(path.name for path in arguments.train.iterdir() if path.is_dir())
    data, val = (read(folder, classes, arguments.size) for folder in (arguments.train, arguments.val))
    model = resnet18(num_classes=len(classes)).to(memory_format=torch.channels_last)
    cpu_s, epochs = train(model, data, arguments)
    found = answers(model, val)
    if arguments.out is not None:
        with arguments.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("name", "label", "answer"))
            pairs = zip(val.names, val.labels.tolist(), found.tolist(), strict=True)
            writer.writerows((name, classes[label], classes[answer]) for name, label, answer in pairs)
    accuracy = float((found == val.labels).float().mean())
    print(
        json.dumps(
            {
                "peer": "torchvision resnet18",
                "schedule": arguments.schedule,
                "seed": arguments.seed,
                "accuracy": round(accuracy, 4),
                "cpu_s": round(cpu_s, 1),
                "epochs": round(epochs, 2),
                "images": len(val.names),
            }
        )
    )


if __name__ == "__main__":
    main()
