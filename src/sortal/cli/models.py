"""`sortal models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import typer

from sortal.cli.output import finish
from sortal.core.errors import InputError

if TYPE_CHECKING:
    from sortal.models.recommended import Goal, Hardware
    from sortal.models.selection import Wanted


def models(
    hardware: str = typer.Option(None, "--hardware", help="Rank for: edge, cpu, low-power gpu, gpu or multi-gpu."),
    goal: str = typer.Option(None, "--goal", help="With --hardware: light, medium, real-time or accuracy."),
    latency_ms: float = typer.Option(None, "--latency-ms", help="With --hardware: most milliseconds for an image."),
    images: int = typer.Option(None, "--images", help="With --hardware: how many labelled images there are."),
    scratch: bool = typer.Option(False, "--scratch", help="With --hardware: no pretrained weights can be had."),
    measure: bool = typer.Option(False, "--measure", help="Time the ranked networks here; so does --latency-ms."),
    as_json: bool = typer.Option(False, "--json", help="Print the table as a JSON report, and nothing else."),
) -> None:
    """List the networks to choose from and the weights at hand; or rank them for a machine, with reasons.

    \b
    sortal models
    sortal models --hardware cpu --latency-ms 20 --images 2000
    SORTAL_ZOO=cards/ sortal models
    """
    from sortal import explore
    from sortal.cli.tables import draw

    wanted = _wanted(hardware, goal, latency_ms, images, scratch=scratch, measure=measure)
    report = explore.models(wanted, measure=measure or latency_ms is not None)
    if not as_json:
        for name, table in report.tables.items():
            draw(name, table)
    best = "<name>" if wanted is None else str(report.tables["ranking"].rows[0][1])
    following = [f"sortal train photos/ model={best}"]
    if wanted is not None and report.tables["ranking"].rows[0][6] == "no":
        following = [
            "allow more with --latency-ms, or give a smaller image: input.size=128; none of these is within it"
        ]
    finish(report, as_json=as_json, results=[], following=following)


def _wanted(
    hardware: str | None,
    goal: str | None,
    latency_ms: float | None,
    images: int | None,
    *,
    scratch: bool,
    measure: bool,
) -> Wanted | None:
    if hardware is None:
        if goal is not None or latency_ms is not None or images is not None or scratch or measure:
            raise InputError("a ranking is for a machine", where="--hardware", hint="for example --hardware cpu")
        return None
    from sortal.asked import need

    need("torch", "train")
    from sortal.models.selection import Wanted

    return Wanted(
        hardware=cast("Hardware", hardware),  # both are checked with a clear error when they are looked up
        goal=cast("Goal | None", goal),
        latency_ms=latency_ms,
        images=images,
        pretrained=not scratch,
    )
