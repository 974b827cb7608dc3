"""The process that decodes and answers: `python -m sortal.serve.worker SETTINGS`, with one end of a socket as its own.

It opens the classifier, answers one made-up image at every batch size so that no request pays for the first time, says
what it is, and then answers batch after batch until the socket ends. What goes wrong with one image is that image's
answer; what goes wrong with the network ends the process, and the front starts another.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.errors import SortalError
from sortal.core.predictions import Predictions
from sortal.core.preprocess import PreprocessSpec
from sortal.runtime.choice import Wish, open_chosen
from sortal.runtime.classifier import Classifier
from sortal.serve.bounds import bound_memory
from sortal.serve.frames import FILES, NOT_FINITE, receive, send
from sortal.serve.lines import log_crash
from sortal.serve.memory import open_memory

GOLDEN_SEED = 7
AT_ONCE = 8
"""Images that the network answers together on a CPU: one takes least so (MobileNetV3-small 1.98 ms, 2.31 in batches of
32, whose activations do not fit into its caches), and a worker needs 45 MiB less."""
_ON_CPU = frozenset({"onnxruntime", "openvino", "litert"})


def main(asked: dict[str, Any]) -> int:
    """Serve `asked["model"]` on the socket with the descriptor `asked["channel"]`."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the front decides when to end, also where a whole group is told
        signal.signal(number, signal.SIG_IGN)
    channel, memory = socket.socket(fileno=asked["channel"]), open_memory(asked.get("memory"))
    os.nice(asked["nice"])
    try:
        # nothing is measured here, a server has to be there soon; what was measured before is used
        wish = Wish(engine=asked["engine"], threads=asked["threads"], batch=1)
        model, _ = open_chosen(Path(asked["model"]), wish=wish, images=0)
        most = min(asked["batch"], AT_ONCE) if model.engine in _ON_CPU else asked["batch"]
        golden = warm_up(model, most if asked["warm"] else 1)
        bound_memory(asked["memory_mb"])
    except SortalError as error:
        send(channel, {"kind": "failed", "what": str(error)})
        return 1
    send(channel, {"kind": "ready", "pid": os.getpid(), **description(model), "golden": golden})
    while True:
        frame = receive(channel, memory)
        if frame is None:
            return 0
        started_s, network_s = time.perf_counter(), model.network_s
        parts = [answered(model, frame.header["what"], blobs) for blobs in portions(frame.blobs, most)]
        found = [answer for predictions in parts for answer in answers(predictions, frame.header["top"])]
        network_s = model.network_s - network_s
        told = {"kind": "answers", "id": frame.header["id"], "answers": found, "network_s": network_s}
        told["decode_s"] = time.perf_counter() - started_s - network_s
        send(channel, told, [row.tobytes() for predictions in parts for row in predictions.probabilities])


def portions(blobs: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    """`most` at a time."""
    for start in range(0, len(blobs), most):
        yield blobs[start : start + most]


def answered(model: Classifier, what: str, blobs: Sequence[bytes]) -> Predictions:
    """Predictions about files or, where `what` says so, about rows of pixels of the network's size."""
    if what == FILES:
        return model.predict(list(blobs), batch=len(blobs))
    shape = (*model.preprocess.size, model.preprocess.channels)
    return model.predict_prepared(np.stack([np.frombuffer(blob, np.uint8).reshape(shape) for blob in blobs]))


def warm_up(model: Classifier, most: int) -> list[float]:
    """Run the network at every power of two up to `most`; returns the logits of the made-up image."""
    image = golden_image(model.preprocess)
    batch = 1
    while batch <= most:
        model.run_network(model.network_input(np.repeat(image[None], batch, axis=0)))
        batch *= 2
    logits = model.run_network(model.network_input(image[None])).logits[0]
    return [float(value) for value in logits]


def golden_image(spec: PreprocessSpec) -> np.ndarray[Any, np.dtype[Any]]:
    """Noise of the network's size, always the same."""
    kind = np.uint8 if spec.depth == 8 else np.uint16
    random = np.random.Generator(np.random.Philox(key=GOLDEN_SEED))
    return random.integers(0, np.iinfo(kind).max + 1, (*spec.size, spec.channels)).astype(kind)


def description(model: Classifier) -> dict[str, Any]:
    """What clients may know about the classifier."""
    spec = model.preprocess
    return {
        "bundle_id": model.bundle_id,
        "labels": list(model.labels.names),
        "label_set": model.labels.model_dump(mode="json"),
        "engine": model.engine,
        "input": {"height": spec.size[0], "width": spec.size[1], "channels": spec.channels, "depth": spec.depth},
    }


def answers(predictions: Predictions, top: int) -> list[dict[str, Any]]:
    """One plain value an image, classes by index."""
    indices, chances = predictions.top_k(top)
    found: list[dict[str, Any]] = []
    is_finite = np.isfinite(predictions.probability)
    if predictions.unknown_score is not None:
        is_finite &= np.isfinite(predictions.unknown_score)
    for row in range(len(predictions)):
        if row in predictions.errors:
            code, message = predictions.errors[row]
            found.append({"code": code, "error": message})
            continue
        if not is_finite[row]:
            found.append({"code": NOT_FINITE, "error": "the network gave no finite number"})
            continue
        answer: dict[str, Any] = {
            "index": int(predictions.index[row]),
            "probability": float(predictions.probability[row]),
            "top": [[int(i), float(p)] for i, p in zip(indices[row], chances[row], strict=True)],
            "abstained": bool(predictions.abstained[row]),
        }
        if predictions.unknown is not None and predictions.unknown_score is not None:
            answer |= {
                "unknown": bool(predictions.unknown[row]),
                "unknown_score": float(predictions.unknown_score[row]),
            }
        found.append(answer)
    return found


if __name__ == "__main__":
    sys.excepthook = log_crash
    sys.exit(main(json.loads(sys.argv[1])))
