"""`sortal synth`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer

from sortal.cli.output import finish, listener
from sortal.core.errors import InputError

_TASK = (
    "kind: classes are kinds of part; defect: grades of a defect. On sheet metal, scratches: ok, light, medium, severe "
    "(without ok: --defects 1); scratch-dent: two marks that are easily confused."
)


def synth(
    out: Path = typer.Argument(..., help="The folder to make; it must not exist or be empty."),
    classes: int = typer.Option(12, "--classes", help="Kinds of part, or of sheet metal."),
    images: int = typer.Option(1200, "--images", help="Images in all."),
    size: str = typer.Option("128", "--size", help="Pixels a side, or WIDTHxHEIGHT."),
    long_tail: float = typer.Option(1.0, "--long-tail", help="Images of the largest class over the smallest."),
    label_noise: float = typer.Option(0.0, "--label-noise", help="Share of images in the wrong folder."),
    exact_duplicates: float = typer.Option(0.0, "--exact-duplicates", help="Share of byte-identical copies."),
    near_duplicates: float = typer.Option(0.0, "--near-duplicates", help="Share of slightly changed copies."),
    bursts: float = typer.Option(0.0, "--bursts", help="Share of images taken in series of one part."),
    corrupt: float = typer.Option(0.0, "--corrupt", help="Share of damaged files."),
    drift: float = typer.Option(0.0, "--drift", help="0 to 1: how far the camera has drifted."),
    new_class: int = typer.Option(0, "--new-class", help="Kinds beyond --classes."),
    defects: float = typer.Option(None, "--defects", help="Share of parts with a defect, or of sheets with a scratch."),
    task: str = typer.Option("kind", "--task", help=_TASK),
    seed: int = typer.Option(0, "--seed", help="The same seed gives the same bytes."),
    as_json: bool = typer.Option(False, "--json", help="Print a report as JSON, and nothing else."),
) -> None:
    """Draw images of mechanical parts or scratched metal, as a line camera would see them, to try things on.

    \b
    sortal synth parts/
    sortal synth parts/ --classes 200 --images 6000 --long-tail 50 --seed 1
    sortal synth scratches/ --task scratches --images 400
    """
    from sortal import api
    from sortal.data.synth.options import SynthOptions, Task

    options = SynthOptions(
        classes=classes,
        images=images,
        size_px=_size(size),
        long_tail=long_tail,
        label_noise=label_noise,
        exact_duplicates=exact_duplicates,
        near_duplicates=near_duplicates,
        bursts=bursts,
        corrupt=corrupt,
        drift=drift,
        new_class=new_class,
        defects=defects,
        task=cast(Task, task),  # checked with all other options, with a clear error
        seed=seed,
        workers=0,
    )
    report = api.synthesize(out, options=options, listener=listener())
    tables = [out / "truth.csv", *([out / "marks.csv"] if options.on_sheets else [])]
    finish(report, as_json=as_json, results=[out, *tables], following=[f"sortal train {out}"])


def _size(text: str) -> int | tuple[int, int]:
    """`128` or `500x375`; what the numbers may be is checked with all other options."""
    width, times, height = text.lower().partition("x")
    try:
        return (int(width), int(height)) if times else int(width)
    except ValueError:
        raise InputError("must be a number of pixels or WIDTHxHEIGHT", where="--size", received=text) from None
