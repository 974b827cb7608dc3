"""`key=value` arguments of commands that have settings of their own, checked by the model of these settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from sortal.core.errors import InputError, nearest, plain

if TYPE_CHECKING:
    from pydantic import BaseModel

Settings = TypeVar("Settings", bound="BaseModel")


def pairs(texts: Sequence[str] | None, *, example: str) -> dict[str, Any]:
    """Each `key=value` with its value as YAML. Raises InputError for what is no pair, with an `example` of one."""
    found = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not separator:
            raise InputError("a setting is key=value", received=text, hint=example)
        try:
            found[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError of a date
            raise InputError("this is no value in YAML", where=key, received=value[:100], hint=example) from error
    return found


def settings_of(
    model: type[Settings],
    texts: Sequence[str] | None,
    *,
    of: str,
    example: str,
    options: dict[str, Any] | None = None,
) -> Settings:
    """The settings that `texts` give, over those that `options` of the command gave.

    `of` names in errors what they are settings of. Raises InputError for an unknown key or a wrong value.
    """
    from pydantic import ValidationError

    given = pairs(texts, example=example)
    for key in given:
        if key not in model.model_fields:
            hint = nearest(key, model.model_fields) or example
            raise InputError(f"no such setting of {of}", received=key, hint=hint)
    try:
        return model.model_validate({**(options or {}), **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else None
        raise InputError(plain(first["msg"]), where=where, received=str(first["input"])) from error
