"""One way to turn plain data into bytes, so that a digest means the same everywhere.

Canonical JSON: UTF-8, keys sorted, no spaces, no NaN or infinity, duplicate keys refused when reading.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sortal.core.errors import InputError


def canonical(data: Any) -> bytes:
    """`data` (JSON types only) as canonical JSON. Raises ValueError for NaN or infinity."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def pretty(data: Any) -> str:
    """`data` as the indented JSON that files on disk hold, ending in a newline."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def digest(data: Any) -> str:
    """SHA-256 of the canonical form, 64 hex digits."""
    return hashlib.sha256(canonical(data)).hexdigest()


def parse(text: str | bytes, *, where: str) -> Any:
    """Read JSON strictly: duplicate keys, NaN and infinity are refused. Raises InputError that names `where`."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", where=where) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"duplicate key {key!r}")
        found[key] = value
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not allowed")
