"""What pruning works on: the network, its images with the classifier's own class numbers, and batches of them.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sortal.compress.images import Material, Prepared
from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError, InputError
from sortal.core.preprocess import normalize
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.data.table import ImageTable
from sortal.models.backbones import load_network
from sortal.models.network import Network

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One pruning: its bundle, its images and its settings."""

    bundle: Bundle
    material: Material
    table: ImageTable
    """All images, labelled with the classifier's class numbers, with their splits."""
    recipe: Recipe
    """Of the run, with the settings of `compress`."""
    listener: Listener

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return self.bundle.preprocess.size

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.bundle.preprocess.channels

    def batches(self, images: Prepared, most: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(N, C, H, W) normalized and labels (N,), up to `most` images."""
        count = len(images.labels) if most is None else min(most, len(images.labels))
        for begin in range(0, count, BATCH):
            rows = slice(begin, min(begin + BATCH, count))
            pixels = normalize(self.bundle.preprocess, images.pixels[rows])
            yield torch.from_numpy(pixels), torch.from_numpy(images.labels[rows])


def ground_of(bundle: Bundle, material: Material, *, recipe: Recipe, listener: Listener) -> tuple[Ground, Network]:
    """The ground of a pruning, and the network as it is. Raises BundleError where the bundle has no weights, InputError
    where there are no training images beside the prepared ones."""
    if bundle.weights_path is None:
        raise BundleError("channels are cut from weights, and the bundle has none", where=str(bundle.path))
    if material.table is None or material.labels is None:
        raise InputError("training after a cut needs the training images", where=material.source)
    kind = material.table.frame["label"].dtype
    frame = material.table.frame.with_columns(pl.Series("label", material.labels, dtype=kind))
    table = replace(material.table, labels=bundle.labels, frame=frame)
    ground = Ground(bundle=bundle, material=material, table=table, recipe=recipe, listener=listener)
    return ground, load_network(bundle.manifest.model, bundle.weights_path)


@torch.no_grad()
def settle_statistics(network: Network, ground: Ground) -> None:
    """Let batch norms measure what channels that are left now carry, on the calibration images (Li et al. 2020,
    "EagleEye"); all else stays as it is."""
    norms = [module for module in network.backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    network.eval()
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    for images, _ in ground.batches(ground.material.calibration):
        network.backbone(images)
    network.pooling.forget()
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()


@torch.no_grad()
def accuracy_on(network: Network, ground: Ground, images: Prepared, most: int) -> float:
    """Share of up to `most` images, spread evenly, that the live network has right."""
    rows: NDArray[np.int64] = np.unique(
        np.linspace(0, len(images.labels) - 1, min(most, len(images.labels))).astype(np.int64)
    )
    some = replace(images, pixels=images.pixels[rows], labels=images.labels[rows])
    right = [network(pixels)[0].argmax(1) == labels for pixels, labels in ground.batches(some)]
    return float(torch.cat(right).float().mean())
