"""The file of `sortal serve --models`: several classifiers by name, each with settings of its own.

default: steel            # answers where nobody names one; the first one without
models:
  steel: runs/photos-1
  line4:
    path: line4/          # relative to this file
    workers: 2
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sortal.core.errors import InputError, nearest
from sortal.serve.settings import ServeSettings

OWN = (
    "workers",
    "threads",
    "engine",
    "batch",
    "warm",
    "delay_ms",
    "queue",
    "answer_s",
    "hang_s",
    "start_s",
    "keep",
    "canary_errors",
    "canary_latency",
    "canary_abstained",
    "canary_disagreed",
    "canary_requests",
    "canary_chance",
    "canary_gone_s",
)
"""Settings that each model may have of its own; the others are the server's."""
_KEYS = ("models", "default")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BESIDE = "say it beside the file: sortal serve --models FILE {}=…"
_EXAMPLE = "models: {steel: runs/photos-1, line4: {path: line4/, workers: 2}}"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One classifier that shall be served."""

    name: str
    path: Path
    settings: ServeSettings


def read_models(file: Path, settings: ServeSettings) -> list[Listed]:
    """What the file lists, the default one first; `settings` count where it says nothing.

    Raises InputError for what is no such file, an unknown key or setting, a name used twice, and a path with nothing.
    """
    found = _parsed(file)
    for key in found:
        if key not in _KEYS:
            raise InputError("no such key", where=str(file), received=str(key), hint=nearest(str(key), _KEYS))
    models = found.get("models")
    if not isinstance(models, dict) or not models:
        raise InputError("there are no models", where=str(file), hint=_EXAMPLE)
    listed = [_listed(file, name, told, settings) for name, told in models.items()]
    default = found.get("default", listed[0].name)
    if default not in models:
        names = [one.name for one in listed]
        raise InputError(
            "the default is none of the models",
            where=str(file),
            received=str(default),
            hint=nearest(str(default), names),
        )
    return sorted(listed, key=lambda one: one.name != default)


def _parsed(file: Path) -> dict[Any, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"this file cannot be read: {error}", where=str(file)) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"this is no YAML: {error}", where=str(file), hint=_EXAMPLE) from error
    if not isinstance(found, dict) or not isinstance(node, yaml.MappingNode):
        raise InputError("expected keys and values", where=str(file), received=type(found).__name__, hint=_EXAMPLE)
    _refuse_repeated(node, file)
    return found


def _refuse_repeated(node: yaml.MappingNode, file: Path) -> None:
    """YAML keeps the last of two equal keys without a word; here that would be a model that is not served."""
    times = Counter(str(key.value) for key, _ in node.value)
    for key, value in node.value:
        if times[str(key.value)] > 1:
            line = f"{file}, line {key.start_mark.line + 1}"
            raise InputError("the same name twice", where=line, received=str(key.value))
        if isinstance(value, yaml.MappingNode):
            _refuse_repeated(value, file)


def _listed(file: Path, name: Any, told: Any, settings: ServeSettings) -> Listed:
    where = f"{file}, {name}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        hint = "letters, digits, dot, dash and underscore, 100 at most; numbers in quotes"
        raise InputError("a name that cannot be in an address", where=str(file), received=str(name)[:100], hint=hint)
    own = {"path": told} if isinstance(told, str) else told
    if not isinstance(own, dict) or not isinstance(own.get("path"), str):
        raise InputError("a model has a path", where=where, received=str(told)[:80], hint=_EXAMPLE)
    for key in own:
        if key != "path" and key not in OWN:
            server = key in ServeSettings.model_fields
            what = "this is a setting of the whole server" if server else "no such setting of a model"
            known = nearest(str(key), ("path", *OWN))
            raise InputError(what, where=where, received=str(key), hint=_BESIDE.format(key) if server else known)
    path = file.parent / Path(own["path"]).expanduser()
    if not path.exists():
        raise InputError("there is no such model", where=where, received=str(path))
    return Listed(name=name, path=path, settings=_settings(settings, own, where))


def _settings(settings: ServeSettings, own: dict[str, Any], where: str) -> ServeSettings:
    changed = {key: value for key, value in own.items() if key != "path"}
    try:
        return ServeSettings.model_validate({**settings.model_dump(), **changed})
    except ValidationError as error:
        first = error.errors()[0]
        message, place = str(first["msg"]), f"{where}, {first['loc'][0]}"
        raise InputError(message, where=place, received=str(first["input"])) from error
