"""Which requests a canary answers: a fixed place for each key, the same for as long as the canary stands."""

from __future__ import annotations

from hashlib import blake2b

_BYTES = 8


def place(key: str, salt: str) -> float:
    """Where `key` stands, 0 to below 1: evenly spread over keys, and anew for every `salt`.

    A canary answers the keys below its share. So its weight is exact in the long run, a key stays with who answered it,
    and where the share grows nobody goes back.
    """
    digest = blake2b(f"{salt}\n{key}".encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()
    return int.from_bytes(digest) / 2.0 ** (8 * _BYTES)
