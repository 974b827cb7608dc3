"""Which network to take: (machine, latency budget, number of images, wish) to a ranked list with reasons.

The rows are `models.recommended`. The task comes first: everything here classifies whole images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sortal.core.errors import InputError
from sortal.models.catalog import ModelCost, describe
from sortal.models.recommended import RECOMMENDED, SCRATCH_ADVICE, Goal, Hardware, Recommended, suggest

FEW_IMAGES = 1_000
"""Below, whole networks are not worth fine-tuning: a head on frozen features is as good and takes seconds."""
MANY_IMAGES = 100_000
"""From here on, training from scratch becomes possible, and larger networks gain."""

DETECTOR_NOTE = (
    "YOLOv5, often named for real time, finds objects and their boxes, which is another task (and AGPL-3.0 code); for "
    "the class of a whole image the networks above are faster and need no boxes."
)
_HEAVY_PARAMETERS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the network is for. None: not known, and not considered."""

    hardware: Hardware
    latency_ms: float | None = None
    """Largest time for one image."""
    images: int | None = None
    """Labelled training images."""
    goal: Goal | None = None
    pretrained: bool = True
    """Whether pretrained weights can be had."""
    task: str = "classification"


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A network, what it costs, and why it is where it is. `fits`: within the latency budget, None if not measured."""

    item: Recommended
    cost: ModelCost
    reasons: tuple[str, ...]
    latency_ms: float | None = None
    fits: bool | None = None


def select(wanted: Wanted, *, measure_ms: Callable[[str], float] | None = None) -> tuple[Ranked, ...]:
    """Networks for `wanted`, best first.

    `measure_ms` gives the latency of an architecture on the machine it will run on (`catalog.measure_latency_ms` for
    this one); without it nothing is said about time. What breaks the budget comes last, and before it what the data
    cannot feed; otherwise the order of the table stays. Raises InputError for another task and unknown machines.
    """
    if wanted.task != "classification":
        raise InputError("Sortal classifies whole images", received=f"task={wanted.task}", hint=DETECTOR_NOTE)
    if wanted.latency_ms is not None and wanted.latency_ms <= 0:
        raise InputError("the latency budget must be above 0 ms", received=str(wanted.latency_ms))
    items = suggest(wanted.hardware, wanted.goal)
    if not wanted.pretrained:
        items = (*(item for item in RECOMMENDED if item.name == "sortal_small"), *items)
    ranked = [_timed(_reasoned(item, wanted), wanted, measure_ms) for item in items]
    return tuple(sorted(ranked, key=lambda choice: (choice.fits is False, _starves(choice.item, wanted))))


def _reasoned(item: Recommended, wanted: Wanted) -> Ranked:
    cost = describe(item.name)
    reasons = [item.why]
    if item not in suggest(wanted.hardware):
        reasons.append(
            f"Not made for {wanted.hardware}; named for the goal {wanted.goal or 'of training from scratch'}."
        )
    if wanted.images is not None and wanted.images < FEW_IMAGES and cost.parameters > _HEAVY_PARAMETERS:
        reasons.append(f"With {wanted.images} images only its head should be fitted, on frozen features.")
    if wanted.images is not None and wanted.images >= MANY_IMAGES:
        reasons.append(f"{wanted.images} images are enough to train all of its layers.")
    if _starves(item, wanted) and SCRATCH_ADVICE not in item.why:
        reasons.append(SCRATCH_ADVICE)
    return Ranked(item=item, cost=cost, reasons=tuple(reasons))


def _timed(choice: Ranked, wanted: Wanted, measure_ms: Callable[[str], float] | None) -> Ranked:
    if measure_ms is None:
        return choice
    found_ms = measure_ms(choice.item.name)
    if wanted.latency_ms is None:
        return replace(choice, latency_ms=found_ms)
    fits = found_ms <= wanted.latency_ms
    said = f"Measured {found_ms:.1f} ms, {'within' if fits else 'over'} the budget of {wanted.latency_ms:g} ms."
    return replace(choice, latency_ms=found_ms, fits=fits, reasons=(*choice.reasons, said))


def _starves(item: Recommended, wanted: Wanted) -> bool:
    """Whether the network needs more than there is: attention learns from pretrained weights or from very many images
    (Dosovitskiy et al. 2021, arXiv:2010.11929, section 4)."""
    attends = "Transformer" in item.family or "hybrid" in item.family
    scratch = not wanted.pretrained and (wanted.images or 0) < MANY_IMAGES
    few = wanted.images is not None and wanted.images < FEW_IMAGES
    return attends and (scratch or few)
