"""Events of the log as sentences, for people who watch a terminal; programs get them as lines of JSON."""

from __future__ import annotations

import json
from typing import Any

_SENTENCES = {
    "started": "watching {camera}",
    "input size": "answers with {size} from now on, {before} before",
    "worker died": "a worker died and is replaced; {deaths} so far",
    "worker trouble": "workers cannot start: {message}",
    "worker trouble over": "workers start again",
    "camera lost": "{camera} is lost: {message}; tried again in {again_in_s} s",
    "ended early": "{camera} ended early: {message}",
    "results not written": "results cannot be written: {message}",
    "results written again": "results can be written again",
    "action failed": "{name}: {action} failed: {message}",
    "action behind": "{name}: {action} is behind: {message}",
    "not recorded": "frames cannot be kept: {message}",
    "recorded again": "frames are kept again",
    "recording full": "{folder} is full with {mb} MB: nothing more is kept",
}


def sentence(event: dict[str, Any]) -> str:
    """What an event says, in characters that a terminal shows and does not obey; one that has no sentence as JSON."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in _said(event))


def _said(event: dict[str, Any]) -> str:
    kind = event["event"]
    if kind in _SENTENCES:
        return _SENTENCES[kind].format_map(event)
    if kind == "ready":
        size = _size((event["input"]["width"], event["input"]["height"]))
        return f"ready: {event['workers']} worker{'s' * (event['workers'] > 1)}, {event['engine']}, images of {size}"
    if kind == "camera live":
        return f"{event['camera']} sends frames" + (f" of {_size(event['size'])}" if event["size"] else "")
    if kind == "camera size":
        return f"{event['camera']} sends frames of {_size(event['size'])} now, {_size(event['before'])} before"
    return _summary(event) if kind == "ended" else json.dumps(event, ensure_ascii=False)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _summary(event: dict[str, Any]) -> str:
    """How it went, with a line for each thing that a person should know."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in event["reasons"].items())
    states = ", ".join(f"{event[state]:,} {state}" for state in ("answered", "abstained", "unknown", "rejected"))
    lines = [
        f"ended ({event['why']}): {event['received']:,} frames, {states}" + (f" ({reasons})" if reasons else ""),
        f"{event['frames_per_s']:g} frames/s, age {event['age_ms_p50']:g} ms, p99 {event['age_ms_p99']:g} ms, "
        f"peak memory {event['peak_mb']:g} MB and {event['peak_mb_largest_child']:g} MB of a child",
    ]
    careful = {
        "workers that died": event["workers_died"],
        "losses of the camera": event.get("camera_lost", 0),
        "frames of the camera that were never taken": event["missed"],
        "lines of results that were lost": event.get("lines_dropped", 0),
        "frames that were to be kept and were not": event.get("not_recorded", 0),
    }
    for action in event.get("actions", ()):
        careful[f"{action['name']}, {action['action']}, that failed"] = action["failed"]
        careful[f"{action['name']}, {action['action']}, that was left out"] = action["dropped"]
    lines += [f"careful: {what}: {count:,}" for what, count in careful.items() if count]
    lines += [] if event["received"] else ["careful: no frame came at all"]
    return "\n         ".join(lines)
