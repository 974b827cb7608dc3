"""Numbers that come as text or one by one: read piece by piece, so that nobody waits while a long list is read.

Python's JSON, and what makes an array of a list, hold the interpreter from the first number to the last: 1 to 9 s for
20 MB, in a thread too. Here a long list is taken out of the JSON, before that is parsed, and read in pieces of some
milliseconds, between which the others go on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from secrets import token_hex
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import InputError
from sortal.serve.oip.aside import LARGE

_LONG, _PIECE = 4096, 32 * 1024
"""Bytes of a list that is taken out, and of a piece of it."""
_MOST_REST, _MOST_QUOTES = 256 * 1024, 20_000
_NUMBERS = 16 * 1024
"""Numbers that become an array at once."""
_DEEPEST = 8
_SPACE = b" \t\r\n"
_BEFORE = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*(?=\[)")
_NO_BRACKETS = bytes.maketrans(b"[]", b"  ")
_DIGITS = bytes(one if one in b"[]," else ord("0") for one in range(256))
_MISPLACED = (b"0[", b"]0", b"][")
"""A row that begins behind a number or a row, and a number behind a row."""
_QUOTE, _BACKSLASH = b'"', ord("\\")


def take_out_lists(text: bytes) -> tuple[bytes, dict[str, bytes]]:
    """JSON with a text in the place of each long list that an object has, and the lists by these texts, as they are
    written. Raises InputError where what is left is large, or has too many texts."""
    if len(text) <= LARGE:
        return text, {}
    if text.count(_QUOTE) > _MOST_QUOTES:
        raise InputError("the JSON has too many texts")
    token, lists, parts, done = token_hex(16), dict[str, bytes](), list[bytes](), 0
    for start, end in _outside_texts(text):
        if end - start >= _LONG and (colon := _BEFORE.match(text, start, end)) is not None:
            name, first = f"{token}-{len(lists)}", colon.end()
            lists[name] = _value(text, first, end)
            parts += [text[done:first], f'"{name}"'.encode()]
            done = first + len(lists[name])
    rest = b"".join([*parts, text[done:]])
    if len(rest) > _MOST_REST:
        raise InputError(
            f"JSON may have {_MOST_REST // 1024} kB beside lists of numbers",
            received=f"{len(rest):,} bytes",
            hint="send tensors as bytes behind the JSON: binary_data_size",
        )
    return rest, lists


def numbers_written(written: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Numbers of a list that `take_out_lists` found, nested or flat. Raises as `numbers_of`."""
    count = written.count(b",") + 1
    _check_count(count, shape, name)
    values, structure, done = np.empty(count, dtype), list[bytes](), 0
    for piece in _pieces(written):
        found = _cast(_read(piece, name), dtype, name)
        values[done : done + found.size] = found
        done += found.size
        structure.append(_structure(piece, name))
    if done != count or not _has_equal_rows(b",".join(structure)):
        raise _no_numbers(name)
    return values.reshape(shape)


def numbers_of(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Numbers of a list, nested or flat. Raises InputError for what are no numbers of the datatype and shape."""
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise InputError("an input has data, or bytes behind the JSON", where=name[:80])
    starts = range(0, max(len(data), 1), _NUMBERS)
    found = [_cast(data[start : start + _NUMBERS], dtype, name) for start in starts]
    if len({one.shape[1:] for one in found}) > 1:
        raise _no_numbers(name)
    values = np.concatenate(found)
    _check_count(values.size, shape, name)
    return values.reshape(shape)


def _cast(data: Sequence[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    try:
        found = np.asarray(data)
        with np.errstate(invalid="ignore", over="ignore"):  # what does not fit is found below
            cast = found.astype(dtype)
    except (ValueError, OverflowError, TypeError) as error:
        raise _no_numbers(name) from error
    if found.dtype == object or found.dtype.kind not in "biuf":
        raise _no_numbers(name)
    if dtype.kind in "iub" and not np.array_equal(cast, found):
        raise InputError("a value is outside its datatype", where=name[:80])
    return cast


def _check_count(count: int, shape: tuple[int, ...], name: str) -> None:
    if count != math.prod(shape):
        raise InputError(f"shape {list(shape)} has {math.prod(shape)} values", where=name[:80], received=str(count))


def _no_numbers(name: str) -> InputError:
    return InputError("the data of an input are no numbers of equal rows", where=name[:80])


def _outside_texts(text: bytes) -> Iterator[tuple[int, int]]:
    """Where JSON is outside its texts, from and to."""
    start = 0
    while (quote := text.find(_QUOTE, start)) >= 0:
        yield start, quote
        start = _text_end(text, quote)
    yield start, len(text)


def _text_end(text: bytes, quote: int) -> int:
    """Behind the text that begins with the quote there."""
    end = quote
    while (end := text.find(_QUOTE, end + 1)) >= 0:
        first = end
        while text[first - 1] == _BACKSLASH:
            first -= 1
        if (end - first) % 2 == 0:
            return end + 1
    return len(text)


def _value(text: bytes, first: int, end: int) -> bytes:
    """The list that begins at `first`: up to the end of its object, or to the comma before the next name."""
    brace = text.find(b"}", first, end)
    found = text[first : end if brace < 0 else brace].rstrip(_SPACE)
    return found if brace >= 0 else found.removesuffix(b",").rstrip(_SPACE)


def _pieces(written: bytes) -> Iterator[bytes]:
    """Cut at commas, which are left out."""
    start = 0
    while start <= len(written):
        comma = written.find(b",", start + _PIECE)
        end = len(written) if comma < 0 else comma
        yield written[start:end]
        start = end + 1


def _read(piece: bytes, name: str) -> list[Any]:
    """The numbers of a piece, one between two commas, whatever brackets are around them."""
    try:
        found = json.loads(b"[" + piece.translate(_NO_BRACKETS) + b"]", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _no_numbers(name) from error
    return list(found)


def _structure(piece: bytes, name: str) -> bytes:
    """The brackets and commas of a piece."""
    found = piece.translate(_DIGITS, _SPACE)
    if any(one in found for one in _MISPLACED):
        raise _no_numbers(name)
    return found.translate(None, b"0")


def _no_number(text: str) -> NoReturn:
    raise InputError("JSON has no such number", received=text)


def _has_equal_rows(structure: bytes) -> bool:
    """Whether brackets and commas are those of an array: each row is made again out of the first one below it."""
    depth = len(structure) - len(structure.lstrip(b"["))
    if not 0 < depth <= _DEEPEST:
        return False
    row = b""
    for level in range(1, depth + 1):
        end = structure.find(b"]" * level)
        size = end + level - (depth - level)
        count = (size - 1) // (len(row) + 1)
        row = b"[" + ((row + b",") * count)[:-1] + b"]"
    return row == structure
