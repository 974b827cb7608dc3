"""What a client does, step by step: generators over `talk`.

The client that blocks and the one that awaits share them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

from sortal.client.connection import is_header
from sortal.client.payload import Limits, Part, encoded, form, parts
from sortal.client.replies import Acknowledged, Told, acknowledged, answers, label_set, other_server, predictions, said
from sortal.client.talk import Ask, Heard, Patience, Step, answered
from sortal.core.errors import ConflictError, InputError
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions
from sortal.runtime.sources import Images, Item, OneImage, items_of

T = TypeVar("T")
Story = Generator[Step, Heard, T]

PREDICT, MODEL, FEEDBACK, EXPLAIN = "/predict", "/model", "/feedback", "/explain"
LONGEST_NAME = 120
"""Of a request; the server takes 128, and parts of a request have a number behind."""
_ROUNDS = 3
"""How often images are asked again because the classifier was exchanged meanwhile."""


def predict(
    images: Images, query: Mapping[str, str], patience: Patience, request_id: str | None, batch: int | None
) -> Story[Predictions]:
    """See `Client.predict`."""
    if request_id is not None and not (is_header(request_id) and len(request_id) <= LONGEST_NAME):
        most = f"1 to {LONGEST_NAME} printable ASCII characters"
        raise InputError(f"a request is called by {most}", received=ascii(request_id[:LONGEST_NAME]))
    items = items_of(images)
    about = yield from model(query, patience)
    limits, bundle, labels = limits_of(about, batch), str(about.get("bundle_id")), label_set(about, MODEL)
    name = request_id or secrets.token_hex(16)
    route = name  # with it a canary answers all of these images, or none
    found: dict[int, Told] = {}
    by: dict[int, str] = {}
    errors: dict[int, tuple[str, str]] = {}
    wanted: Sequence[int] = range(len(items))
    for _ in range(_ROUNDS):
        for number, part in enumerate(parts(items, wanted, limits, errors)):
            first = number == 0 and len(part.rows) == len(items) - len(errors)
            reply = yield from answered(_asked(part, query, name if first else f"{name}-{number}", route), patience)
            came = answers(reply, PREDICT, len(part.rows))
            bundle, labels = came.bundle_id, came.labels
            found |= dict(zip(part.rows, came.told, strict=True))
            by |= dict.fromkeys(part.rows, bundle)
        wanted = [row for row, own in by.items() if own != bundle]
        if not wanted:
            return predictions([item.name for item in items], labels, bundle, found, errors)
        name = secrets.token_hex(16)  # other answers than before: other requests
    raise ConflictError(
        "the classifier was exchanged again and again while it answered",
        received=f"{len(set(by.values()))} classifiers",
        hint="ask again when nobody promotes anything, or for fewer images at once",
    )


def feedback(
    label: str,
    image: OneImage | None,
    told: Mapping[str, str | None],
    query: Mapping[str, str],
    patience: Patience,
) -> Story[Acknowledged]:
    """See `Client.feedback`."""
    known = {name: value for name, value in told.items() if value is not None}
    if image is not None:
        about = yield from model(query, patience)
        known["image_sha256"] = sha256(_one(image, limits_of(about))).hexdigest()
    known.setdefault("key", secrets.token_hex(16))
    body = json.dumps({"label": label, **known}).encode()
    ask = Ask(method="POST", path=FEEDBACK, query=query, body=body, headers={"content-type": "application/json"})
    reply = yield from answered(ask, patience)
    return acknowledged(said(reply, FEEDBACK), FEEDBACK)


def explain(image: OneImage, query: Mapping[str, str], patience: Patience) -> Story[Told]:
    """See `Client.explain`."""
    about = yield from model({name: query[name] for name in ("model",) if name in query}, patience)
    headers = {"x-request-id": secrets.token_hex(16), "content-type": "application/octet-stream"}
    ask = Ask(method="POST", path=EXPLAIN, query=query, body=_one(image, limits_of(about)), headers=headers)
    reply = yield from answered(ask, patience)
    return said(reply, EXPLAIN)


def model(query: Mapping[str, str], patience: Patience) -> Story[Told]:
    """The classifier as the server describes it."""
    reply = yield from answered(Ask(method="GET", path=MODEL, query=query), patience)
    return said(reply, MODEL)


def labels(query: Mapping[str, str], patience: Patience) -> Story[LabelSet]:
    """Its classes."""
    about = yield from model(query, patience)
    return label_set(about, MODEL)


def state(path: str, patience: Patience) -> Story[Told]:
    """What the server says about itself, whether it is ready or not."""
    reply = yield from answered(Ask(method="GET", path=path), patience)
    return said(reply, path, also=(503,))


def limits_of(about: Told, batch: int | None = None) -> Limits:
    """What one request may bring, `batch` images at most. Raises MachineError for what describes no classifier."""
    label_set(about, MODEL)
    try:
        limits, size = about["limits"], about["input"]
        images, body_bytes = int(limits["images"]), int(limits["body_mb"] * 1e6)
        channels, depth = size["channels"], size["depth"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise other_server(MODEL) from error
    if images < 1 or body_bytes < 1:
        raise other_server(MODEL)
    return Limits(images=min(images, batch or images), body_bytes=body_bytes, channels=channels, depth=depth)


def _asked(part: Part, query: Mapping[str, str], name: str, route: str) -> Ask:
    body, kind = (part.files[0], "application/octet-stream") if len(part.files) == 1 else form(part.files)
    headers = {"content-type": kind, "x-request-id": name, "x-routing-key": route}
    return Ask(method="POST", path=PREDICT, query={**query, "probabilities": "true"}, body=body, headers=headers)


def _one(image: OneImage, limits: Limits) -> bytes:
    """The bytes that stand for one image. Raises ImageError, InputError for several."""
    items: Sequence[Item] = items_of([image])
    if not isinstance(image, str | bytes) and hasattr(image, "ndim") and image.ndim > 3:
        raise InputError("this takes one image", received=f"an array of {image.ndim} dimensions")
    return encoded(items[0].open(), limits, items[0].name)
