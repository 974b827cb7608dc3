"""Where two ways from bytes to an answer part: the first stage of the artifact that does not do what the original does.

Every stage is given what the original's stage before it gave, so that a fault is found where it is and not where it
shows. Decoding, resizing and normalization are compared as numbers; behind them only logits are left to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, ImageError, InputError
from sortal.core.preprocess import Pixels, PreprocessSpec, normalize, prepare
from sortal.data.decode import to_pixels
from sortal.export.parity import Answered, Side, logits_of
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.sources import Item, Raw

Stage = Literal["decode", "resize", "normalize", "graph", "precision", "labels", "decision"]
STAGES: tuple[Stage, ...] = ("decode", "resize", "normalize", "graph", "precision", "labels", "decision")

_LOOKED_AT = 32
GREY_LEVELS = 2
"""Resized samples may differ by so much: another implementation of the same filter rounds otherwise, twice."""
_SAME_INPUT = 1e-3
"""Of normalized input."""
_SAME_LOGITS = 0.05
"""Of the spread of the logits: what is closer than this is the same function of the image, up to rounding."""
ROUNDING = 0.5
"""Of the spread of the logits: what is farther than this is another function, not a coarser one."""

_DECODING = ("channels", "depth", "window")
_RESIZING = ("region", "size", "resize", "crop", "interpolation")
_NORMALIZING = ("mean", "std")


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first stage that differs, in words, and the images that show it."""

    stage: Stage
    message: str
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One image on both ways, as far as the network's input."""

    name: str
    pixels: Pixels
    """(height, width, channels) prepared by the original."""
    artifact_pixels: Pixels
    """Decoded and prepared by the artifact."""
    decoded: str | None
    """How the artifact's upright pixels differ; None where they do not."""
    resize_gap: int
    """The largest difference of a sample when both resize the original's upright pixels; -1 for another size."""
    answered: Answered | None = None
    """By an artifact that takes upright pixels."""


def look(original: Side, artifact: Side, item: Item) -> Seen | None:
    """One image on both ways; None where the original cannot read it."""
    try:
        raw = item.open()
        upright = _decode(original, raw, item.name)
    except ImageError:
        return None
    pixels = _prepare(original, upright)
    if _same_eyes(original, artifact):
        return Seen(name=item.name, pixels=pixels, artifact_pixels=pixels, decoded=None, resize_gap=0)
    try:
        theirs = _decode(artifact, raw, item.name)
        prepared = _prepare(artifact, theirs)
    except (ImageError, InputError) as error:
        unread = f"the artifact cannot read what the original reads: {error.what}"
        return Seen(name=item.name, pixels=pixels, artifact_pixels=pixels, decoded=unread, resize_gap=0)
    takes = artifact.preprocess.channels, artifact.preprocess.depth
    resized = _prepare(artifact, upright) if takes == (upright.shape[2], original.preprocess.depth) else pixels
    return Seen(
        name=item.name,
        pixels=pixels,
        artifact_pixels=prepared,
        decoded=_decoded(upright, theirs),
        resize_gap=_gap(pixels, resized),
        answered=None if artifact.whole is None else artifact.whole(theirs),
    )


def visible_divergence(original: Side, artifact: Side, seen: Sequence[Seen]) -> Divergence | None:
    """Decoding or resizing that differs: by what the artifact says of itself, or by the pixels of an image."""
    for stage, fields in (("decode", _DECODING), ("resize", _RESIZING)):
        rows = [one for one in seen if (one.decoded is not None if stage == "decode" else _apart(one.resize_gap))]
        stated = _stated(original.preprocess, artifact.preprocess, fields)
        if not rows and not stated:
            continue
        shown = stated or (rows[0].decoded if stage == "decode" else _resized(rows))
        names = tuple(one.name for one in rows)
        return Divergence(stage="decode" if stage == "decode" else "resize", message=str(shown), rows=names)
    return None


def hidden_divergence(original: Side, artifact: Side, seen: Sequence[Seen], *, precision: str) -> Divergence:
    """The first stage behind resizing that differs, for an artifact that was found to answer otherwise."""
    pixels = np.stack([one.pixels for one in seen[:_LOOKED_AT]])
    names = tuple(one.name for one in seen[:_LOOKED_AT])
    expected = logits_of(original, pixels)
    try:
        found = logits_of(artifact, pixels)
    except BundleError as error:
        return Divergence(stage="graph", message=f"the graph cannot be run: {error.what}", rows=names)
    return (
        _at_the_input(original, artifact, pixels, names)
        or _reversed(artifact, pixels, expected, found, names)
        or _at_the_labels(original, artifact, expected, found)
        or _in_the_graph(expected, found, names, precision)
    )


def unseen_divergence(original: Side, artifact: Side, made: Sequence[Seen], *, precision: str) -> Divergence | None:
    """What a person's own images cannot show: channels reversed where all are grey, or, in float32, another function of
    images unlike theirs."""
    pixels = np.stack([one.pixels for one in made])
    names = tuple(one.name for one in made)
    expected, found = logits_of(original, pixels), logits_of(artifact, pixels)
    turned = _reversed(artifact, pixels, expected, found, names)
    if turned is not None or precision != "float32" or distance(expected, found) <= _SAME_LOGITS:
        return turned
    return _in_the_graph(expected, found, names, precision)


def _same_eyes(original: Side, artifact: Side) -> bool:
    """Whether both decode and resize by the one reference with the same specification: once is enough then."""
    own = (original.decode, original.prepare, artifact.decode, artifact.prepare)
    return not any(own) and not _stated(original.preprocess, artifact.preprocess, (*_DECODING, *_RESIZING))


