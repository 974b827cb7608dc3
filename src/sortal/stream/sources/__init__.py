"""Where frames come from, by name. A member is an object with `live`, `check` and `shots`; see `Source`.

A stranger's source comes in by the entry point group `sortal.sources` and is named `name:address`. Modules of members
are imported in the capturing process, too, and load nothing heavy before `shots` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sortal.core.registry import Registry

TOO_LARGE = "too_large"
"""A frame that no slot of the memory holds."""


class CaptureError(Exception):
    """Frames do not come any more. `reason` is one word for machines, the text is for people and names no address."""

    def __init__(self, reason: str, what: str):
        super().__init__(what)
        self.reason = reason


class EndedEarlyError(CaptureError):
    """A file is at its end, and something is to be said about it: it should have been longer."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One frame: `write` puts an image file of `size` bytes into the memory that it is given."""

    size: int = 0
    write: Callable[[memoryview], None] = lambda _: None
    shape: tuple[int, int] | None = None
    """(width, height) in pixels, where they are known without decoding."""
    reason: str = ""
    """Why there is nothing to write: the frame is rejected for it."""
    name: str | None = None
    """Of the file that it was."""
    stamp: str | None = None
    """With the name: which state of the file it was. What was handed over is told to the next process, see `Asked`."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a source is told."""

    fps: float | None = None
    """Frames a second at most."""
    live: bool = True
    """Whether time passes: what is not taken is gone."""
    open_s: float = 20.0
    options: Mapping[str, str] = field(default_factory=dict)
    done: Mapping[str, str] = field(default_factory=dict)
    """Name -> stamp of what an earlier process handed over."""


class Source(Protocol):
    """A kind of source."""

    live: bool
    """Whether frames that are not taken in time are gone."""
    quiet: bool
    """Whether there may be no frame for long although all is well; `shots` yields None now and then."""

    def check(self, address: str) -> None:
        """Raises InputError where the address can never work; opens nothing that may block."""

    def shots(self, address: str, asked: Asked) -> Iterator[Shot | None]:
        """Frames until the source ends. Raises CaptureError where it is lost."""


SOURCES = Registry(
    kind="source of frames",
    group="sortal.sources",
    table={
        "rtsp": "sortal.stream.sources.opencv:RTSP",
        "http": "sortal.stream.sources.motion_jpeg:HTTP",
        "camera": "sortal.stream.sources.opencv:DEVICE",
        "video": "sortal.stream.sources.opencv:VIDEO",
        "folder": "sortal.stream.sources.folder:FOLDER",
        "simulated": "sortal.stream.sources.simulated:SIMULATED",
    },
)


def whole_file(
    data: bytes, *, shape: tuple[int, int] | None = None, name: str | None = None, stamp: str | None = None
) -> Shot:
    """A frame that is an image file already."""

    def write(memory: memoryview) -> None:
        memory[: len(data)] = data

    return Shot(size=len(data), write=write, shape=shape, name=name, stamp=stamp)
