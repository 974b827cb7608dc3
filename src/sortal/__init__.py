"""Sortal: from folders of images to a classifier that can be depended on.

    images = sortal.images("photos/")
    run = sortal.train(images, overrides={"train.time": "10m"})
    model = sortal.load_model(run)
    predictions = model.predict(["a.jpg"])
    report = sortal.evaluate(model, sortal.images("other/"))

Names are loaded on first use, so that `import sortal` is quick and never imports torch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""ONNX Runtime reports its use to its makers, with an identifier of the machine, unless it is told not to before it is
loaded. Whoever set the variable has decided."""

if TYPE_CHECKING:
    from sortal.api import (
        audit,
        benchmark,
        calibrate,
        certify,
        compare,
        compress,
        evaluate,
        explain,
        export,
        images,
        import_model,
        load_model,
        predict,
        reproduce,
        resume,
        split,
        synthesize,
        train,
    )
    from sortal.client.awaiting import AsyncClient
    from sortal.client.client import Client
    from sortal.core.contract import Contract
    from sortal.core.errors import SortalError
    from sortal.core.labels import LabelSet
    from sortal.core.predictions import Predictions
    from sortal.core.preprocess import PreprocessSpec
    from sortal.core.recipe import Recipe
    from sortal.core.report import Report
    from sortal.explore import learning_curve, sweep

__version__ = "0.1.0"

_WHERE = {
    "audit": "sortal.api",
    "benchmark": "sortal.api",
    "calibrate": "sortal.api",
    "images": "sortal.api",
    "train": "sortal.api",
    "load_model": "sortal.api",
    "predict": "sortal.api",
    "certify": "sortal.api",
    "compare": "sortal.api",
    "compress": "sortal.api",
    "evaluate": "sortal.api",
    "explain": "sortal.api",
    "export": "sortal.api",
    "import_model": "sortal.api",
    "resume": "sortal.api",
    "reproduce": "sortal.api",
    "split": "sortal.api",
    "synthesize": "sortal.api",
    "learning_curve": "sortal.explore",
    "sweep": "sortal.explore",
    "AsyncClient": "sortal.client.awaiting",
    "Client": "sortal.client.client",
    "Contract": "sortal.core.contract",
    "LabelSet": "sortal.core.labels",
    "Predictions": "sortal.core.predictions",
    "PreprocessSpec": "sortal.core.preprocess",
    "Recipe": "sortal.core.recipe",
    "Report": "sortal.core.report",
    "SortalError": "sortal.core.errors",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Contract",
    "LabelSet",
    "Predictions",
    "PreprocessSpec",
    "Recipe",
    "Report",
    "SortalError",
    "__version__",
    "audit",
    "benchmark",
    "calibrate",
    "certify",
    "compare",
    "compress",
    "evaluate",
    "explain",
    "export",
    "images",
    "import_model",
    "learning_curve",
    "load_model",
    "predict",
    "reproduce",
    "resume",
    "split",
    "sweep",
    "synthesize",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'sortal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Front(ModuleType):
    """This module: `sortal.train`, `sortal.evaluate` and `sortal.sweep` stay verbs when modules of these names are
    imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Front