def _decode(side: Side, raw: Raw, where: str) -> Pixels:
    if side.decode is not None:
        return side.decode(raw)
    return to_pixels(raw, channels=side.preprocess.channels, depth=side.preprocess.depth, where=where)


def _prepare(side: Side, upright: Pixels) -> Pixels:
    return prepare(side.preprocess, upright) if side.prepare is None else side.prepare(upright)


def _decoded(own: Pixels, theirs: Pixels) -> str | None:
    if own.shape != theirs.shape or own.dtype != theirs.dtype:
        return f"decoded pixels are {theirs.dtype} {theirs.shape}, not {own.dtype} {own.shape}"
    if np.array_equal(own, theirs):
        return None
    if np.array_equal(own, theirs[..., ::-1]):
        return "the channels are in reverse order (BGR)"
    return f"decoded pixels differ by up to {_gap(own, theirs)}"


def _gap(one: Pixels, other: Pixels) -> int:
    if one.shape != other.shape:
        return -1
    return int(np.abs(one.astype(np.int64) - other.astype(np.int64)).max(initial=0))


def _apart(gap: int) -> bool:
    return gap < 0 or gap > GREY_LEVELS


def _resized(rows: Sequence[Seen]) -> str:
    if rows[0].resize_gap < 0:
        return f"resized pixels are {rows[0].artifact_pixels.shape}, not {rows[0].pixels.shape}"
    return f"resized pixels differ by up to {max(one.resize_gap for one in rows)} grey levels"


def _stated(one: PreprocessSpec, other: PreprocessSpec, fields: Sequence[str]) -> str:
    """What two specifications say differently about some fields; empty where they agree."""
    wrong = [name for name in fields if getattr(one, name) != getattr(other, name)]
    return ", ".join(f"{name} is {getattr(other, name)}, not {getattr(one, name)}" for name in wrong)


def _at_the_input(original: Side, artifact: Side, pixels: Pixels, names: tuple[str, ...]) -> Divergence | None:
    expected = normalize(original.preprocess, pixels)
    found = normalize(artifact.preprocess, pixels)
    if artifact.normalized is not None:
        found = artifact.normalized(pixels)
    if found.shape == expected.shape and np.abs(found - expected).max() <= _SAME_INPUT:
        return None
    turned = normalize(original.preprocess, pixels[..., ::-1])
    if found.shape == expected.shape and min(np.abs(found - turned).max(), np.abs(found[:, ::-1] - expected).max()) <= (
        _SAME_INPUT
    ):
        return Divergence(stage="decode", message="the channels are in reverse order (BGR)", rows=names)
    gap = np.abs(found - expected).max() if found.shape == expected.shape else np.inf
    stated = _stated(original.preprocess, artifact.preprocess, _NORMALIZING)
    return Divergence(stage="normalize", message=stated or f"normalized input differs by up to {gap:.3g}", rows=names)


def _reversed(
    artifact: Side,
    pixels: Pixels,
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    names: tuple[str, ...],
) -> Divergence | None:
    if pixels.shape[3] != 3 or distance(expected, found) <= _SAME_LOGITS:
        return None
    turned = logits_of(artifact, np.ascontiguousarray(pixels[..., ::-1]))
    entered = normalize(artifact.preprocess, pixels) if artifact.enter is None else artifact.enter(pixels)
    if artifact.normalized is None and distance(expected, turned) > _SAME_LOGITS:  # reversed behind normalization
        channels_first = entered.shape[1] == pixels.shape[3]
        backwards: NetworkInput = np.flip(entered, 1 if channels_first else 3)
        turned = artifact.run(backwards.copy())
    if distance(expected, turned) > _SAME_LOGITS:
        return None
    return Divergence(stage="decode", message="the graph takes the channels in reverse order (BGR)", rows=names)


def _at_the_labels(
    original: Side, artifact: Side, expected: NDArray[np.float32], found: NDArray[np.float32]
) -> Divergence | None:
    if original.labels.names != artifact.labels.names:
        return Divergence(stage="labels", message="the classes are not the same in the same order")
    if expected.shape != found.shape or distance(expected, found) <= _SAME_LOGITS:
        return None
    gaps = np.abs(expected[:, :, None].astype(np.float64) - found[:, None, :]).mean(axis=0)
    order = gaps.argmin(axis=1)
    if len(set(order.tolist())) < len(order) or distance(expected, found[:, order]) > _SAME_LOGITS:
        return None
    moved = [index for index in range(len(order)) if order[index] != index]
    text = ", ".join(f"{original.labels.names[i]} answers as {original.labels.names[order[i]]}" for i in moved[:5])
    return Divergence(stage="labels", message=f"the outputs are in another order: {text}")


def _in_the_graph(
    expected: NDArray[np.float32], found: NDArray[np.float32], names: tuple[str, ...], precision: str
) -> Divergence:
    if expected.shape != found.shape:
        return Divergence(stage="graph", message=f"logits of shape {found.shape}, not {expected.shape}", rows=names)
    apart = distance(expected, found)
    rounded = precision != "float32" and (apart <= ROUNDING or not np.isfinite(found).all())
    message = f"with the same input, logits differ by {apart:.3g} of their spread"
    return Divergence(stage="precision" if rounded else "graph", message=message, rows=names)


def distance(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Root mean square difference as a share of the spread of what is expected; infinite for another shape."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    spread = max(float(expected.astype(np.float64).std()), 1e-12)
    return float(np.sqrt(np.mean((expected.astype(np.float64) - found) ** 2)) / spread)
