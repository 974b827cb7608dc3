"""What the peers of `serving_peers.py` answer with: torchvision's transforms and ONNX Runtime, each on one thread.

Resize to 256, central 224, mean and deviation of ImageNet, the five likeliest classes, as the examples of torchvision
and of all these servers do it; with SERVING_PREPARE=numpy the same by hand in Pillow and NumPy, without PyTorch. Every
peer but TorchServe, whose own handler prepares images with torchvision, imports this file. The graph is SERVING_MODEL.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

if os.environ.get("SERVING_PREPARE", "torchvision") == "torchvision":
    import torch
    from torchvision import transforms

    torch.set_num_threads(1)
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN.tolist(), STD.tolist()),
        ]
    )
else:
    transform = None


def load() -> Any:
    """The session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["SERVING_MODEL"], options, providers=["CPUExecutionProvider"])


def opened(data: bytes) -> Image.Image:
    """The picture in a file's bytes."""
    return Image.open(io.BytesIO(data))


def prepared(image: Image.Image) -> np.ndarray:
    """(3, 224, 224) float32."""
    image = image.convert("RGB")
    if transform is not None:
        return transform(image).numpy()
    width, height = image.size
    short = 256 / min(width, height)
    image = image.resize((int(width * short), int(height * short)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    image = image.crop((left, top, left + 224, top + 224))
    pixels = np.asarray(image, dtype=np.float32) / 255.0
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1))


def answers(session: Any, batch: np.ndarray) -> list[dict[str, Any]]:
    """The five likeliest classes of each image of (N, 3, 224, 224)."""
    logits = session.run(["logits"], {"image": batch})[0]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances = exponents / exponents.sum(axis=1, keepdims=True)
    best = np.argsort(-chances, axis=1)[:, :5]
    return [
        {"top": [{"label": f"class {index}", "probability": float(row[index])} for index in own]}
        for own, row in zip(best, chances, strict=True)
    ]
