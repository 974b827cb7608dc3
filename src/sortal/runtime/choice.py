"""Which artifact, engine and number of threads answer, for commands that answer many images or serve.

Opening a model (`open_classifier`) never measures and always means the same. Here the quickest of the candidates is
taken by a measurement on this machine (`measured`), made once and kept; below `WORTH_IT` images it is not made, and
what is known already is used. One sentence says what was taken and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from sortal.core.errors import BundleError
from sortal.core.progress import Listener, Silent
from sortal.runtime.candidates import Candidate, Precision, candidates_of
from sortal.runtime.classifier import Classifier, open_classifier
from sortal.runtime.engines.opening import AUTO, parse_engine
from sortal.runtime.locate import bundle_at
from sortal.runtime.measured import Times, cached_times, measured_times
from sortal.runtime.threads import allowed_cpus

WORTH_IT = 1000
"""Images from which on a measurement of some seconds pays."""
_BETTER = 0.95
"""Share of the usual candidate's time below which another one is taken: less may be noise."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user left open and what not."""

    engine: str = AUTO
    """A name of `ENGINES`, with a variant or without; `auto` leaves it open."""
    threads: int | None = None
    precision: Precision = "auto"
    measure: Literal["auto", "always", "never"] = "auto"
    """`auto`: where it pays and is not known yet."""
    batch: int = 32
    """Images at a time: 1 asks for the least time of one image, more for the most images a second."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What answers, and why in one sentence."""

    path: Path
    """To open: an artifact, or what was named."""
    engine: str
    threads: int
    precision: str
    why: str
    times: Times
    """Of all candidates, where they were measured."""

    def __str__(self) -> str:
        many = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{self.engine}, {self.precision}, {many}: {self.why}"


def choose_runtime(
    where: Path, *, wish: Wish | None = None, images: int | None = None, listener: Listener | None = None
) -> Choice | None:
    """What answers `images` images (None: for long) of the run, bundle or artifact `where`.

    None where there is nothing to choose: `where` is no bundle's. Raises BundleError for anything altered, and where
    nothing fits the wish; InputError for an unknown engine or precision.
    """
    wish = wish or Wish()
    found = bundle_at(where)
    if found is None:
        return None
    bundle, artifact = found
    engine = None if wish.engine == AUTO else parse_engine(wish.engine)
    able = partial(
        candidates_of, bundle, artifact=artifact, engine=engine, precision=wish.precision, cpus=allowed_cpus()
    )
    candidates = able(threads=wish.threads)
    usual = candidates[0]
    if len(candidates) == 1:
        return _chosen(usual, "there is no other", {})
    if wish.measure == "always" or (wish.measure == "auto" and (images is None or images >= WORTH_IT)):
        again = wish.measure == "always"
        known = measured_times(candidates, bundle.preprocess, again=again, listener=listener or Silent())
    else:
        kept = _kept(candidates, able()) if wish.measure == "auto" else None
        if kept is None:
            return _chosen(usual, "the usual one; --measure looks for a quicker one", {})
        known = kept
    return fastest(candidates, *known, batch=wish.batch)


def _kept(candidates: list[Candidate], wider: list[Candidate]) -> tuple[Times, dict[str, str]] | None:
    """What was measured before, for these candidates alone or among those with any number of threads."""
    for measured in (candidates, wider):
        kept = cached_times(measured)
        if kept is not None:
            own = {one.key for one in candidates}
            times, failed = kept
            left = {key: value for key, value in times.items() if key in own}
            if left and own <= times.keys() | failed.keys():
                return left, failed
    return None


def fastest(candidates: list[Candidate], times: Times, failed: dict[str, str], *, batch: int) -> Choice:
    """The quickest by a measurement; the first of `candidates` that ran, unless another takes clearly less time.

    Raises BundleError where none ran.
    """
    ran = [one for one in candidates if one.key in times]
    if not ran:
        reasons = "; ".join(f"{key}: {why}" for key, why in failed.items())
        raise BundleError("nothing that could answer runs here", received=reasons[:500])
    size = 1 if batch == 1 else max(next(iter(times.values())))
    each = {one.key: times[one.key][size] / size for one in ran}
    usual = ran[0]
    best = min(ran, key=lambda one: each[one.key])
    taken = best if each[best.key] < _BETTER * each[usual.key] else usual
    other = min((one for one in ran if one.engine != taken.engine), key=lambda one: each[one.key], default=None)
    aside = "" if other is None else f" ({_name(other, taken)} {each[other.key]:.2f})"
    return _chosen(taken, f"{each[taken.key]:.2f} ms an image on this machine{aside}, batch {size}", times)


def open_chosen(
    where: Path, *, wish: Wish | None = None, images: int | None = None, listener: Listener | None = None
) -> tuple[Classifier, Choice | None]:
    """The classifier that `choose_runtime` takes, opened. Raises as it does and as `open_classifier` does."""
    wish = wish or Wish()
    choice = choose_runtime(where, wish=wish, images=images, listener=listener)
    if choice is None:
        return open_classifier(where, engine=wish.engine, threads=wish.threads), None
    return open_classifier(choice.path, engine=choice.engine, threads=choice.threads), choice


def _chosen(one: Candidate, why: str, times: Times) -> Choice:
    return Choice(
        path=one.model.parent,
        engine=one.engine,
        threads=one.threads,
        precision=one.precision,
        why=why,
        times=times,
    )


def _name(one: Candidate, beside: Candidate) -> str:
    return one.engine if one.precision == beside.precision else f"{one.engine} {one.precision}"
