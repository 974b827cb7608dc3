"""What comes beside a model from elsewhere: the names of its classes and how its images are prepared.

Preprocessing is read under Sortal's own keys and those of timm and torchvision, so that a model's published settings
can be copied as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sortal.core.canonical import parse
from sortal.core.errors import InputError, nearest
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec
from sortal.core.recipe import load_yaml
from sortal.core.report import Finding

OTHER_KEYS = ("input_size", "crop_pct", "crop_mode", "crop_size", "resize_size")
_CROP_MODES = {"center": "crop", "squash": "stretch", "border": "pad"}
_EXAMPLE = "size: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], resize: crop, crop: 0.875"


def read_labels(path: Path) -> tuple[LabelSet, list[Finding]]:
    """Class names in order: one a line, or a JSON list or `{"0": name}`. Names given twice get their index added."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the class names: {error}", where=str(path)) from error
    names = _json_names(text, path) if path.suffix == ".json" else [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise InputError("class names must be one a line, none empty", where=str(path))
    unique = [name if name not in names[:index] else f"{name} ({index})" for index, name in enumerate(names)]
    renamed = [name for name, old in zip(unique, names, strict=True) if name != old]
    if not renamed:
        return LabelSet(names=tuple(unique)), []
    message = f"{len(renamed)} class names are given twice; the later ones are called {', '.join(renamed[:5])}"
    return LabelSet(names=tuple(unique)), [Finding(code="names_twice", severity="warning", message=message)]


def read_preprocess(path: Path | None, *, channels: int | None, size: tuple[int, int] | None) -> PreprocessSpec:
    """The spec from a YAML or JSON file; `channels` and `size` are what the model itself fixes, where it does.

    Raises InputError that names the key, or says what is needed where there is no file.
    """
    if path is None:
        known = f" (the model takes {size[0]} x {size[1]} pixels)" if size else ""
        raise InputError(
            f"a model from elsewhere needs its preprocessing{known}", hint=f"write a YAML file with {_EXAMPLE}"
        )
    data = _translated(load_yaml(path), str(path))
    if size is not None:
        data.setdefault("size", size)
    if "size" not in data or "mean" not in data or "std" not in data:
        raise InputError("size, mean and std are needed", where=str(path), hint=f"for example {_EXAMPLE}")
    data.setdefault("channels", channels or 3)
    try:
        spec = PreprocessSpec.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "preprocess"
        raise InputError(f"{key}: {first['msg']}", where=str(path), received=str(first["input"])) from error
    _require_fit(spec, channels, size, str(path))
    return spec


def _json_names(text: str, path: Path) -> list[str]:
    data = parse(text, where=str(path))
    data = data.get("names", data) if isinstance(data, dict) else data
    if isinstance(data, dict):
        keys = sorted(data, key=lambda key: int(key) if key.isdecimal() else -1)
        if keys != [str(index) for index in range(len(keys))]:
            raise InputError("the class indices must be 0, 1, 2 ... without gaps", where=str(path))
        data = [data[key] for key in keys]
    if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
        raise InputError("expected a list of class names", where=str(path))
    return [name.strip() for name in data]


def _translated(data: dict[str, Any], where: str) -> dict[str, Any]:
    """Other projects' keys under Sortal's names."""
    known = [*PreprocessSpec.model_fields, *OTHER_KEYS]
    for key in data:
        if key not in known:
            raise InputError(f"unknown key {key!r}", where=where, hint=nearest(str(key), known))
    own = {key: value for key, value in data.items() if key in PreprocessSpec.model_fields}
    if "input_size" in data:
        own["channels"], *own["size"] = _numbers(data["input_size"], 3, f"{where}: input_size")
    if "crop_pct" in data:
        own["crop"] = data["crop_pct"]
    if "crop_mode" in data:
        own["resize"] = _CROP_MODES.get(data["crop_mode"], data["crop_mode"])
    if "crop_size" in data:
        own["size"] = _pair(data["crop_size"], f"{where}: crop_size")
        own["crop"] = own["size"][0] / _pair(data.get("resize_size", own["size"]), f"{where}: resize_size")[0]
    if "size" in own:
        own["size"] = _pair(own["size"], f"{where}: size")
    return own | _unit_scale({key: _floats(own[key], f"{where}: {key}") for key in ("mean", "std") if key in own})


def _pair(value: Any, where: str) -> list[int]:
    """`224`, `[224]` or `[224, 192]` as height and width."""
    values = value if isinstance(value, list | tuple) else [value]
    return _numbers(values * 2 if len(values) == 1 else values, 2, where)


def _numbers(value: Any, count: int, where: str) -> list[int]:
    if not isinstance(value, list | tuple) or len(value) != count or not all(isinstance(item, int) for item in value):
        raise InputError(f"expected {count} whole numbers", where=where, received=str(value))
    if min(value) < 1:
        raise InputError("expected numbers above 0", where=where, received=str(value))
    return list(value)


def _floats(value: Any, where: str) -> list[float]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(isinstance(item, int | float) for item in values):
        raise InputError("expected numbers", where=where, received=str(value))
    return [float(item) for item in values]


def _unit_scale(given: dict[str, list[float]]) -> dict[str, list[float]]:
    """Mean and deviation for samples 0..255 brought to 0..1; one number above 4 says that both are on that scale."""
    scale = 255.0 if any(max(values) > 4.0 for values in given.values()) else 1.0
    return {key: [value / scale for value in values] for key, values in given.items()}


def _require_fit(spec: PreprocessSpec, channels: int | None, size: tuple[int, int] | None, where: str) -> None:
    if channels is not None and spec.channels != channels:
        raise InputError(f"the model takes {channels} channels", where=where, received=f"channels: {spec.channels}")
    if size is not None and spec.size != size:
        hint = f"write size: [{size[0]}, {size[1]}]"
        raise InputError("the model takes another size", where=where, received=f"size: {list(spec.size)}", hint=hint)
