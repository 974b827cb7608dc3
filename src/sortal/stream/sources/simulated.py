"""A camera that is drawn: parts from the image generator at a given rate, with faults where they are planted.

    simulated:size=640x480,fps=30,parts=6,stall@50,garbage@80,half@90,size@100,end@120

A fault `name@number` comes before that frame of every start: `stall` sends nothing more, `block` stops the process,
`garbage` sends bytes that are no image, `half` half an image, `size` images of half the size from there on, `end` ends.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from sortal.core.errors import InputError
from sortal.stream.sources import Asked, CaptureError, Shot, whole_file

FAULTS = ("stall", "block", "garbage", "half", "size", "end")
_MOST_PARTS = 24
_GARBAGE = b"\xff\xd8" + bytes(range(256)) * 4


@dataclass(frozen=True, kw_only=True)
class Script:
    """What the camera shows."""

    size: tuple[int, int] = (640, 480)
    fps: float = 30.0
    parts: int = 6
    seed: int = 0
    faults: dict[int, str] = field(default_factory=dict)


class Simulated:
    """A drawn camera."""

    live = True
    quiet = False

    def check(self, address: str) -> None:
        """Raises InputError where the script cannot be read."""
        script(address)

    def shots(self, address: str, asked: Asked) -> Iterator[Shot | None]:
        """Frames at its rate. Raises CaptureError at a planted end."""
        told = script(address)
        yield None  # drawing takes a while
        pictures = yield from self._drawn(told, told.size)
        number, started_s = 0, time.monotonic()
        step_s = 1.0 / min(told.fps, asked.fps or told.fps)
        while True:
            fault = told.faults.get(number)
            if fault == "size":
                pictures = yield from self._drawn(told, (told.size[0] // 2, told.size[1] // 2))
                started_s = time.monotonic() - number * step_s
            yield self._frame(fault, pictures[number % len(pictures)])
            number += 1
            time.sleep(max(started_s + number * step_s - time.monotonic(), 0.0))

    def _frame(self, fault: str | None, picture: Shot) -> Shot:
        if fault == "end":
            raise CaptureError("ended", "the camera ended the stream")
        if fault == "stall":
            time.sleep(3600.0)
        if fault == "block":
            os.kill(os.getpid(), signal.SIGSTOP)
        if fault == "garbage":
            return whole_file(_GARBAGE)
        if fault == "half":
            return _half(picture)
        return picture

    def _drawn(self, told: Script, size: tuple[int, int]) -> Generator[None, None, list[Shot]]:
        """The pictures of a size; None while they are drawn."""
        from sortal.data.synth.catalog import catalog
        from sortal.data.synth.render import picture

        parts, shots = catalog(), []
        for number in range(told.parts):
            pixels = picture(parts[number], seed=told.seed, specimen=0, frame=0, grade="none", drift=0.0, size_px=size)
            head = f"P6\n{size[0]} {size[1]}\n255\n".encode()
            shots.append(whole_file(head + pixels.tobytes(), shape=size))
            yield None
        return shots


SIMULATED = Simulated()


def _half(picture: Shot) -> Shot:
    memory = memoryview(bytearray(picture.size))
    picture.write(memory)
    return whole_file(bytes(memory[: picture.size // 2]), shape=picture.shape)


def script(text: str) -> Script:
    """What `text` asks for. Raises InputError that names the part which cannot be read."""
    values: dict[str, str] = {}
    faults: dict[int, str] = {}
    for part in filter(None, text.split(",")):
        name, at, place = part.partition("@")
        key, equals, value = part.partition("=")
        if at and name in FAULTS and place.isdecimal():
            faults[int(place)] = name
        elif equals and key in ("size", "fps", "parts", "seed"):
            values[key] = value
        else:
            raise InputError("no part of a simulated camera", received=part, hint="size=640x480,fps=30,stall@50")
    try:
        width, _, height = values.get("size", "640x480").partition("x")
        made = Script(
            size=(int(width), int(height)),
            fps=float(values.get("fps", 30)),
            parts=int(values.get("parts", 6)),
            seed=int(values.get("seed", 0)),
            faults=faults,
        )
    except ValueError as error:
        raise InputError("no number", where="simulated", received=text) from error
    if not (
        min(made.size) >= 64 and max(made.size) <= 4096 and 0 < made.fps <= 1000 and 1 <= made.parts <= _MOST_PARTS
    ):
        hint = f"sides of 64 to 4096 pixels, up to 1000 frames a second, 1 to {_MOST_PARTS} parts"
        raise InputError("out of range", where="simulated", received=text, hint=hint)
    return made
