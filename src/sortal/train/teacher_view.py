"""The student's augmented picture as a teacher wants to see it: its channels, its size, its normalization.

Nothing is cropped: student and teacher see the same part of the same picture, varied the same way. Shapes: N images,
C channels, H and W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from sortal.core.errors import RecipeError
from sortal.core.preprocess import Pixels, PreprocessSpec, fit_inside

_LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601-2, as Pillow turns RGB into grey."""
_MODES = {"nearest": "nearest-exact", "box": "bilinear", "bilinear": "bilinear", "hamming": "bilinear"}
"""torch's nearest kin of Pillow's filters; bicubic stands for the rest."""


def pictures_of(images: Pixels | Tensor, student: PreprocessSpec) -> Tensor:
    """(N, C, H, W): uint8, or float32 on the scale 0..1, from samples (N, H, W, C), or from the student's normalized
    input (N, C, H, W)."""
    if isinstance(images, np.ndarray):
        deep = images.dtype != np.uint8
        samples = torch.from_numpy(images.astype(np.float32) / student.maximum if deep else images)
        return samples.permute(0, 3, 1, 2)
    mean, std = _statistics(student, images)
    return images.detach().float() * std + mean


def as_seen(pictures: Tensor, teacher: PreprocessSpec) -> Tensor:
    """Pictures as `pictures_of` gives them to the teacher's input (N, C', H', W') float32, normalized.

    Pictures of another shape than the teacher's input are fitted inside and padded where the teacher pads or crops, and
    stretched where it stretches. Resizing is antialiased like Pillow's, so the pictures are those of `prepare` up to
    its rounding between the two axes. uint8 pictures are resized as such, more than ten times faster on a CPU.
    """
    height, width = teacher.size
    here = (pictures.shape[2], pictures.shape[3])
    inside = (height, width) if teacher.resize == "stretch" else fit_inside(here, teacher.size)
    resized = pictures if inside == here else _resize(pictures, inside, teacher.interpolation)
    mean, std = _statistics(teacher, resized)
    shown = _with_channels(_unit(resized), teacher.channels).sub(mean).div_(std)
    if inside == teacher.size:
        return shown
    top, left = (height - inside[0]) // 2, (width - inside[1]) // 2
    return pad(shown, (left, width - inside[1] - left, top, height - inside[0] - top))


def check_view(teacher: PreprocessSpec, student: PreprocessSpec, name: str) -> None:
    """Raise RecipeError where a teacher looks at another part or another intensity window than the student."""
    for key in ("region", "window"):
        theirs, ours = getattr(teacher, key), getattr(student, key)
        if theirs is not None and theirs != ours:
            raise RecipeError(
                f"the teacher looks through another {key} than the student, so they would not see the same picture",
                where=f"distill.teacher: {name}",
                received=f"{theirs}, the student has {ours}",
                hint=f"give both the same {key}" + (f" (input.region={list(theirs)})" if key == "region" else ""),
            )


def _resize(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    mode = _MODES.get(interpolation, "bicubic")
    if images.device.type != "cpu":
        images = _unit(images)  # other devices resize floats alone
    if mode == "nearest-exact":
        return interpolate(images, size=size, mode=mode)
    resized = interpolate(images, size=size, mode=mode, antialias=True, align_corners=False)
    return resized if resized.dtype == torch.uint8 else resized.clamp(0.0, 1.0)


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _with_channels(pictures: Tensor, channels: int) -> Tensor:
    if pictures.shape[1] == channels:
        return pictures
    if channels == 3:
        return pictures.expand(-1, 3, -1, -1)
    weights = torch.tensor(_LUMA, device=pictures.device).view(1, 3, 1, 1)
    return (pictures * weights).sum(dim=1, keepdim=True)


def _statistics(spec: PreprocessSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    values = (torch.tensor(v, dtype=torch.float32, device=like.device).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    mean, std = values
    return mean, std
