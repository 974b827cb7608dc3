"""Secrets of the command line, taken out of what other users of the machine can read of this process (Linux)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def hide_in_command_line(secrets: Iterable[str]) -> bool:
    """Overwrite secrets where `ps` reads the command line of this process. False where that is not possible; an address
    that a file holds (`--source @file`) never stands there."""
    hidden = False
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, fields 48 and 49
        if start == 0 or end <= start:
            return False
        arguments = ctypes.string_at(start, end - start)
        for secret in filter(None, secrets):
            told = secret.encode()
            place = arguments.find(told)
            while place >= 0:
                ctypes.memset(start + place, ord("*"), len(told))
                place = arguments.find(told, place + 1)
                hidden = True
    return hidden
