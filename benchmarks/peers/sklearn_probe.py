"""The peer of the frozen-feature probe: timm features in eager torch, then scikit-learn's logistic regression.

It reads the images and the split that a Sortal run recorded, so both see the same rows, and the same weights card.
Usage: sklearn_probe.py RUN IMAGE_ROOT CARD        prints one JSON line
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler


def network(card_path: Path) -> torch.nn.Module:
    """The backbone of the card with its classifier taken off."""
    card = yaml.safe_load(card_path.read_text(encoding="utf-8"))
    model = timm.create_model(card["architecture"], pretrained=False, **card["arguments"])
    model.load_state_dict(load_file(card_path.parent / card["weights"]))
    for name in card.get("identity", []):
        model.set_submodule(name, torch.nn.Identity())
    model.reset_classifier(0)
    return model.eval()


def pixels(path: Path) -> torch.Tensor:
    """Resize 256, centre crop 224, scaled to -1..1, as timm's evaluation transform does for these cards."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    size = tuple(max(256, int(side * scale)) for side in image.size)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    array = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1.0).permute(2, 0, 1)


@torch.inference_mode()
def features(model: torch.nn.Module, paths: list[Path]) -> np.ndarray:
    """(N, D) features, batches of 32."""
    parts = [model(torch.stack([pixels(path) for path in paths[i : i + 32]])) for i in range(0, len(paths), 32)]
    return torch.cat(parts).numpy()


def main() -> None:
    """Features of every split row, fit on train (and validation, when there is one), accuracy on test."""
    started_s = time.perf_counter()
    run, root, card = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    with (run / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"]]
    x = features(network(card), [root / row["name"] for row in rows])
    y = np.array([row["label"] for row in rows])
    test = np.array([row["split"] == "test" for row in rows])
    scaler = StandardScaler().fit(x[~test])
    model = LogisticRegression(max_iter=2000).fit(scaler.transform(x[~test]), y[~test])
    answer = model.predict(scaler.transform(x[test]))
    result = {
        "accuracy": float((answer == y[test]).mean()),
        "macro_f1": float(f1_score(y[test], answer, average="macro")),
        "wall_s": time.perf_counter() - started_s,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
