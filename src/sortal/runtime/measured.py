"""How fast each candidate is on this machine, measured once and kept in the cache.

What was measured holds for the same files, engines, processor and CPUs; where any of it differs, where the entry cannot
be read, and where somebody asks for it, the measurement is made anew. All candidates are timed in turns, and the least
time counts: other processes only ever add to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.canonical import digest, pretty
from sortal.core.errors import SortalError
from sortal.core.places import cache_root
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.runtime.candidates import Candidate
from sortal.runtime.engines.opening import PACKAGES, open_engine
from sortal.runtime.engines.protocol import Engine, Outputs
from sortal.runtime.network_input import NetworkInput, network_input
from sortal.runtime.speed import in_turns_ms
from sortal.runtime.threads import allowed_cpus, processor

BULK, SMALL_BULK = 32, 8
"""Images of the batch that is timed beside single images; the smaller one for networks slower than `_SLOW_MS`."""
_SLOW_MS = 40.0
CANDIDATE_S = 2.0
"""Time for one candidate, about: no further turn begins after this many seconds for each of them."""
_TURNS = 15
_FORMAT = 1

Times = dict[str, dict[int, float]]
"""Candidate's key -> batch -> milliseconds of the network for that batch."""


def measured_times(
    candidates: Sequence[Candidate], spec: PreprocessSpec, *, again: bool = False, listener: Listener
) -> tuple[Times, dict[str, str]]:
    """Times of all candidates, from the cache unless there are none or `again`; and why some have none (key -> reason).

    What cannot be kept, because the disk refuses, is measured again the next time.
    """
    conditions = conditions_of(candidates)
    kept = None if again else cached_times(candidates)
    if kept is not None:
        return kept
    found = _measure(candidates, spec, listener)
    path = _path(conditions)
    if path is not None:
        entry = {"format": _FORMAT, "conditions": conditions, "times": found[0], "failed": found[1]}
        try:
            publish_file(path, pretty(json.loads(json.dumps(entry))).encode())
        except SortalError:
            listener.say("the measurement could not be kept; it is made again the next time")
    return found


def cached_times(candidates: Sequence[Candidate]) -> tuple[Times, dict[str, str]] | None:
    """What an earlier measurement under the same conditions found; None where there is none, or it is damaged."""
    conditions = conditions_of(candidates)
    path = _path(conditions)
    try:
        entry = None if path is None else json.loads(path.read_text(encoding="utf-8"))
        if entry is None or entry["format"] != _FORMAT or entry["conditions"] != conditions:
            return None
        times = {str(key): {int(size): float(ms) for size, ms in own.items()} for key, own in entry["times"].items()}
        failed = {str(key): str(why) for key, why in entry["failed"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    known = {one.key for one in candidates}
    sizes = {tuple(sorted(own)) for own in times.values()}
    whole = sizes <= {(1, BULK), (1, SMALL_BULK)} and len(sizes) < 2 and min(_all(times), default=1.0) > 0
    return (times, failed) if whole and times.keys() | failed.keys() == known else None


def conditions_of(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """All that a measurement depends on, as JSON."""
    return {
        "candidates": {one.key: one.manifest_id for one in candidates},
        "engines": {one.engine: _version(one.engine) for one in candidates},
        "processor": processor(),
        "cpus": allowed_cpus(),
    }


def _measure(candidates: Sequence[Candidate], spec: PreprocessSpec, listener: Listener) -> tuple[Times, dict[str, str]]:
    pixels = _noise(spec)
    failed, timed, runs = dict[str, str](), list[Candidate](), list[Callable[[int], object]]()
    listener.say(f"measuring {len(candidates)} ways to answer on this machine, once")
    with ExitStack() as stack:
        for number, one in enumerate(candidates):
            listener.progress("opening", number, len(candidates))
            try:
                engine = open_engine(one.model, one.engine, threads=one.threads)
                stack.callback(engine.close)
                given = network_input(spec, pixels, engine.metadata)
                engine.run(given[:1])
            except SortalError as error:
                failed[one.key] = error.what
                continue
            timed.append(one)
            runs.append(partial(_run, engine, given))
        listener.progress("opening", len(candidates), len(candidates))
        if not timed:
            return {}, failed
        sizes = (1, BULK if in_turns_ms([partial(runs[0], 1)], turns=3, limit_s=1.0).min() < _SLOW_MS else SMALL_BULK)
        calls = [partial(run, size) for run in runs for size in sizes]
        spent = in_turns_ms(calls, turns=_TURNS, limit_s=CANDIDATE_S * len(timed))
    least = spent.min(axis=1).reshape(len(timed), len(sizes)).tolist()
    return {one.key: dict(zip(sizes, own, strict=True)) for one, own in zip(timed, least, strict=True)}, failed


def _run(engine: Engine, given: NetworkInput, size: int) -> Outputs:
    return engine.run(given[:size])


def _noise(spec: PreprocessSpec) -> Pixels:
    """(BULK, height, width, channels) prepared pixels; the time of a network does not depend on what is in them."""
    numbers = np.random.default_rng(0).integers(0, spec.maximum + 1, (BULK, *spec.size, spec.channels))
    return numbers.astype(np.uint8 if spec.depth == 8 else np.uint16)


def _all(times: Times) -> list[float]:
    return [ms for own in times.values() for ms in own.values()]


def _path(conditions: dict[str, Any]) -> Path | None:
    root = cache_root()
    return None if root is None else root / "runtime" / f"{digest(conditions)[:32]}.json"


def _version(engine: str) -> str:
    name = engine.partition(":")[0]
    try:
        return version(PACKAGES.get(name, name))
    except PackageNotFoundError:
        return "unknown"
