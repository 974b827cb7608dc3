"""The trace that a client's request belongs to, as W3C Trace Context says it: https://www.w3.org/TR/trace-context/"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class TraceParent:
    """What a valid header says."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 of them: the span that asked."""
    flags: int
    """Bit 0: the caller records this trace."""


def parse_trace_parent(text: str) -> TraceParent | None:
    """None where there is no header, or none that is valid: a request is answered all the same."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceParent(trace_id=trace_id, span_id=span_id, flags=int(flags, 16))
