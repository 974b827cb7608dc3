"""TensorRT tells its reasons to a logger only: one that keeps what matters, so that errors can say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Kept:
    """Messages of severity error, in order."""

    messages: list[str] = field(default_factory=list)

    def last(self, count: int = 3) -> str:
        """The last ones in one line."""
        return "; ".join(self.messages[-count:]) or "no reason given"


def keeping_logger(trt: Any, kept: Kept) -> Any:
    """A `tensorrt.ILogger` that writes errors into `kept` and drops the rest."""
    worst = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Keeping(trt.ILogger):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 wants it called by its own name

        def log(self, severity: Any, msg: str) -> None:
            if severity in worst:
                kept.messages.append(msg.strip())

    return Keeping()
