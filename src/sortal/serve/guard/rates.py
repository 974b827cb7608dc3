"""How often somebody may ask: a token bucket a key, and a limit on wrong tries from one address. Memory is bounded."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]

MOST_TRIES = 10
"""Wrong keys from one address within `WINDOW_S`; after that it is refused for as long."""
WINDOW_S = 60.0
_MOST_ADDRESSES = 4096
_OWN_BITS_V6 = 64
"""An IPv6 subscriber has at least a /64: its addresses count as one."""


class Bucket:
    """`rate` requests a second over a longer time, `burst` at once."""

    def __init__(self, rate: float, burst: int | None = None, *, clock: Clock = time.monotonic):
        self.rate, self.burst = rate, max(1, round(rate)) if burst is None else burst
        self._clock, self._tokens, self._seen_s = clock, float(self.burst), clock()

    def take(self) -> float:
        """Take one; returns 0, or after how many seconds there will be one."""
        now = self._clock()
        self._tokens = min(self.burst, self._tokens + (now - self._seen_s) * self.rate)
        self._seen_s = now
        if self._tokens < 1:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return 0.0


@dataclass
class _Tries:
    count: int = 0
    until_s: float = 0.0


class WrongTries:
    """Counts wrong keys by address; the addresses seen least recently are forgotten first."""

    def __init__(self, *, clock: Clock = time.monotonic):
        self._clock, self._seen = clock, OrderedDict[str, _Tries]()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, address: str) -> float:
        """One more wrong key; returns 0, or for how many seconds the address is refused."""
        now, whose = self._clock(), subscriber(address)
        tries = self._seen.pop(whose, None)
        if tries is None or tries.until_s <= now:
            tries = _Tries(until_s=now + WINDOW_S)
        tries.count += 1
        self._seen[whose] = tries
        if len(self._seen) > _MOST_ADDRESSES:
            self._seen.popitem(last=False)
        return tries.until_s - now if tries.count > MOST_TRIES else 0.0


def subscriber(address: str) -> str:
    """Who an address belongs to: itself, or its IPv6 network."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _OWN_BITS_V6), strict=False))
