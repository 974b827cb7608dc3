"""What all candidates of a frontier share: the bundle they come from, its images, and what is asked of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sortal.compress.frontier.wish import Wish, size_at
from sortal.compress.images import Material, Prepared, divided_images, gather_images
from sortal.core.bundle import Bundle
from sortal.core.canonical import digest
from sortal.core.contract import Contract
from sortal.core.errors import BundleError
from sortal.core.preprocess import PreprocessSpec
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.report import Finding
from sortal.core.run import RunFolder
from sortal.data.table import ImageTable

_HEAD_SETTINGS = (
    *("int8", "max_drop", "calibration_images", "weight_bits"),
    *("criterion", "prune_by", "prune_steps", "prune_epochs", "teacher", "unlabelled"),
)
"""Settings of `compress` that candidates depend on; how long it may take, and which are tried, they do not."""


@dataclass(kw_only=True)
class Ground:
    """Everything that a step may read."""

    bundle: Bundle
    run: RunFolder | None
    table: ImageTable
    """Scanned and divided, with the labels of the bundle."""
    recipe: Recipe
    notes: tuple[Finding, ...]
    listener: Listener
    home: Path = Path()
    """Where steps may keep what is half done; known once the folder of the frontier is."""
    _truth: Prepared | None = field(default=None, repr=False)
    _held: tuple[tuple[int, int], Material] | None = field(default=None, repr=False)

    @property
    def contract(self) -> Contract | None:
        """What has to be kept beside the budget."""
        return self.recipe.contract or self.bundle.contract

    @property
    def own(self) -> Wish:
        """The network as it is."""
        return Wish(side=min(self.bundle.preprocess.size))

    @property
    def remade(self) -> bool:
        """Whether the network as it is has to be fitted anew to be judged: its head may know the validation images, or
        its thresholds another contract."""
        return self.contract != self.bundle.contract or _refitted(self.run)

    def spec(self, wish: Wish) -> PreprocessSpec:
        """How images are prepared for a candidate."""
        size = size_at(self.bundle.preprocess.size, wish.side)
        return self.bundle.preprocess.model_copy(update={"size": size})

    def material(self, bundle: Bundle) -> Material:
        """Calibration and validation images at the size of `bundle`. Those of one size are kept at a time."""
        size = bundle.preprocess.size
        if self._held is None or self._held[0] != size:
            self._held = None  # before the next are read, so that two sizes are never in memory at once
            count = self.recipe.compress.calibration_images
            found = gather_images(bundle, None, self.table, count=count, listener=self.listener)
            self._held = size, found
            return found
        return self._held[1]

    @property
    def truth(self) -> Prepared:
        """Labels, names and groups of the validation images, without their pixels; read when first asked for."""
        if self._truth is None:
            judged = self.material(self.bundle).judged
            self._truth = replace(judged, pixels=judged.pixels[:0])
        return self._truth

    def key(self, wish: Wish) -> str:
        """Digest of everything that a candidate depends on."""
        return digest([self.shared_key(), wish.side, wish.cut, wish.precision])

    def shared_key(self) -> str:
        """Digest of what all candidates depend on: bundle, images and their splits, settings, contract."""
        section = self.recipe.compress.model_dump(mode="json")
        settings: dict[str, Any] = {name: section.get(name) for name in _HEAD_SETTINGS}
        contract = None if self.contract is None else self.contract.model_dump(mode="json")
        splits = self.table.frame["split"].to_list()
        return digest([self.bundle.id, self.table.content_digest, splits, settings, contract])


def make_ground(
    bundle: Bundle,
    run: RunFolder | None,
    source: str | Path | Sequence[str | Path] | ImageTable | None,
    *,
    recipe: Recipe,
    listener: Listener,
) -> Ground:
    """Read what candidates share. Raises InputError without images, BundleError where the bundle has no weights."""
    if bundle.weights_path is None:
        hint = "compress the run that it came from"
        raise BundleError(
            "another input size needs the weights, which this copy lacks", where=str(bundle.path), hint=hint
        )
    table, notes = divided_images(bundle, run, source, listener=listener)
    labels = np.array([*bundle.labels.mapping_from(table.labels), -1], np.int64)[table.label_array()]
    table = replace(table.with_columns({"label": labels}), labels=bundle.labels)
    return Ground(bundle=bundle, run=run, table=table, recipe=recipe, notes=tuple(notes), listener=listener)


def _refitted(run: RunFolder | None) -> bool:
    if run is None or not run.plan_path.is_file():
        return False
    return json.loads(run.plan_path.read_text(encoding="utf-8")).get("refit") is True
