"""Recipe: everything a run is made from, as one frozen, typed value written as YAML.

Whatever `recipe.yaml` records is set by `key=value` on the command line; `auto` is resolved once into the run's plan.
The sections and their keys are `core.sections`; the presets are `core.presets`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from sortal.core.canonical import digest
from sortal.core.contract import Contract
from sortal.core.errors import RecipeError, nearest
from sortal.core.presets import PRESETS, PresetName
from sortal.core.sections import (
    AugmentSection,
    CompressSection,
    DataSection,
    DistillSection,
    EvaluateSection,
    ExportSection,
    InputSection,
    LossSection,
    ModelSection,
    OptimSection,
    ScheduleSection,
    Section,
    TrainSection,
)


class Recipe(Section):
    """One run. `digest` identifies it."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    preset: PresetName | None = None
    """`fast`, `balanced` or `best`: settings to start from, under everything that is said explicitly."""
    data: DataSection = Field(default_factory=DataSection)
    input: InputSection = Field(default_factory=InputSection)
    model: ModelSection = Field(default_factory=ModelSection)
    augment: AugmentSection = Field(default_factory=AugmentSection)
    loss: LossSection = Field(default_factory=LossSection)
    optim: OptimSection = Field(default_factory=OptimSection)
    schedule: ScheduleSection = Field(default_factory=ScheduleSection)
    train: TrainSection = Field(default_factory=TrainSection)
    distill: DistillSection = Field(default_factory=DistillSection)
    evaluate: EvaluateSection = Field(default_factory=EvaluateSection)
    contract: Contract | None = None
    export: ExportSection = Field(default_factory=ExportSection)
    compress: CompressSection = Field(default_factory=CompressSection)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form."""
        return digest(self.model_dump(mode="json"))

    def to_yaml(self) -> str:
        """The whole recipe, defaults included, in the order of the documentation."""
        return yaml.safe_dump(
            self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, default_flow_style=None
        )


def load_recipe(path: Path | None, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Recipe:
    """A recipe from a YAML file (with its `base:` chain) and `key=value` overrides, which win.

    Raises RecipeError that names the key, what was received and the nearest valid key or the valid values.
    """
    data = {} if path is None else _read(path, seen=())
    changes = dict(overrides) if isinstance(overrides, Mapping) else dict(map(parse_override, overrides))
    for key, value in changes.items():
        _set(data, key, value)
    return build_recipe(data, where="recipe" if path is None else str(path))


def build_recipe(data: Mapping[str, Any], *, where: str) -> Recipe:
    """Check plain data against the schema. A section given a plain value sets its `name`."""
    expanded = {key: _named(key, value) for key, value in _with_preset(data, where).items()}
    if isinstance(expanded.get("contract"), str):
        expanded["contract"] = load_yaml(Path(expanded["contract"]))
    try:
        return Recipe.model_validate(expanded)
    except ValidationError as error:
        raise _explain(error, where) from error


def _with_preset(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`data` over what its preset says; the preset's name stays in the recipe."""
    name = data.get("preset")
    if name is None:
        return dict(data)
    if name not in PRESETS:
        raise RecipeError(
            "preset: no such preset", where=where, received=repr(name), hint=f"one of {', '.join(PRESETS)}"
        )
    return _merge(PRESETS[name], dict(data))


def parse_override(text: str) -> tuple[str, Any]:
    """`optim.lr=3e-4` as (`optim.lr`, 0.0003). Values are read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key):
        raise RecipeError("not a key=value setting", received=text, hint="write settings like train.epochs=10")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError("the value is not valid YAML", where=key, received=value) from error
    if isinstance(parsed, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", parsed):
        parsed = float(parsed)  # YAML 1.1 reads 3e-4 as text
    return key, parsed


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises RecipeError when the file is absent, not YAML, or not a mapping."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"cannot read this file: {error}", where=str(path)) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise RecipeError("expected keys and values", where=str(path), received=type(data).__name__)
    return data


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    resolved = path.resolve()
    if resolved in seen:
        raise RecipeError("base: goes round in a circle", where=str(path))
    data = load_yaml(path)
    base = data.pop("base", None)
    if base is None:
        return data
    below = _read(path.parent / str(base), (*seen, resolved))
    return _merge(below, data)


def _merge(below: Mapping[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        value = _named(key, value) if isinstance(old, dict) else value
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _named(key: str, value: Any) -> Any:
    field = Recipe.model_fields.get(key)
    section = field.annotation if field else None
    if isinstance(section, type) and issubclass(section, Section) and "name" in section.model_fields:
        return {"name": value} if isinstance(value, str) else value
    return value


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = _named(section, data.get(section, {}))
        data[section] = dict(inner) if isinstance(inner, dict) else {}
        data = data[section]
    old = data.get(last)
    data[last] = _merge(old, {"name": value}) if isinstance(old, dict) and isinstance(value, str) else value


def _explain(error: ValidationError, where: str) -> RecipeError:
    first = error.errors()[0]
    unknown = first["type"] in ("extra_forbidden", "invalid_key")
    known = first["loc"][:-1] if unknown else first["loc"]
    path = [str(part) for part in known if isinstance(part, int) or _is_key(str(part))]
    path += [str(first["loc"][-1])] if unknown else []
    key = ".".join(path)
    if unknown:
        valid = _keys_beside(path)
        return RecipeError(f"unknown key {key!r}", where=where, hint=nearest(path[-1], valid))
    messages = {item["msg"] for item in error.errors() if item["loc"][: len(path)] == first["loc"][: len(path)]}
    return RecipeError(f"{key}: {'; or '.join(sorted(messages))}", where=where, received=repr(first["input"]))


def _is_key(part: str) -> bool:
    return re.fullmatch(r"[\w]+", part) is not None and not part.startswith(("function-", "literal", "constrained"))


def _keys_beside(path: list[str]) -> list[str]:
    model: Any = Recipe
    for part in path[:-1]:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = _model_of(field.annotation) if field else None
    return list(model.model_fields) if model else list(Recipe.model_fields)


def _model_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [arg for arg in getattr(annotation, "__args__", ()) if isinstance(arg, type) and issubclass(arg, BaseModel)]
    return inner[0] if inner else None
