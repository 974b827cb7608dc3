"""A model folder as the Hugging Face hub keeps it for timm: `config.json` and `model.safetensors`, read offline.

    config.json          architecture, model_args, num_classes, label_names, pretrained_cfg (input, licence)
    model.safetensors    timm's own keys, classifier included

A folder like that is a model name wherever one is asked for (`sortal train photos/ model=path/to/folder`), and
`sortal import` makes a bundle of one. Weights that are pickles are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sortal.core.canonical import parse
from sortal.core.errors import InputError, WeightsError
from sortal.core.manifest import explain
from sortal.models.cards import CardInput
from sortal.models.hub import WEIGHTS_FILE

CONFIG_FILE = "config.json"
_OTHERS = {"head_init_scale", "global_pool"}
"""Arguments of the classifier that is left out, or that change nothing of the weights' own pooling."""


@dataclass(frozen=True, kw_only=True)
class HubFolder:
    """What such a folder says."""

    path: Path
    architecture: str
    arguments: dict[str, Any]
    """For the architecture, without the number of classes and channels."""
    classes: int
    channels: int
    labels: tuple[str, ...]
    """Empty where the folder names none."""
    input: CardInput | None
    size: tuple[int, int] | None
    """(height, width)"""
    crop_mode: str
    """`center`, `squash` or `border`, as timm calls them."""
    licence: str

    @property
    def weights_path(self) -> Path:
        return self.path / WEIGHTS_FILE


def is_hub_folder(name: str) -> bool:
    """Whether `name` is the path of a folder with a `config.json` that names an architecture."""
    folder = Path(name).expanduser()
    return (folder / CONFIG_FILE).is_file() and folder.is_dir()


def read_hub_folder(path: Path) -> HubFolder:
    """Raises WeightsError when the folder's configuration is damaged, or its weights are missing or pickles."""
    from sortal.models.wrapped import FORBIDDEN_ARGUMENTS  # torch comes with it

    where = path / CONFIG_FILE
    config = _config(where)
    _check_weights(path)
    said = config.get("pretrained_cfg", {})
    shape = said.get("input_size")
    arguments = dict(config.get("model_args") or {})
    channels = arguments.pop("in_chans", None) or (shape[0] if shape else 3)
    labels = config.get("label_names") or ()
    classes = config.get("num_classes")
    if not isinstance(classes, int) or classes < 1:
        raise WeightsError("the folder holds no classifier", where=str(where), received=f"num_classes = {classes!r}")
    names = tuple(map(str, labels.values() if isinstance(labels, Mapping) else labels))
    if names and len(names) != classes:
        raise WeightsError(f"{classes} classes but {len(names)} label names", where=str(where))
    return HubFolder(
        path=path,
        architecture=str(config["architecture"]),
        arguments={key: value for key, value in arguments.items() if key not in FORBIDDEN_ARGUMENTS | _OTHERS},
        classes=classes,
        channels=int(channels),
        labels=names,
        input=_input(said, shape, where),
        size=None if not shape else (int(shape[1]), int(shape[2])),
        crop_mode=str(said.get("crop_mode", "center")),
        licence=str(said.get("license") or "unknown (local folder)"),
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        found = parse(path.read_bytes(), where=str(path))
    except (OSError, InputError) as error:
        raise WeightsError(f"cannot read this model folder: {error}", where=str(path)) from error
    if not isinstance(found, dict) or not isinstance(found.get("architecture"), str):
        raise WeightsError(
            "this config.json names no architecture of timm",
            where=str(path),
            hint="timm's folders have the key architecture; those of other libraries are not read",
        )
    if not isinstance(found.get("pretrained_cfg", {}), dict) or not isinstance(found.get("model_args") or {}, dict):
        raise WeightsError("pretrained_cfg and model_args must hold keys and values", where=str(path))
    return found


def _check_weights(folder: Path) -> None:
    if (folder / WEIGHTS_FILE).is_file():
        return
    pickle = next((one.name for one in folder.glob("*.bin")), None)
    what = "the folder has no model.safetensors" + ("" if pickle is None else f", and {pickle} is a pickle")
    raise WeightsError(what, where=str(folder), hint="timm writes one with save_for_hf(..., safe_serialization=True)")


def _input(said: Mapping[str, Any], shape: Any, where: Path) -> CardInput | None:
    if not shape or "mean" not in said or "std" not in said:
        return None
    fields = {
        key: said[name] for key, name in (("crop", "crop_pct"), ("interpolation", "interpolation")) if name in said
    }
    try:
        return CardInput(size=shape[-1], mean=said["mean"], std=said["std"], **fields)
    except ValidationError as error:
        raise WeightsError(f"pretrained_cfg: {explain(error)}", where=str(where)) from error
