"""The shapes of what is asked and answered, as JSON Schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "array", "items": TEXT}
FLAG: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def thing(fields: dict[str, Schema], *, optional: Sequence[str] = (), about: str = "", more: bool = False) -> Schema:
    """An object of these fields, and of no others unless there may be `more`."""
    found: Schema = {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name not in optional],
        "additionalProperties": more,
    }
    return found | ({"description": about} if about else {})


def several(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    """Or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def named(name: str) -> Schema:
    """One of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def about(schema: Schema, text: str) -> Schema:
    """With a sentence."""
    return {**schema, "description": text}


_INPUT = thing({"height": WHOLE, "width": WHOLE, "channels": {"enum": [1, 3]}, "depth": {"enum": [8, 16]}})
_CHECKS = thing(
    {
        "marks_what_matters": about(FLAG, "Covering what it marks lowers the score more than covering random places."),
        "depends_on_what_was_learned": about(maybe(FLAG), "Random weights change it; null where that cannot be tried."),
        "score_lost": NUMBER,
        "score_lost_at_random": NUMBER,
        "random_weights_correlation": maybe(NUMBER),
    }
)

SCHEMAS: dict[str, Schema] = {
    "Error": thing(
        {"error": TEXT, "received": TEXT, "hint": TEXT, "request_id": TEXT, "code": TEXT},
        optional=("received", "hint", "request_id", "code"),
        about="What is wrong, what was received and what to do.",
    ),
    "Chance": thing({"label": TEXT, "probability": SHARE}),
    "Answer": thing(
        {
            "index": about(WHOLE, "Of the class."),
            "label": TEXT,
            "probability": about(SHARE, "Calibrated: of answers with 0.9, nine of ten are right."),
            "abstained": about(FLAG, "The answer is not sure enough, or the image unknown: it belongs to a person."),
            "unknown": about(FLAG, "None of the classes, by the unknown score. Absent where there is none."),
            "unknown_score": about(NUMBER, "Higher is stranger."),
            "top": several(named("Chance")),
            "probabilities": about(several(SHARE), "Of every class, in the order of label_set; where asked for."),
        },
        optional=("unknown", "unknown_score", "probabilities"),
    ),
    "Unreadable": thing({"code": TEXT, "error": TEXT}, about="An image that cannot be read, in its place."),
    "LabelSet": thing(
        {
            "format": {"const": 1},
            "names": TEXTS,
            "parents": maybe(TEXTS),
            "aliases": {"type": "object", "additionalProperties": TEXT},
            "display": {"type": "object", "additionalProperties": TEXT},
        },
        about="The classes in their order, the coarse class of each, and other spellings.",
    ),
    "Predictions": thing(
        {
            "request_id": TEXT,
            "bundle_id": TEXT,
            "role": about({"enum": ["live", "canary"]}, "What the bundle is."),
            "predictions": several({"anyOf": [named("Answer"), named("Unreadable")]}),
            "label_set": named("LabelSet"),
        },
        optional=("role", "label_set"),
    ),
    "Images": thing(
        {
            "image": about(TEXT, "An encoded file in base64, or as a data URI; one of the four is given."),
            "images": TEXTS,
            "url": about(TEXT, "Where a server that was started with urls=true fetches it."),
            "urls": TEXTS,
        },
        optional=("image", "images", "url", "urls"),
        more=True,
    ),
    "Statement": thing(
        {
            "label": about(TEXT, "A class, or another spelling of one."),
            "request_id": about(TEXT, "What the image was asked as; of several images of a request, name/0, name/1 …"),
            "image_sha256": about(SHA256, "Or the SHA-256 of the image file."),
            "source": about({"type": "string", "maxLength": 200}, "Who says so."),
            "comment": {"type": "string", "maxLength": 2000},
            "key": about({"type": "string", "pattern": "^[!-~]{1,200}$"}, "A statement with the same key counts once."),
        },
        optional=("request_id", "image_sha256", "source", "comment", "key"),
    ),
    "Acknowledged": thing(
        {
            "key": TEXT,
            "stored": {"enum": ["new", "known"]},
            "disputed": about(FLAG, "Whether other labels were said about the same image."),
            "label": TEXT,
            "image_sha256": SHA256,
        }
    ),
    "ReviewItem": thing(
        {
            "request_id": TEXT,
            "time": TEXT,
            "image_sha256": SHA256,
            "reason": {"enum": ["disputed", "corrected", "doubtful"]},
            "label": about(TEXT, "What was answered."),
            "probability": SHARE,
            "unknown_score": maybe(NUMBER),
            "said": about(TEXTS, "The labels that people gave the image."),
        }
    ),
    "Review": thing({"items": several(named("ReviewItem"))}),
    "Box": thing(
        dict.fromkeys(("left", "top", "width", "height", "share"), NUMBER),
        about="Shares of the width and height of what the network sees, and of all evidence for the class.",
    ),
    "Map": thing(
        {
            "kind": {"enum": ["occlusion", "feature_map"]},
            "title": TEXT,
            "grid": about(several(several(NUMBER)), "Evidence in rows, from the top; positive speaks for the class."),
            "boxes": several(named("Box")),
            "passed": about(FLAG, "Whether it passed the checks that could be made."),
            "checks": _CHECKS,
            "score_share": about(maybe(NUMBER), "Of a feature map: how much of the class's score it holds."),
            "overlay": about(TEXT, "A picture as a data URI, where asked for."),
        },
        optional=("overlay",),
    ),
    "Explanation": thing(
        {
            "request_id": TEXT,
            "bundle_id": TEXT,
            "label": TEXT,
            "probability": SHARE,
            "abstained": FLAG,
            "runner_up": maybe(named("Chance")),
            "explained": about(named("Chance"), "The class that the maps are about."),
            "maps": several(named("Map")),
        }
    ),
    "Model": thing(
        {
            "name": TEXT,
            "bundle_id": TEXT,
            "engine": TEXT,
            "input": _INPUT,
            "label_set": named("LabelSet"),
            "limits": thing({"images": WHOLE, "body_mb": NUMBER, "top": WHOLE}),
            "feedback": about(FLAG, "Whether labels can be said: a workspace is served."),
            "explain": about(FLAG, "Whether answers can be explained."),
        },
        more=True,
    ),
    "Live": thing({"live": FLAG}),
    "Ready": thing({"ready": FLAG, "not_ready": TEXTS, "reason": TEXT}, optional=("not_ready", "reason")),
    "Health": thing(
        {
            "ready": FLAG,
            "ending": FLAG,
            "workers": WHOLE,
            "workers_wanted": WHOLE,
            "workers_died": WHOLE,
            "waiting": about(WHOLE, "Images in the queue."),
            "classifier": {"type": "object"},
        },
        more=True,
    ),
}
