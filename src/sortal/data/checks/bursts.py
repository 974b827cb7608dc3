"""Bursts: pictures of one object, shelf or session, which count as one when it comes to how much was seen."""

from __future__ import annotations

import numpy as np
import polars as pl

from sortal.core.report import Table
from sortal.data.checks.material import Material, Outcome, issues
from sortal.data.checks.pairs import bursts_of
from sortal.data.table import MAX_NAMED_ROWS, finding


def check(material: Material) -> Outcome:
    """Finding `bursts` and an issue for each image in one; table `bursts`, the largest first. Where pictures look alike
    throughout, finding `alike_throughout` says so once, and no image is marked for its looks."""
    found, table = bursts_of(material), material.table
    frame = pl.DataFrame({"burst": found.burst, "label": table.frame["label"], "name": table.name_series()})
    frame = frame.filter(pl.col("burst") >= 0)
    body = {"bursts": frame["burst"].n_unique(), "images": frame.height, "evidence": list(found.evidence)}
    body |= {"alike": int((found.alike >= 0).sum())}
    throughout = found.throughout(table)
    if not frame.height:
        return Outcome(findings=throughout, body=body)
    frame = frame.with_columns(other=pl.col("name").first().over("burst"), size=pl.len().over("burst"))
    names = [*table.labels.names, None]
    sets = frame.group_by("burst", maintain_order=True).first().sort("size", descending=True, maintain_order=True)
    rows = tuple((row["other"], names[row["label"]], row["size"]) for row in sets.head(100).iter_rows(named=True))
    independent = len(table) - frame.height + sets.height
    message = (
        f"{sets.height:,} bursts of pictures taken together ({frame.height:,} images), so {len(table):,} images are "
        f"about {independent:,} independent ones: {'; '.join(found.evidence)}"
    )
    hint = "split with sortal split, which keeps each on one side; look before believing: some may be alike by nature"
    values = [f"one of {size} taken together" for size in frame["size"].to_list()]
    return Outcome(
        findings=(finding("bursts", "info", message, frame["name"].head(MAX_NAMED_ROWS), hint), *throughout),
        issues=issues("bursts", "info", frame["name"], other=frame["other"], value=values),
        tables={"bursts": Table(columns=("first image", "class", "images"), rows=rows)},
        body={**body, "independent": independent, "sizes": np.bincount(sets["size"].to_numpy()).tolist()},
    )
