"""`sortal keys`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sortal.core.errors import InputError, nearest

if TYPE_CHECKING:
    from sortal.serve.guard.keys import Key

_WHAT = ("add", "list", "rotate", "revoke")


def keys(
    what: str = typer.Argument(..., help="add, list, rotate or revoke."),
    file: Path = typer.Argument(..., help="The file of keys, such as keys.yaml; add makes it where nothing is."),
    name: str = typer.Argument(None, help="Whose key: letters, digits, dots and dashes."),
    role: list[str] = typer.Option(
        ["infer"], "--role", help="add: infer, feedback, metrics, admin; may be said again."
    ),
    expires: str = typer.Option(None, "--expires", metavar="TIME", help="add: how long it is good for, such as 90d."),
    rate: str = typer.Option(None, "--rate", metavar="RATE", help="add: how often it may ask, such as 20/s."),
    burst: int = typer.Option(None, "--burst", min=1, help="add: how often at once; else a second's worth of --rate."),
    overlap: str = typer.Option("7d", "--overlap", metavar="TIME", help="rotate: how long the one before stays good."),
    as_json: bool = typer.Option(False, "--json", help="list: print JSON, and nothing else."),
) -> None:
    """API keys for `sortal serve --auth`. A new key is printed once, the file has its digest alone.

    \b
    sortal keys add keys.yaml station-2 --role infer --expires 90d --rate 20/s
    sortal keys list keys.yaml
    sortal keys rotate keys.yaml station-2        a new key; the one before stays good for a week
    sortal keys revoke keys.yaml station-2

    A running server reads the file again when it changes.
    """
    from sortal.serve.guard.keys import add_key, read_keys, revoke_key, rotate_key

    if what not in _WHAT:
        hint = nearest(what, _WHAT) or f"one of {', '.join(_WHAT)}"
        raise InputError("no such command", where="sortal keys", received=what, hint=hint)
    if what == "list":
        _show(read_keys(file).keys, as_json=as_json)
        return
    if name is None:
        raise InputError(f"whose key shall this {what}?", hint=f"sortal keys {what} {file} NAME")
    if what == "revoke":
        revoke_key(file, name)
    elif what == "rotate":
        print(rotate_key(file, name, overlap=overlap))
    else:
        print(add_key(file, name, tuple(role), expires=expires, rate=rate, burst=burst))


def _show(keys: tuple[Key, ...], *, as_json: bool) -> None:
    """Names, roles, and until when."""
    if as_json:
        print(json.dumps([key.model_dump(mode="json", exclude={"sha256"}) for key in keys], indent=2))
        return
    for key in keys:
        ends = "no end" if key.expires is None else f"until {key.expires:%Y-%m-%d %H:%M} UTC"
        if key.is_expired(datetime.now(UTC)):
            ends = f"expired {key.expires:%Y-%m-%d}"
        rate = "" if key.rate is None else f", {key.rate:g}/s"
        print(f"{key.name:<24} {', '.join(key.roles):<24} {ends}{rate}")
