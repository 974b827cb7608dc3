"""The limits that a stream holds, each with a default that is safe on a small machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sortal.serve.settings import ServeSettings

Positive = Annotated[float, Field(gt=0, le=1e9)]
"""No number of seconds or milliseconds that clocks of the system do not hold."""
Count = Annotated[int, Field(ge=1)]
Policy = Literal["drop", "resolution"]
Smoothing = Literal["none", "mean", "majority"]

LONGEST_PAUSE_S = 30.0
"""Between two tries to reach a camera, at most."""
SPARE_SLOTS = 3
"""One being written, one being handed over, one to breathe."""

_HANG_S, _PATIENT_HANG_S = 3.0, 30.0


class StreamSettings(BaseModel):
    """How many frames wait, how long, and when something counts as dead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fps: Annotated[float, Field(ge=1e-6, le=1e9)] | None = None
    """Frames a second that are taken at most."""
    policy: Policy = "drop"
    """When behind: drop the oldest waiting frames, or answer with a smaller input size first."""
    max_age_ms: Positive = 1000.0
    """A frame of a live source that is not answered by then is rejected as late, on time."""
    buffer: Annotated[int, Field(ge=1, le=64)] = 4
    """Frames that wait at most; of a live source, the oldest is dropped for a newer one."""
    batch: Annotated[int, Field(ge=1, le=64)] = 4
    """Waiting frames that are answered together at most."""
    delay_ms: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """How long a frame waits for others although a worker is free."""
    workers: Count = 1
    threads: Count = 1
    """Of each worker."""
    engine: str = "auto"
    hang_ms: Positive | None = None
    """A worker that has not answered for so long is killed and replaced; None: see `hang_s`."""
    start_s: Positive = 120.0
    """How long workers may take to be ready."""
    stall_s: Positive = 5.0
    """A camera that has sent nothing for so long is lost: its process is killed and replaced. With `fps`, the time
    between two frames that are taken is added."""
    open_s: Positive = 20.0
    """How long a camera may take to send its first frame."""
    pause_s: Annotated[float, Field(gt=0, le=LONGEST_PAUSE_S)] = 0.5
    """Before the first new try; doubled after each, up to 30 s, with jitter."""
    frame_mb: Annotated[float, Field(gt=0, le=1024)] = 32.0
    """A frame in memory, or a file, at most: 10 megapixels in color."""
    smooth: Smoothing = "none"
    """Over the newest frames: the mean of their probabilities, or what most of them say."""
    window: Annotated[int, Field(ge=1, le=1000)] = 5
    """Frames that smoothing looks at."""
    switch: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    """Share of the window that another answer needs to take over, with `majority`."""
    target_ms: Positive | None = None
    """Of a frame at a worker, for the policy `resolution`; by default 80 % of the time between frames."""
    drain_s: Positive = 10.0
    """How long frames that were taken are waited for at the end."""

    @property
    def slots(self) -> int:
        """Frames that there is memory for."""
        return self.buffer + SPARE_SLOTS

    def hang_s(self, *, live: bool) -> float:
        """Seconds after which a worker counts as dead: soon where time passes, late where waiting loses nothing."""
        if self.hang_ms is not None:
            return self.hang_ms / 1e3
        return max(_HANG_S, 2e-3 * self.max_age_ms) if live else _PATIENT_HANG_S

    def for_workers(self, *, live: bool) -> ServeSettings:
        """What the pool of workers is told."""
        return ServeSettings(
            workers=self.workers,
            threads=self.threads,
            engine=self.engine,
            batch=self.batch,
            hang_s=self.hang_s(live=live),
            start_s=self.start_s,
        )
