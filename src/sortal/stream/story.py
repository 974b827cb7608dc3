"""The story of `sortal stream`: everything that was asked for is checked before anything is started, then it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from sortal.core.decision import DecisionSpec
from sortal.core.errors import InputError
from sortal.runtime.locate import answering, locate
from sortal.stream.actions import check_names, deed_of, wanted
from sortal.stream.log import Told
from sortal.stream.running import Running
from sortal.stream.settings import StreamSettings
from sortal.stream.sources.address import named
from sortal.stream.wish import Done, Wish


def stream(wish: Wish, settings: StreamSettings, *, log: Told, show: Callable[[str], None]) -> Done:
    """Answer frames until something ends it. `log` gets events, `show` a line for people now and then.

    Raises InputError for what cannot be: a model, source, label or action that is none; MachineError where workers do
    not start, or a file cannot be read to its end.
    """
    source = named(wish.source)
    # once: a worker that is replaced opens what the first one opened, whatever a workspace has live by then
    wish = replace(wish, model=answering(wish.model), smaller=[answering(path) for path in wish.smaller])
    decision = _check(wish, settings)
    return asyncio.run(Running(wish, source, settings, decision, log, show).run())


def _check(wish: Wish, settings: StreamSettings) -> DecisionSpec:
    """How the classifier decides; the default where its file alone does not say."""
    if wish.smaller and settings.policy != "resolution":
        raise InputError("smaller input sizes belong to the policy resolution", where="--smaller")
    if settings.policy == "resolution" and not wish.smaller:
        hint = "--smaller runs/parts-128: the same classes at a smaller input size, see docs/edge.md"
        raise InputError("the policy resolution needs other input sizes", where="--policy", hint=hint)
    info = locate(wish.model).info
    actions = [wanted(text) for text in wish.on_label]
    for one in actions:
        deed_of(one).close()
    if info is not None:
        check_names(actions, info.labels.names)
    elif settings.smooth == "mean":
        raise InputError("a file alone does not say how it decides", where="smooth=mean", hint="name the run")
    return DecisionSpec() if info is None else info.decision
