"""Logits of a run's validation and test images in one file, for benchmarks that fit decisions many times.

    python benchmarks/dump_logits.py RUN IMAGES OUT.npz

Holds for each split `<split>_logits` (N, C), `<split>_labels`, `<split>_names` and `<split>_embeddings` (N, D) float16.
Logits are log probabilities of the run's decision, which must be the identity.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

import sortal
from sortal.core.decision import DecisionSpec


def main(run: Path, source: str, out: Path) -> None:
    """Read images, answer, write."""
    rows = pl.read_csv(run / "split.csv", columns=["name", "label", "split"])
    table = sortal.images(source)
    names = table.name_series()
    found: dict[str, np.ndarray] = {}
    with sortal.load_model(run) as model:
        if model.decision.model_copy(update={"unknown": None}) != DecisionSpec():
            raise SystemExit("the run's decision is not the identity")
        for split in ("val", "test"):
            part = rows.filter(pl.col("split") == split)
            chosen = table.select(names.is_in(part["name"].implode()))
            known = dict(part.select("name", "label").iter_rows())
            predictions, embeddings = model.predict_outputs(chosen)
            chances = np.maximum(predictions.probabilities.astype(np.float64), 1e-45)
            found[f"{split}_logits"] = np.log(chances).astype(np.float32)
            found[f"{split}_labels"] = np.array([model.labels.index(known[name]) for name in chosen.names()])
            found[f"{split}_names"] = np.array(chosen.names())
            found[f"{split}_embeddings"] = embeddings.astype(np.float16)
            print(split, len(chosen), float((predictions.index == found[f"{split}_labels"]).mean()), flush=True)
    np.savez(out, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
