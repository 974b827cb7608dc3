"""Storage: names that say another format than the bytes, and ways of storing that differ within the set.

A mixture of color modes, bit depths or formats often follows the source of the images, and a network may learn the
source instead of the class. Rare modes and depths are listed; a mixture in larger parts is told of the whole set.
"""

from __future__ import annotations

import polars as pl

from sortal.core.report import Finding, Table
from sortal.data.checks.flagged import Fault, counted_finding, joined
from sortal.data.checks.material import Material, Outcome, issues
from sortal.data.table import finding

RARE_SHARE = 0.1
"""Share of the images up to which a mode or depth is an exception."""

_PLAIN = ("RGB", "L")
_FAULTS = {
    "wrong_extension": Fault(
        code="wrong_extension",
        many="have a name that says another format than their bytes are in",
        all="",
        hint="Sortal goes by the bytes, other programs may refuse them: rename them where others read them too",
    ),
    "odd_mode": Fault(
        code="odd_mode",
        many="are stored in a color mode that is rare in this set",
        all="",
        hint="transparency is laid over white and CMYK becomes RGB without color management: convert them yourself "
        "where that is not right",
    ),
    "odd_depth": Fault(
        code="odd_depth",
        many="have another bit depth than the rest",
        all="",
        hint="check that they come from the same camera and export as the rest",
    ),
    "animated": Fault(
        code="animated",
        many="have several frames or pages, of which only the first is used",
        all="",
        hint="extract the frames you need as images of their own",
    ),
}


def check(material: Material) -> Outcome:
    """Issues `wrong_extension`, `odd_mode`, `odd_depth`, `animated`; findings `mixed_modes` and `mixed_depths` of the
    whole set; table `storage` of formats and modes."""
    frame = material.survey.frame
    if not frame.height:
        return Outcome()
    color, depth = _color(frame["mode"]), _depth(frame["mode"])
    wrong = (frame["suffix"] != frame["format"]).fill_null(value=False)
    return joined(
        _listed(material, "wrong_extension", wrong, frame["suffix"] + " by name, " + frame["format"] + " by content"),
        _mixed(material, "mode", color, ~color.is_in(_PLAIN)),
        _mixed(material, "depth", depth, depth.is_not_null()),
        _listed(material, "animated", frame["frames"] > 1, frame["frames"].cast(pl.String) + " frames"),
        Outcome(tables={"storage": _table(frame)}),
    )


def _color(mode: pl.Series) -> pl.Series:
    """The mode without its depth: `I;16` and `1` are grey (`L`) too."""
    return mode.str.strip_suffix(";16").replace({"I": "L", "1": "L"})


def _depth(mode: pl.Series) -> pl.Series:
    """Bits a sample: `1 bits`, `8 bits`, `16 bits`."""
    bits = pl.when(pl.col("mode") == "1").then(1).when(pl.col("mode").str.ends_with(";16")).then(16).otherwise(8)
    return pl.DataFrame({"mode": mode}).select(pl.format("{} bits", bits).alias("depth"))["depth"]


def _mixed(material: Material, what: str, kinds: pl.Series, listed: pl.Series) -> Outcome:
    """Rows of rare kinds, as far as they are to be `listed`, and a finding where several kinds are common."""
    counts = kinds.value_counts(sort=True).sort("count", kinds.name, descending=[True, False])
    rare = counts.filter(pl.col("count") <= RARE_SHARE * kinds.len())[kinds.name]
    outcome = _listed(material, f"odd_{what}", kinds.is_in(rare.implode()) & listed, "stored as " + kinds)
    if counts.height - rare.len() < 2:
        return outcome
    return joined(outcome, Outcome(findings=(_mixture(what, counts),)))


def _mixture(what: str, counts: pl.DataFrame) -> Finding:
    listed = ", ".join(f"{kind} ({number:,})" for kind, number in counts.rows())
    message = f"the images are stored in several {what}s: {listed}"
    hint = "if classes differ in it, the network learns it instead of what the images show"
    return finding(f"mixed_{what}s", "info", message, hint=hint)


def _listed(material: Material, code: str, chosen: pl.Series, values: pl.Series) -> Outcome:
    if not chosen.any():
        return Outcome()
    names = material.table.name_series().filter(chosen)
    frame = issues(code, "warning", names, value=values.filter(chosen))
    return Outcome(findings=(counted_finding(_FAULTS[code], names, chosen.len()),), issues=frame)


def _table(frame: pl.DataFrame) -> Table:
    kinds = ["format", "mode"]
    counted = frame.group_by(kinds).agg(
        pl.len().alias("images"), pl.col("bytes").mean().round(0), pl.col("width").median(), pl.col("height").median()
    )
    rows = counted.sort("images", *kinds, descending=[True, False, False]).rows()
    columns = ("format", "mode", "images", "mean bytes", "median width", "median height")
    return Table(columns=columns, rows=tuple(rows))
