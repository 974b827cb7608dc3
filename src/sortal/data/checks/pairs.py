"""What the checks of duplicates, leaks and bursts share: found once for each material."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import polars as pl

from sortal.data.bursts import Bursts, find_bursts
from sortal.data.checks.material import Material
from sortal.data.near import Near, near_duplicates
from sortal.data.table import ImageTable
from sortal.data.units import together

Found = TypeVar("Found")


def near_of(material: Material) -> Near:
    """The near duplicates, as whoever made the material has found them; else by tiny pictures alone."""
    return _once(material, "near", lambda: near_duplicates(material.survey, material.features))


def bursts_of(material: Material) -> Bursts:
    """The bursts."""
    return _once(material, "bursts", lambda: find_bursts(material.table, material.survey, material.features))


def related_table(material: Material) -> ImageTable:
    """The table with its clusters of near duplicates and bursts."""
    return _once(
        material,
        "table",
        lambda: together(material.table, near=near_of(material).cluster, burst=bursts_of(material).burst),
    )


def near_pairs(material: Material) -> pl.DataFrame:
    """Pairs of near duplicates that are not one content, with names, labels, splits and whether the labels agree."""
    return _once(material, "pairs", lambda: _near_pairs(material))


def _near_pairs(material: Material) -> pl.DataFrame:
    table = material.table
    facts = pl.DataFrame(
        {
            "row": np.arange(len(table)),
            "name": table.name_series(),
            "label": table.frame["label"],
            "split": table.frame["split"],
            "digest": table.frame["digest"],
        }
    )
    pairs = near_of(material).pairs
    pairs = pairs.join(facts, left_on="first", right_on="row", how="left", maintain_order="left")
    pairs = pairs.join(facts, left_on="second", right_on="row", how="left", maintain_order="left", suffix="_second")
    different = (pl.col("digest") != pl.col("digest_second")).fill_null(value=True)
    known = (pl.col("label") >= 0) & (pl.col("label_second") >= 0)
    return pairs.filter(different).with_columns(agree=~known | (pl.col("label") == pl.col("label_second")))


def _once(material: Material, name: str, make: Callable[[], Found]) -> Found:
    if name not in material.known:
        material.known[name] = make()
    return cast(Found, material.known[name])
