"""The file of API keys: who may ask a server, what for, how often and until when.

A key is 256 random bits behind the prefix `sortal_`; it is printed once, and the file has its SHA-256 alone. No salt
and no slow hash: those protect secrets that can be guessed, such as words of people; 256 random bits cannot, so whoever
reads the file has nothing to try. The prefix lets scanners of repositories find keys that were checked in by accident,
and lets logs mask them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sortal.core.errors import ConflictError, InputError, NotFoundError, nearest
from sortal.core.lock import hold
from sortal.core.publish import disk_errors, publish_file

PREFIX = "sortal_"
Role = Literal["infer", "feedback", "metrics", "admin"]
ROLES: tuple[Role, ...] = ("infer", "feedback", "metrics", "admin")

_BYTES = 32
_MODE = 0o600
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d{1,6})([smhd])")
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/([smhd])")
_LOOKS_LIKE_A_KEY = re.compile(PREFIX + r"[A-Za-z0-9_-]{24,}")
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Key(BaseModel):
    """One key as the file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Name
    """Of its holder; two keys have the same one while they are exchanged."""
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    """Requests a second, over a longer time; None is any number."""
    burst: Annotated[int, Field(ge=1)] | None = None
    """Requests at once."""

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires


class KeyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    keys: tuple[Key, ...] = ()


def digest(secret: str) -> str:
    """What the file keeps of a key: SHA-256 as 64 hex digits."""
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def masked(text: str) -> str:
    """`text` without any key in it."""
    return _LOOKS_LIKE_A_KEY.sub(f"{PREFIX}***", text) if PREFIX in text else text


def read_keys(path: Path) -> KeyFile:
    """The file. Raises InputError where it is missing or is no file of keys, MachineError where it cannot be read."""
    if not path.exists():
        raise InputError("there is no such file of keys", where=str(path), hint=f"sortal keys add {path} NAME")
    with disk_errors(path):
        text = path.read_bytes()
    try:
        found = yaml.safe_load(text)
    except Exception as error:  # PyYAML lets errors of all kinds through: ValueError of a date, RecursionError
        raise InputError("this is no file of keys: it is not YAML", where=str(path)) from error
    try:
        return KeyFile.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "all of it"
        raise InputError(f"this is no file of keys: {place}: {first['msg']}", where=str(path)) from error


def add_key(
    path: Path,
    name: str,
    roles: tuple[str, ...],
    *,
    expires: str | None = None,
    rate: str | None = None,
    burst: int | None = None,
) -> str:
    """Store a new key and return it: the only time that it is seen. `expires` is as `90d`, `rate` as `20/s`.

    Raises ConflictError where the name has a key already, InputError for values that are none.
    """
    for role in roles:
        if role not in ROLES:
            raise InputError("no such role", received=role, hint=nearest(role, ROLES))
    now, secret = _now(), _new_secret()
    found = {
        "name": name,
        "roles": roles,
        "sha256": digest(secret),
        "created": now,
        "expires": None if expires is None else now + span(expires),
        "rate": None if rate is None else _rate(rate),
        "burst": burst,
    }
    try:
        key = Key.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]}: {first['msg']}", received=str(first["input"])[:80]) from error
    with _alone(path):
        before = read_keys(path).keys if path.exists() else ()
        if any(other.name == name for other in before):
            raise ConflictError("this name has a key already", received=name, hint=f"sortal keys rotate {path} {name}")
        _write(path, (*before, key))
    return secret


def rotate_key(path: Path, name: str, *, overlap: str = "7d") -> str:
    """Give a name a new key with the same rights and return it; the one before is good for `overlap` longer.

    Raises NotFoundError where the name has none.
    """
    until, now, secret = _now() + span(overlap), _now(), _new_secret()
    with _alone(path):
        others, own = _divided(path, name)
        last = max(own, key=lambda key: key.created)
        expires = None if last.expires is None else now + (last.expires - last.created)
        fresh = last.model_copy(update={"sha256": digest(secret), "created": now, "expires": expires})
        retiring = [key if key.is_expired(until) else key.model_copy(update={"expires": until}) for key in own]
        _write(path, (*others, *(key for key in retiring if not key.is_expired(now)), fresh))
    return secret


def revoke_key(path: Path, name: str) -> None:
    """Take every key of a name out of the file. Raises NotFoundError where it has none."""
    with _alone(path):
        _write(path, _divided(path, name)[0])


def span(text: str) -> timedelta:
    """`90d`, `12h`, `30m`, `0s`. Raises InputError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise InputError("a time is a number and s, m, h or d", received=text[:40], hint="90d")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _rate(text: str) -> float:
    """Requests a second of `20/s` or `600/m`."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise InputError("a rate is a number and /s, /m, /h or /d", received=text[:40], hint="20/s")
    return float(found[1]) / _UNITS[found[2]]


def _divided(path: Path, name: str) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
    """(the keys of others, the keys of this name)."""
    keys = read_keys(path).keys
    own = tuple(key for key in keys if key.name == name)
    if not own:
        raise NotFoundError("this name has no key", received=name, hint=nearest(name, {key.name for key in keys}))
    return tuple(key for key in keys if key.name != name), own


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile. Raises MachineError where somebody does."""
    lock = hold(path.with_name(f".{path.name}.lock"))
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    told = KeyFile(keys=keys).model_dump(mode="json", exclude_none=True)
    publish_file(path, yaml.safe_dump(told, sort_keys=False).encode(), mode=_MODE)


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(_BYTES)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
