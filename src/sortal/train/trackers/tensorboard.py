"""TensorBoard: event files in `<run>/tensorboard`, for `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sortal.core.errors import MissingExtraError
from sortal.train.trackers.protocol import Picture, final_values, pixels_of, scalars

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars, pictures, and recipe and plan as texts."""

    def __init__(self, writer: type[SummaryWriter]):
        self._open = writer
        self._writer: SummaryWriter | None = None
        self._step = 0

    def start(self, run: Path, recipe: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """See `Tracker.start`. A run that goes on gets another event file beside the first."""
        self._writer = self._open(log_dir=str(run / FOLDER))
        for name, data in (("recipe", recipe), ("plan", plan)):
            self._writer.add_text(name, _indented(data), 0)

    def row(self, metrics: Mapping[str, Any], step: int) -> None:
        """See `Tracker.row`. Written out at once, so that the pages follow a running training."""
        self._step = max(self._step, step)
        self._write(scalars(metrics), step)

    def image(self, name: str, picture: Picture, step: int) -> None:
        """See `Tracker.image`."""
        if self._writer is not None:
            self._writer.add_image(name, pixels_of(picture), step, dataformats="HWC")
            self._writer.flush()

    def finish(self, report: Mapping[str, Any] | None) -> None:
        """See `Tracker.finish`."""
        if self._writer is not None:
            self._write(final_values(report or {}), self._step)
            self._writer.close()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


def open() -> TensorBoard:
    """A tracker that has not started. Raises MissingExtraError where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "track") from error
    return TensorBoard(SummaryWriter)


def _indented(data: Mapping[str, Any]) -> str:
    """YAML as a block of code in Markdown, which the text page shows."""
    text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
    return "\n".join(f"    {line}" for line in text.splitlines())
