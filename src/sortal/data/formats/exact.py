"""Numbers that survive a round trip: fractions of an image against pixels, percentages and text, without a lost bit.

A fraction is a float; its pixels are a whole number where `n / size` gives exactly that fraction, else a decimal with
as many digits as it takes. Reading divides in decimals and rounds once.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

from sortal.core.errors import DataError

Number = int | float | Decimal

_EXACT = Context(prec=60, traps=[])
_HUNDRED = Decimal(100)
_FLOAT_DIGITS = 16
"""A number of so few characters is what `repr` of its float gives back: kept as a float, a quarter of the memory."""


def decimal(value: Number) -> Decimal:
    """The shortest decimal that means `value`; NaN and infinity stay."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def total(*values: Number) -> Decimal:
    """The exact sum."""
    found = Decimal(0)
    for value in values:
        found = _EXACT.add(found, decimal(value))
    return found


def difference(first: Number, second: Number) -> Decimal:
    """`first` - `second`, exactly."""
    return _EXACT.subtract(decimal(first), decimal(second))


def half(value: Number) -> Decimal:
    """Half of it, exactly."""
    return _EXACT.divide(decimal(value), Decimal(2))


def fraction(value: Number, size: Number) -> float:
    """`value` of `size` as the nearest float; NaN where that is no number."""
    if type(value) is int and type(size) is int:
        return value / size if size else float("nan")
    found = _EXACT.divide(decimal(value), decimal(size))
    return float(found) if not found.is_nan() else float("nan")


def pixels(share: float, size: int) -> int | Decimal:
    """The pixels of which `fraction(pixels, size)` is exactly `share`."""
    whole = round(share * size)
    return whole if whole / size == share else _EXACT.multiply(decimal(share), Decimal(size))


def percent(share: float) -> Decimal:
    """A hundred times `share`; `fraction(percent, 100)` is exactly `share`."""
    return _EXACT.multiply(decimal(share), _HUNDRED)


def shown(value: Number) -> str:
    """As text without exponent and without zeros at the end."""
    text = format(decimal(value), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(text: str | None) -> Number:
    """The number that a text holds; NaN where it holds none."""
    stripped = (text or "").strip()
    if re.fullmatch(r"-?\d{1,18}", stripped, re.ASCII):
        return int(stripped)
    try:
        return float(stripped) if len(stripped) <= _FLOAT_DIGITS else _decimal_text(stripped)
    except ValueError:
        return float("nan")


def given(value: object) -> Number:
    """A JSON value as a number; NaN where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return float("nan")
    return number(value) if isinstance(value, str) else value


def read_json(text: str | bytes, where: str) -> Any:
    """JSON whose long numbers are decimals. NaN and infinity are read: what they mean is decided where they stand.

    Raises DataError that names `where`.
    """
    try:
        return json.loads(text, parse_float=number)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=where) from error


def write_json(data: Any) -> bytes:
    """Indented JSON, decimals with all their digits."""
    mark = f"number-{secrets.token_hex(8)}:"

    def marked(value: object) -> str:
        return mark + shown(value) if isinstance(value, Decimal) else str(value)

    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False, default=marked)
    return (re.sub(rf'"{mark}([^"]*)"', r"\1", text) + "\n").encode()


def corners(values: Sequence[Number], sizes: tuple[Number, Number]) -> list[float]:
    """x0, y0, x1, y1 of an image of (width, height) as fractions."""
    return [fraction(value, sizes[place % 2]) for place, value in enumerate(values)]


def _decimal_text(text: str) -> Decimal:
    found = Decimal(text) if re.fullmatch(r"[-+]?[0-9.]+(?:[eE][-+]?\d{1,3})?", text) else None
    if found is None:
        raise ValueError(text)
    return found
