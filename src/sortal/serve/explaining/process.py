"""The process that explains: `python -m sortal.serve.explaining.process SETTINGS`, with one end of a socket as its own.

It opens the classifier and a twin with random weights, and explains image after image until the socket ends. It is
nicer than the workers: where processors are short, answers come first.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from sortal.core.errors import ImageError, SortalError
from sortal.core.preprocess import Pixels
from sortal.evaluate.explain.explanation import TITLES, CheckedMap, Explanation, explain_pixels
from sortal.evaluate.explain.picture import as_bytes, overlay
from sortal.evaluate.explain.places import boxes, grid
from sortal.evaluate.explain.viewed import Viewed, randomized, viewed
from sortal.serve.frames import receive, send
from sortal.serve.lines import log_crash
from sortal.serve.memory import open_memory

_NICER = 10
_SHOWN_PX = 448
"""The shorter side of a picture at least."""
_DIGITS = 4


def main(asked: dict[str, Any]) -> int:
    """Explain answers of `asked["model"]` on the socket with the descriptor `asked["channel"]`."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the front decides when to end, also where a whole group is told
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICER)
    channel, memory = socket.socket(fileno=asked["channel"]), open_memory(asked.get("memory"))
    with ExitStack() as opened:
        try:
            view = opened.enter_context(viewed(Path(asked["model"]), threads=asked["threads"]))
        except SortalError as error:
            send(channel, {"kind": "failed", "what": str(error)})
            return 1
        random = twin(opened, view, asked["threads"])
        send(channel, {"kind": "ready", "bundle_id": view.info.bundle_id})
        while (frame := receive(channel, memory)) is not None:
            wanted, shown = frame.header["class"], frame.header["pictures"]
            send(channel, *explained(view, random, frame.blobs[0], wanted, pictures=shown))
    return 0


def twin(opened: ExitStack, view: Viewed, threads: int) -> Viewed | None:
    """The same graph with random weights; None where nothing could be made random: maps lack that check then."""
    try:
        return opened.enter_context(randomized(view, threads=threads))
    except SortalError:
        return None


def explained(
    view: Viewed, random: Viewed | None, image: bytes, name: str | None, *, pictures: bool
) -> tuple[dict[str, Any], list[bytes]]:
    """What is told of one encoded image, and where `pictures` are wanted, a PNG for each map."""
    try:
        target = None if name is None else view.info.labels.index(name)
        pixels = view.pixels(image, "the image")
    except SortalError as error:
        code = {"code": error.code} if isinstance(error, ImageError) else {}
        refusal = {"what": error.what, "received": error.received, "hint": error.hint}
        return {"kind": "refused", **refusal, **code}, []
    one = explain_pixels(view, random, pixels, "the image", target=target, gradients=None, random_gradients=None)
    told = {"kind": "explained", "bundle_id": view.info.bundle_id, **answer(one)}
    shown = [picture(one.pixels, each) for each in one.maps] if pictures else []
    return told, shown


def answer(one: Explanation) -> dict[str, Any]:
    """An explanation as plain data."""
    second = None if one.runner_up is None else _chance(one.runner_up, one.runner_up_probability)
    return {
        "label": one.answer,
        "probability": one.probability,
        "abstained": one.abstained,
        "runner_up": second,
        "explained": _chance(one.target, one.target_probability),
        "maps": [_map(each) for each in one.maps],
    }


def picture(pixels: Pixels, one: CheckedMap) -> bytes:
    """A PNG of the image as the network sees it, with a map over it: red speaks for the class, blue against it."""
    shown = Image.fromarray(overlay(as_bytes(pixels), one.values))
    scale = max(1, -(-_SHOWN_PX // min(shown.size)))
    file = io.BytesIO()
    shown.resize((shown.width * scale, shown.height * scale), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def _chance(label: str, probability: float) -> dict[str, Any]:
    return {"label": label, "probability": probability}


def _map(one: CheckedMap) -> dict[str, Any]:
    cells = grid(one.values)
    return {
        "kind": one.kind,
        "title": TITLES.get(one.kind, one.kind),
        "grid": [[_short(value) for value in row] for row in cells.tolist()],
        "boxes": [{name: _short(value) for name, value in asdict(box).items()} for box in boxes(cells)],
        "passed": one.deletion.faithful and one.changed is not False,
        "checks": {
            "marks_what_matters": one.deletion.faithful,
            "depends_on_what_was_learned": one.changed,
            "score_lost": _short(one.deletion.salient),
            "score_lost_at_random": _short(one.deletion.random),
            "random_weights_correlation": None if one.random_weights is None else _short(one.random_weights),
        },
        "score_share": None if one.share is None else _short(one.share),
    }


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


if __name__ == "__main__":
    sys.excepthook = log_crash
    sys.exit(main(json.loads(sys.argv[1])))
