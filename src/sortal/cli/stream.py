"""`sortal stream`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from sortal.cli.settings import settings_of
from sortal.core.errors import InputError

if TYPE_CHECKING:
    from sortal.stream.settings import StreamSettings
    from sortal.stream.wish import Done

_SOURCE = "rtsp://…, http://…, camera:0, a video, a folder, simulated:, or @file that holds the address."
_ACTION = (
    "crack='POST http://127.0.0.1:9000/x' or crack='SET output:line'; also for abstained, unknown, rejected, lost."
)


def stream(
    model: Path = typer.Argument(..., help="A run, bundle or artifact."),
    settings: list[str] = typer.Argument(None, metavar="KEY=VALUE...", help="max_age_ms=500 workers=2 smooth=mean …"),
    source: str = typer.Option(..., "--source", help=_SOURCE),
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
    record_mb: float = typer.Option(1000.0, "--record-mb", help="Megabytes that are kept at most."),
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

    typed = [source, *(word for text in on_label for word in text.split())]
    hide_in_command_line(secret for text in typed for secret in secrets_of(text))
    from sortal.stream.story import stream as run_stream
    from sortal.stream.wish import Wish

    _one_of("--only", only, ("all", "changes"))
    _one_of("--record-what", record_what, ("all", "doubtful", "changed"))
    own = {} if fps is None else {"fps": fps}
    wish = Wish(
        model=model,
        source=source,
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
    speaker = _Speaker()
    done = run_stream(wish, _settings(settings, own | {"policy": policy}), log=speaker.log, show=speaker.show)
    speaker.end(done, out)


class _Speaker:
    """Stderr: a line that is written over on a terminal, events as lines of JSON."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def log(self, event: dict[str, Any]) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._clear()
        print(json.dumps({"time": time, **event}, ensure_ascii=True), file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        if self._is_terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def end(self, done: Done, out: Path | None) -> None:
        """The last event, where results are, and what to type next."""
        self.log({"event": "ended", "why": done.why, **done.numbers})
        places = [str(place) for place in (out, done.table) if place is not None]
        following = [f"sortal audit {done.table}"] if done.table is not None else []
        for title, lines in (("Results: ", places), ("Next:    ", following)):
            if lines:
                print(title + "\n         ".join(lines), file=sys.stderr)

    def _clear(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr)


def _one_of(option: str, received: str | None, known: tuple[str, ...]) -> None:
    if received is not None and received not in known:
        raise InputError("no such choice", where=option, received=received, hint=", ".join(known))


def _settings(texts: list[str] | None, options: dict[str, Any]) -> StreamSettings:
    from sortal.stream.settings import StreamSettings

    return settings_of(StreamSettings, texts, of="a stream", example="max_age_ms=500", options=options)
