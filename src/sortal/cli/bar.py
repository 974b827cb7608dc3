"""Progress on a live terminal, drawn by rich: one bar for the stage at hand, with an estimate."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bar:
    """A Listener. The bar disappears when its stage is complete; sentences stay."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._bars: Progress | None = None
        self._task: tuple[str, TaskID] | None = None

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        self._console.print(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Move the bar, or start one for a new stage."""
        if self._task is None or self._task[0] != stage:
            self._stop()
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = (stage, self._bars.add_task(stage, total=total))
            self._bars.start()
        if self._bars is not None:
            self._bars.update(self._task[1], completed=done, total=total)
        if done >= total:
            self._stop()

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._task = None, None
