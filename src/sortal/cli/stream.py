"""`sortal stream`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from sortal.cli.settings import settings_of
from sortal.core.errors import InputError, MachineError

if TYPE_CHECKING:
    from sortal.stream.settings import StreamSettings
    from sortal.stream.wish import Done

_LAST_WORDS_S = 2.0
_SOURCE = "rtsp://…, http://…, camera:0, a video, a folder, simulated:, or @file that holds the address."
_ACTION = (
    "crack='POST http://127.0.0.1:9000/x' or crack='SET output:line'; also for abstained, unknown, rejected, lost."
)


def stream(
    model: Path = typer.Argument(..., help="A run, bundle or artifact."),
    settings: list[str] = typer.Argument(None, metavar="KEY=VALUE...", help="max_age_ms=500 workers=2 smooth=mean …"),
    sources: list[str] = typer.Option(..., "--source", metavar="<str>", help=_SOURCE),
    fps: float = typer.Option(None, "--fps", help="Frames a second that are taken at most."),
    policy: str = typer.Option("drop", "--policy", help="When behind: drop frames, or lower the resolution first."),
    smaller: list[Path] = typer.Option([], "--smaller", help="The same classes at a smaller input size."),
    camera: str = typer.Option(None, "--camera", help="The camera's name in results."),
    live: bool = typer.Option(None, "--live/--every", help="As time passes, or every frame; as the source is."),
    once: bool = typer.Option(False, "--once", help="End when the files of a folder were answered."),
    on_label: list[str] = typer.Option([], "--on-label", help=_ACTION),
    only: str = typer.Option(None, "--only", help="all: a line a frame; changes: when labels begin and end."),
    out: Path | None = typer.Option(None, "--out", help="Append results to this file instead of standard output."),
    record: Path = typer.Option(None, "--record", help="Keep frames in this folder."),
    record_what: str = typer.Option("all", "--record-what", help="all, doubtful or changed."),
    record_mb: float = typer.Option(1000.0, "--record-mb", min=0.0, help="Megabytes that are kept at most."),
    frames: int = typer.Option(None, "--frames", min=1, help="End after so many frames."),
    seconds: float = typer.Option(None, "--seconds", min=0.0, help="End after so many seconds."),
) -> None:
    """Answer the frames of a camera, a video or a watched folder in time; one line of JSON a frame on stdout.

    \b
    sortal stream runs/parts-1 --source rtsp://10.0.0.7/stream --fps 30
    sortal stream runs/parts-1 --source camera:0 --on-label crack='POST http://127.0.0.1:9000/reject'
    sortal stream runs/parts-1 --source video.mp4 --only changes --record doubtful/ --record-what doubtful
    """
    from sortal.stream.hiding import hide_in_command_line
    from sortal.stream.sources.address import secrets_of

    typed = [*sources, *(word for text in on_label for word in text.split())]
    hide_in_command_line(secret for text in typed for secret in secrets_of(text))
    from sortal.stream.story import stream as run_stream
    from sortal.stream.wish import Wish

    if len(sources) > 1:
        raise InputError("a stream has one source", where="--source", hint="start one for each camera")
    if out is None and sys.stdout is None:
        raise MachineError("standard output is closed", hint="--out results.jsonl")
    _one_of("--only", only, ("all", "changes"))
    _one_of("--record-what", record_what, ("all", "doubtful", "changed"))
    own = {} if fps is None else {"fps": fps}
    wish = Wish(
        model=model,
        source=sources[0],
        smaller=smaller,
        camera=camera,
        live=live,
        once=once,
        on_label=on_label,
        only=cast(Any, only or ("changes" if out is None and sys.stdout.isatty() else "all")),
        out=out,
        record=record,
        record_what=cast(Any, record_what),
        record_mb=record_mb,
        frames=frames,
        seconds=seconds,
    )
    limits = _settings(settings, own | {"policy": policy})
    speaker = _Speaker()
    try:
        speaker.end(run_stream(wish, limits, log=speaker.log, show=speaker.show), out)
    finally:
        speaker.close()


class _Speaker:
    """Stderr: events as lines of JSON; on a terminal as sentences, and a line about now that is written over.

    Nobody waits for who reads it: a log that is full, hangs or is gone holds no frame up.
    """

    def __init__(self) -> None:
        from sortal.stream.outlet import Outlet

        try:
            descriptor = sys.stderr.fileno()
        except (AttributeError, ValueError):  # closed before this began, or no file
            self._outlet, self._is_terminal = None, False
        else:
            self._outlet, self._is_terminal = Outlet(descriptor), sys.stderr.isatty()

    def log(self, event: dict[str, Any]) -> None:
        from sortal.stream.told import sentence

        now = datetime.now(UTC)
        if self._outlet is None:
            return
        if self._is_terminal:
            self._outlet.write(f"{now.astimezone():%H:%M:%S} {sentence(event)}\n")
        else:
            self._outlet.put({"time": now.isoformat(timespec="milliseconds"), **event})

    def show(self, text: str) -> None:
        if self._outlet is not None and self._is_terminal:
            self._outlet.write(text)

    def end(self, done: Done, out: Path | None) -> None:
        """The last event, where results are, and what to type next."""
        self.log({"event": "ended", "why": done.why, **done.numbers})
        places = [str(place) for place in (out, done.table) if place is not None]
        following = [f"sortal audit {done.table}"] if done.table is not None else []
        for title, lines in (("Results: ", places), ("Next:    ", following)):
            if lines and self._outlet is not None:
                self._outlet.write(title + "\n         ".join(lines) + "\n")

    def close(self) -> None:
        """Say what was not said yet, where somebody listens."""
        if self._outlet is not None:
            self.show("")
            self._outlet.close(_LAST_WORDS_S)


def _one_of(option: str, received: str | None, known: tuple[str, ...]) -> None:
    if received is not None and received not in known:
        raise InputError("no such choice", where=option, received=received, hint=", ".join(known))


def _settings(texts: list[str] | None, options: dict[str, Any]) -> StreamSettings:
    from sortal.stream.settings import StreamSettings

    return settings_of(StreamSettings, texts, of="a stream", example="max_age_ms=500", options=options)
