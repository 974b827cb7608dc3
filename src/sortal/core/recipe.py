"""Recipe: everything a run is made from, as one frozen, typed value written as YAML.

Whatever `recipe.yaml` records is set by `key=value` on the command line; `auto` is resolved once into the run's plan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from sortal.core.canonical import digest
from sortal.core.contract import Contract
from sortal.core.errors import RecipeError, nearest

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: Any) -> Any:
    """`90`, `90s`, `10m`, `1.5h` as seconds."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smh]?)\s*", value)):
        return float(found[1]) * _UNITS_S[found[2] or "s"]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0.0)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any) -> Any:
        """YAML reads `yes`, `on` and `true` as truth, which would pass for 1; no key here is a yes or no."""
        if isinstance(value, bool):
            raise ValueError("true and false (yes, no, on, off) are no values for this key")
        return value


class SplitSection(Section):
    """Shares of the images that go to validation and test where the source has no splits of its own."""

    val: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.15
    test: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.15


class DataSection(Section):
    """Which images, how they are grouped and divided."""

    split: SplitSection = SplitSection()
    group: str | None = None
    """A column, or a regular expression over paths whose first group is the key; a group never crosses splits."""
    label: str = "label"
    """The column that holds the class, for tables."""
    level: Literal["fine", "coarse"] | None = None
    """Which level of a taxonomy is learned; null means the finest."""


class InputSection(Section):
    """What becomes the PreprocessSpec."""

    size: Auto | Annotated[int, Field(ge=8, le=2048)] | tuple[int, int] = "auto"
    """Pixels a side, or [height, width]."""
    resize: Auto | Literal["crop", "pad", "stretch"] = "auto"
    crop: Annotated[float, Field(gt=0.0, le=1.0)] = 0.875
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bicubic"
    channels: Literal[1, 3] = 3
    depth: Literal[8, 16] = 8
    mean: Auto | tuple[float, ...] = "auto"
    std: Auto | tuple[float, ...] = "auto"
    region: tuple[Share, Share, Share, Share] | None = None


class ModelSection(Section):
    """Which network, from which weights."""

    name: str = "auto"
    """`auto`, an architecture, or the path of a weights card."""
    weights: str | None = "auto"
    """`auto` (pretrained where there are any), null (from scratch), a file, a card, or a hub name."""
    arguments: dict[str, Any] = {}
    """Passed to the architecture."""
    head: Literal["linear"] = "linear"
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class AugmentSection(Section):
    """How training images are varied; `strength` scales all of it, 0 turns it off."""

    name: str = "basic"
    strength: NonNegative = 1.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    erase: Share = 0.0


class LossSection(Section):
    """What is minimized."""

    name: Literal["cross_entropy"] = "cross_entropy"
    smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    imbalance: Literal["none"] = "none"


class OptimSection(Section):
    """How it is minimized."""

    name: Literal["adamw"] = "adamw"
    lr: Auto | Annotated[float, Field(gt=0.0)] = "auto"
    weight_decay: NonNegative = 0.05
    layer_decay: Auto | Annotated[float, Field(gt=0.0, le=1.0)] = "auto"
    clip: NonNegative = 1.0
    """Largest total gradient norm; 0 turns clipping off."""
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Decay of the moving average of the weights; 0 turns it off."""


class ScheduleSection(Section):
    """How the learning rate changes over a run."""

    name: Literal["cosine"] = "cosine"
    warmup: Share = 0.05
    """Share of all steps in which the rate rises linearly."""


class TrainSection(Section):
    """How long, how much at once, and when to stop."""

    time: Seconds | None = None
    """Budget of the whole command in seconds; `10m` and `1h` are understood."""
    epochs: Auto | Annotated[int, Field(ge=0)] = "auto"
    """Passes of gradient training; 0 fits the head on frozen features only."""
    batch: Auto | Count = "auto"
    freeze: Auto | Literal["none", "backbone"] = "auto"
    precision: Auto | Literal["fp32", "bf16"] = "auto"
    patience: Count = 10
    """Epochs without a better validation metric before training stops early."""
    metric: Literal["macro_f1", "accuracy"] = "macro_f1"
    workers: Auto | Annotated[int, Field(ge=0)] = "auto"


class EvaluateSection(Section):
    """What the report says beside accuracy."""

    top_k: tuple[Count, ...] = (1, 3, 5)
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class ExportSection(Section):
    """Which deployment artifacts a run makes."""

    artifacts: tuple[str, ...] = ("onnx",)


class Recipe(Section):
    """One run. `digest` identifies it."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataSection = DataSection()
    input: InputSection = InputSection()
    model: ModelSection = ModelSection()
    augment: AugmentSection = AugmentSection()
    loss: LossSection = LossSection()
    optim: OptimSection = OptimSection()
    schedule: ScheduleSection = ScheduleSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    contract: Contract | None = None
    export: ExportSection = ExportSection()

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
    expanded = {key: _named(key, value) for key, value in data.items()}
    if isinstance(expanded.get("contract"), str):
        expanded["contract"] = load_yaml(Path(expanded["contract"]))
    try:
        return Recipe.model_validate(expanded)
    except ValidationError as error:
        raise _explain(error, where) from error


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


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
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
