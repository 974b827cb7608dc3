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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sortal.core.errors import InputError, nearest, plain
from sortal.serve.settings import ServeSettings

OWN = (
    "workers",
    "threads",
    "engine",
    "batch",
    "warm",
    "delay_ms",
    "preferred",
    "memory_mb",
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

    Raises InputError for what is no such file, an unknown key or setting, a name used twice, and a path with nothing;
    it says in which line, and of which model.
    """
    text = _Text(file)
    for key in text.found:
        if key not in _KEYS:
            hint = nearest(str(key), _KEYS)
            raise InputError("no such key", where=text.at(key), received=str(key)[:100], hint=hint)
    models = text.found.get("models")
    if not isinstance(models, dict) or not models:
        raise InputError("there are no models", where=text.at("models"), received=_short(models), hint=_EXAMPLE)
    listed = [_listed(text, name, told, settings) for name, told in models.items()]
    default, names = text.found.get("default", listed[0].name), [one.name for one in listed]
    if default not in names:
        hint = nearest(str(default)[:100], names)
        raise InputError(
            "the default is none of the models", where=text.at("default"), received=_short(default), hint=hint
        )
    return sorted(listed, key=lambda one: one.name != default)


class _Text:
    """The file as YAML, which knows in which line each key stands."""

    def __init__(self, file: Path):
        """Raises InputError for what is no YAML, or none with keys and values."""
        self.file = file
        text = _read(file)
        try:
            self._node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.found: dict[Any, Any] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError of a date
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            where = str(file) if mark is None else f"{file}, line {mark.line + 1}"
            raise InputError(f"this is no YAML: {problem or error}"[:400], where=where, hint=_EXAMPLE) from error
        if not isinstance(self.found, dict):
            received = type(self.found).__name__
            raise InputError("expected keys and values", where=str(file), received=received, hint=_EXAMPLE)
        self._refuse_repeated()

    def at(self, *keys: Any) -> str:
        """The file, the line of the last of `keys`, each in the one before, and those that tell which model it is."""
        node, line = self._node, 0
        for key in keys:
            place = next(((own, value) for own, value in _pairs(node) if own.value == str(key)), None)
            if place is None:
                break
            line, node = place[0].start_mark.line + 1, place[1]
        told = [str(self.file), f"line {line}" if line else "", *(str(key)[:100] for key in keys[1:])]
        return ", ".join(filter(None, told))

    def _refuse_repeated(self) -> None:
        """YAML keeps the last of two equal keys without a word; here that would be a model that is not served."""
        for node in _mappings(self._node):
            known: dict[str, int] = {}
            for key, _ in _pairs(node):
                if not isinstance(key, yaml.ScalarNode):
                    continue
                line = key.start_mark.line + 1
                if key.value in known:
                    hint = f"it stands in line {known[key.value]} already: give one of them another name"
                    where, received = f"{self.file}, line {line}", key.value[:100]
                    raise InputError("the same name twice", where=where, received=received, hint=hint)
                known[key.value] = line


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        hint = f"a file such as  {_EXAMPLE}"
        raise InputError(f"this file cannot be read: {error.strerror}", where=str(file), hint=hint) from error
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8"
        raise InputError(f"this is no text in UTF-8: {error.reason}", where=str(file), hint=hint) from error


def _pairs(node: yaml.Node | None) -> list[tuple[Any, Any]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _mappings(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Each node below with keys, once: an alias may lead back to what it is in."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode) and id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += [value for _, value in _pairs(node)]


def _listed(text: _Text, name: Any, told: Any, settings: ServeSettings) -> Listed:
    where = text.at("models", name)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        hint = "letters, digits, dot, dash and underscore, 100 at most; numbers in quotes"
        raise InputError("a name that cannot be in an address", where=where, received=_short(name), hint=hint)
    own = {"path": told} if isinstance(told, str) else told
    if not isinstance(own, dict) or not isinstance(own.get("path"), str):
        raise InputError("a model has a path", where=where, received=_short(told), hint=_EXAMPLE)
    for key in own:
        if key != "path" and key not in OWN:
            server = key in ServeSettings.model_fields
            what = "this is a setting of the whole server" if server else "no such setting of a model"
            todo = _BESIDE.format(key) if server else nearest(str(key), ("path", *OWN))
            raise InputError(what, where=text.at("models", name, key), received=_short(key), hint=todo)
    return Listed(name=name, path=_path(text.file, own["path"], where), settings=_settings(text, name, settings, own))


def _path(file: Path, told: str, where: str) -> Path:
    """Where a model lies. Raises InputError where nothing does."""
    try:
        path = file.parent / Path(told).expanduser()
        there, reason = path.exists(), ""
    except (OSError, RuntimeError) as error:  # RuntimeError of a home that nobody has
        path, there, reason = file.parent / told, False, f": {getattr(error, 'strerror', None) or error}"
    if there:
        return path
    hint = f"a run, bundle, artifact or workspace, relative to {file.absolute().parent}"
    raise InputError(f"there is no such model{reason}", where=where, received=str(path)[:300], hint=hint)


def _settings(text: _Text, name: str, settings: ServeSettings, own: dict[str, Any]) -> ServeSettings:
    changed = {key: value for key, value in own.items() if key != "path"}
    try:
        return ServeSettings.model_validate({**settings.model_dump(), **changed})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        default = ServeSettings.model_fields[key].get_default(call_default_factory=True, validated_data={})
        usual = list(default) if isinstance(default, tuple) else default  # as YAML writes it
        hint, where = f"such as {key}: {usual}", text.at("models", name, key)
        raise InputError(plain(first["msg"]), where=where, received=_short(first["input"]), hint=hint) from error


def _short(value: Any) -> str:
    return str(value)[:100]
