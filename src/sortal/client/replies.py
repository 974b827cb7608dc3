"""What a server said, as the types of Sortal: Predictions, or one of its errors.

Shapes: N images, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from sortal.client.talk import Reply, retry_after_s
from sortal.core.errors import (
    ConflictError,
    DeadlineError,
    ImageError,
    InputError,
    InternalError,
    MachineError,
    NotFoundError,
    OverloadError,
    SortalError,
)
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions

Told = dict[str, Any]

_KINDS: dict[int, type[SortalError]] = {
    404: NotFoundError,
    408: DeadlineError,
    409: ConflictError,
    500: InternalError,
    504: DeadlineError,
}
_KEYS = (401, 403)
_UNREADABLE = 422


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What came back for one request; `told` is one object an image."""

    bundle_id: str
    labels: LabelSet
    told: Sequence[Told]


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """What became of a label that was said."""

    key: str
    label: str
    image_sha256: str
    stored: str
    """`new`, or `known` where the same had been said before."""
    disputed: bool
    """Whether other labels were said about the same image."""


def said(reply: Reply, path: str, *, also: Sequence[int] = ()) -> Told:
    """The object of a reply of status 200, or of one that is allowed `also`. Raises the error that another one is."""
    found = _object(reply)
    if found is not None and (reply.status == 200 or reply.status in also):
        return found
    raise error_of(reply, found or {}, path)


def error_of(reply: Reply, told: Told, path: str) -> SortalError:
    """The error that a status and what was said with it are."""
    what = str(told.get("error") or f"the server answered with status {reply.status}{_kind_of(reply)}")
    received = None if told.get("received") is None else str(told["received"])
    hint = None if told.get("hint") is None else str(told["hint"])
    if reply.status in (429, 503):
        return OverloadError(what, retry_after_s=retry_after_s(reply) or 1.0, received=received)
    if reply.status == _UNREADABLE and "code" in told:
        return ImageError(str(told["code"]), what, where=path, received=received)
    if 300 <= reply.status < 400 and hint is None:
        hint = f"it lies elsewhere; give the client that address: {reply.headers.get('location', 'not told')[:200]}"
    if reply.status in _KEYS:
        hint = hint or 'sortal.Client(URL, key="…")'
    kind = _KINDS.get(reply.status, InputError if 400 <= reply.status < 500 else MachineError)
    return kind(what, where=path, received=received, hint=hint)


def _kind_of(reply: Reply) -> str:
    """That it was no JSON: a page of a proxy, say."""
    return "" if _object(reply) is not None else " and no JSON object, as Sortal does"


def answers(reply: Reply, path: str, count: int) -> Answers:
    """The answers to `count` images. Raises as `said`; a refusal of one image is an answer."""
    found = _object(reply)
    if found is None or "predictions" not in found:
        found = said(reply, path)
    told = found.get("predictions")
    if not isinstance(told, list) or len(told) != count:
        raise other_server(path)
    try:
        labels = label_set(found, path)
        small = [_kept(one, len(labels)) for one in told]
    except (AttributeError, TypeError, ValueError) as error:
        raise other_server(path) from error
    return Answers(bundle_id=str(found.get("bundle_id")), labels=labels, told=small)


def _kept(told: Told, classes: int) -> Told:
    """What of an answer is needed, with probabilities as numbers of four bytes: there may be millions of answers.

    Raises ValueError where they are not those of so many classes.
    """
    kept = {name: value for name, value in told.items() if name != "top"}
    if "probabilities" not in told:
        return kept
    chances = np.asarray(told["probabilities"], np.float32)
    if chances.shape != (classes,) or not np.isfinite(chances).all():
        raise ValueError("no probabilities of these classes")
    return kept | {"probabilities": chances}


def label_set(told: Told, path: str) -> LabelSet:
    """The classes that came with an answer. Raises MachineError where there are none."""
    try:
        return LabelSet.model_validate(told.get("label_set"))
    except ValidationError as error:
        raise other_server(path) from error


def acknowledged(told: Told, path: str) -> Acknowledged:
    """A label that was said. Raises MachineError where that is not what came."""
    try:
        return Acknowledged(**told)
    except TypeError as error:
        raise other_server(path) from error


def predictions(
    names: Sequence[str],
    labels: LabelSet,
    bundle_id: str,
    found: Mapping[int, Told],
    errors: Mapping[int, tuple[str, str]],
) -> Predictions:
    """All answers, by row, as one value in the order of `names`; `errors` are those of images that were not sent.

    Raises MachineError where the answers are no answers.
    """
    try:
        return _predictions(names, labels, bundle_id, found, errors)
    except (KeyError, TypeError, ValueError) as error:
        raise other_server("/predict") from error


def _predictions(
    names: Sequence[str],
    labels: LabelSet,
    bundle_id: str,
    found: Mapping[int, Told],
    errors: Mapping[int, tuple[str, str]],
) -> Predictions:
    failed = dict(errors) | {row: (told["code"], told["error"]) for row, told in found.items() if "error" in told}
    answered = {row: told for row, told in found.items() if "error" not in told}
    count, table = len(names), labels.lookup()
    index = np.full(count, -1, np.int64)
    chances = np.full((count, len(labels)), np.nan, np.float32)
    abstained, unknown = np.zeros(count, bool), np.zeros(count, bool)
    scores = np.full(count, np.nan, np.float32)
    for row, told in answered.items():
        index[row], chances[row] = table[told["label"]], told["probabilities"]
        abstained[row], unknown[row] = told["abstained"], told.get("unknown", False)
        scores[row] = told.get("unknown_score", np.nan)
    judged = any("unknown" in told for told in answered.values())
    return Predictions(
        names=tuple(names),
        labels=labels,
        bundle_id=bundle_id,
        index=index,
        probabilities=chances,
        abstained=abstained,
        unknown_score=scores if judged else None,
        unknown=unknown if judged else None,
        errors=dict(sorted(failed.items())),
    )


def other_server(path: str) -> MachineError:
    """What is raised for an answer that Sortal would not have given."""
    hint = "is this a server of Sortal, of this version or a newer one?"
    return MachineError("the server answered something else than was asked", where=path, hint=hint)


def _object(reply: Reply) -> Told | None:
    try:
        found = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
