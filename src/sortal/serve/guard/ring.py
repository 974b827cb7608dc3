"""What a server makes of the file of keys: who is this, may they ask that, and not too often."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sortal.core.errors import InputError
from sortal.serve.guard.access import Allowed
from sortal.serve.guard.keys import Key, digest, read_keys
from sortal.serve.guard.rates import Bucket, WrongTries

Reason = Literal["no key", "wrong key", "too many wrong keys", "expired", "not allowed", "too often"]
STATUS: Mapping[Reason, int] = {
    "no key": 401,
    "wrong key": 401,
    "expired": 401,
    "not allowed": 403,
    "too many wrong keys": 429,
    "too often": 429,
}
"""What a refusal is in HTTP."""
_OTHERS_MAY_WRITE = 0o022


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why somebody is not let in, and for those who ask too often, when to ask again."""

    reason: Reason
    what: str
    hint: str | None = None
    retry_after_s: float = 0.0
    name: str = ""
    """Whose key it was, where that is known."""


class RefusedError(InputError):
    """Somebody is not let in, for the edges that turn errors into statuses."""

    def __init__(self, refusal: Refusal):
        super().__init__(refusal.what, hint=refusal.hint)
        self.refusal = refusal

    @property
    def status(self) -> int:
        """In HTTP."""
        return STATUS[self.refusal.reason]


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """Somebody who is let in; no name where nobody has to say it."""

    name: str = ""


class KeyRing:
    """The keys of one file."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._path, self._now = path, now
        self._tries, self._buckets = WrongTries(), dict[str, Bucket]()
        self._keys: tuple[Key, ...] = ()
        self.load()

    def load(self) -> None:
        """Read the file. Raises InputError where it is none, or others than its owner may change it."""
        keys = read_keys(self._path).keys
        if os.name != "nt" and self._path.stat().st_mode & _OTHERS_MAY_WRITE:
            where = str(self._path)
            raise InputError("others may change this file of keys", where=where, hint=f"chmod 600 {where}")
        self._keys = keys
        limited = {key.name: Bucket(key.rate, key.burst) for key in keys if key.rate is not None}
        kept = {name: old for name, old in self._buckets.items() if _is_same(old, limited.get(name))}
        self._buckets = limited | kept  # what was taken from an unchanged limit stays taken

    def admit(self, secret: str | None, allowed: Allowed, address: str) -> Admitted | Refusal:
        """Whether whoever brings `secret` from `address` may ask what is `allowed` so.

        A right key is let in from everywhere: 256 bits are not guessed at any rate, and whoever shares an address with
        somebody who tries must not be locked out by them.
        """
        if allowed is None:
            return Admitted()
        if secret is None:
            hint = "Authorization: Bearer KEY"
            return Refusal(reason="no key", what="this needs a key", hint=hint)
        key = self._find(secret)
        if key is None:
            return self._wrong(address)
        if key.is_expired(self._now()):
            return Refusal(reason="expired", what="this key has expired", name=key.name)
        if not {"admin", *allowed} & set(key.roles):
            hint = f"roles that may: {', '.join(sorted({'admin', *allowed}))}"
            return Refusal(reason="not allowed", what="this key may not do that", hint=hint, name=key.name)
        if key.name in self._buckets and (wait_s := self._buckets[key.name].take()):
            return Refusal(reason="too often", what="this key asks too often", retry_after_s=wait_s, name=key.name)
        return Admitted(name=key.name)

    def _find(self, secret: str) -> Key | None:
        """The key whose digest this is; all are compared, each in constant time. The later of two alike holds."""
        given, found = digest(secret), None
        for key in self._keys:
            if hmac.compare_digest(given, key.sha256):
                found = key
        return found

    def _wrong(self, address: str) -> Refusal:
        wait_s = self._tries.note(address)
        if wait_s:
            what = "too many wrong keys came from this address"
            return Refusal(reason="too many wrong keys", what=what, retry_after_s=wait_s)
        return Refusal(reason="wrong key", what="this is no key of this server")


def secret_of(headers: Mapping[str, str]) -> str | None:
    """The key that a request brings, as `Authorization: Bearer` or `X-API-Key`; names are lower-case."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    return headers.get("x-api-key", "").strip() or None


def _is_same(old: Bucket, new: Bucket | None) -> bool:
    return new is not None and (old.rate, old.burst) == (new.rate, new.burst)
