"""Item codes in columns: GTINs and GS1 texts whose check digit, length or date is wrong. A part of `annotators`."""

from __future__ import annotations

import polars as pl

from sortal.data.checks.material import Outcome, issues
from sortal.data.identifiers import GTIN_LENGTHS, Identifiers, parse
from sortal.data.table import ImageTable, finding

COLUMNS = ("gtin", "ean", "upc", "gs1", "barcode", "identifier")
"""Without regard to case."""

_GTIN = r"^\s*(?:" + "|".join(f"[0-9]{{{length}}}" for length in GTIN_LENGTHS) + r")\s*$"


def check_codes(table: ImageTable) -> Outcome:
    """Finding and issues `invalid_code`, and how many codes were looked at.

    Digits alone count as GTINs only in a column where most of them are: an `identifier` may be any number.
    """
    outcomes = [_column(table, name) for name in table.frame.columns if name.casefold() in COLUMNS]
    return Outcome(
        findings=tuple(found for one in outcomes for found in one.findings),
        issues=pl.concat([Outcome().issues, *(one.issues for one in outcomes)]),
        body={key: value for one in outcomes for key, value in one.body.items()},
    )


def _column(table: ImageTable, column: str) -> Outcome:
    values = table.frame[column]
    texts = values.cast(pl.String)
    if values.dtype.is_integer():
        texts = texts.str.zfill(14)  # numbers have lost the zeros in front
    faults = _faults(texts, strict=column.casefold() in ("gtin", "ean", "upc"))
    named = table.name_series().to_frame("name").with_columns(texts.alias("text"))
    bad = named.join(faults, on="text", how="inner", maintain_order="left")
    body = {f"codes_{column}": texts.len() - texts.null_count()}
    if not bad.height:
        return Outcome(body=body)
    message = f"{bad.height:,} of {body[f'codes_{column}']:,} entries of {column} are not valid: {bad['value'][0]}"
    hint = "compare with the label on the item: a digit was read or typed wrong"
    found = finding("invalid_code", "warning", message, bad["name"].head(1000), hint)
    return Outcome(
        findings=(found,), issues=issues("invalid_code", "warning", bad["name"], value=bad["value"]), body=body
    )


def _faults(texts: pl.Series, *, strict: bool) -> pl.DataFrame:
    """`text` and `value` (what is wrong, in words) of the distinct texts that are wrong."""
    known = texts.drop_nulls()
    known = known.filter(known.str.strip_chars() != "")
    digits = known.filter(known.str.contains(_GTIN))
    wrong = _wrong_digits(digits)
    gtins = strict or wrong.len() * 2 < digits.len()
    distinct = known.filter(~known.str.contains(_GTIN)).unique()
    told = {text: parse(text) for text in (wrong.unique() if gtins else wrong.clear()).to_list()}
    told |= {text: parsed for text in distinct.to_list() if not (parsed := parse(text)).valid}
    kept = {text: _words(parsed) for text, parsed in told.items() if strict or parsed.kind == "gs1"}
    return pl.DataFrame(
        {"text": list(kept), "value": list(kept.values())}, schema={"text": pl.String, "value": pl.String}
    )


def _wrong_digits(texts: pl.Series) -> pl.Series:
    """Texts of digits whose last is not the check digit; all at once, a column may hold a million."""
    padded = texts.str.strip_chars().str.zfill(14)
    total = pl.sum_horizontal(
        pl.col("text").str.slice(place, 1).cast(pl.Int64) * (3 if place % 2 == 0 else 1) for place in range(14)
    )
    odd = padded.alias("text").to_frame().select((total % 10 != 0).alias("odd")).to_series()
    return texts.filter(odd)


def _words(parsed: Identifiers) -> str:
    return "; ".join(problem.message for problem in parsed.problems)
