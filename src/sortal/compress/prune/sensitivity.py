"""Which parts of a network can spare channels: accuracy when one set of channels is cut alone, before any training."""

from __future__ import annotations

from dataclasses import dataclass

from sortal.compress.prune.amounts import kept_channels, layers_of, left
from sortal.compress.prune.channels import Anatomy, anatomy
from sortal.compress.prune.criteria import Criterion, least, score_channels
from sortal.compress.prune.ground import Ground, accuracy_on, settle_statistics
from sortal.compress.prune.surgery import without
from sortal.models.network import Network

SHARES = (0.25, 0.5, 0.75)
MOST_SETS = 12
"""Those with the most multiplications; each costs three passes over the images."""
IMAGES = 128
"""Validation images that accuracy is read from."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Accuracy on validation images of the whole network, and of it without a share of one set's channels."""

    whole: float
    images: int
    shares: tuple[float, ...]
    accuracy: dict[str, tuple[float, ...]]
    """Layer that gives the channels -> accuracy at each share."""
    left_out: int
    """Sets that were not looked at."""


def sensitivity(network: Network, ground: Ground, criterion: Criterion) -> Sensitivity:
    """Cut each of the largest sets alone, and look at validation images."""
    found = anatomy(network, size=ground.size, channels=ground.channels)
    batches = ground.batches(ground.material.calibration) if criterion == "taylor" else ()
    scores = score_channels(network, found, criterion, batches)
    judged = ground.material.judged
    chosen = _largest(network, ground, found)
    accuracy: dict[str, tuple[float, ...]] = {}
    for done, number in enumerate(chosen):
        ground.listener.progress("sensitivity of layers", done, len(chosen))
        one, seen = found.sets[number], list[float]()
        for share in SHARES:
            going = (one.count - kept_channels(one, share)) // one.fold
            if not going:
                seen.append(seen[-1] if seen else accuracy_on(network, ground, judged, IMAGES))
                continue
            small = without(network, found, {number: least(scores[number], one.fold, going)})
            settle_statistics(small, ground)
            seen.append(accuracy_on(small, ground, judged, IMAGES))
        accuracy[one.name.removeprefix("body.")] = tuple(seen)
    ground.listener.progress("sensitivity of layers", len(chosen), len(chosen))
    return Sensitivity(
        whole=accuracy_on(network, ground, judged, IMAGES),
        images=min(IMAGES, len(judged.labels)),
        shares=SHARES,
        accuracy=accuracy,
        left_out=len(found.sets) - len(chosen),
    )


def _largest(network: Network, ground: Ground, found: Anatomy) -> list[int]:
    """Sets by what they save when half of them goes, in the order of the network."""
    layers = layers_of(network, size=ground.size, channels=ground.channels)
    full = [one.count for one in found.sets]
    saved = []
    for number, one in enumerate(found.sets):
        half = [*full[:number], kept_channels(one, 0.5), *full[number + 1 :]]
        saved.append(left(layers, found.sets, half, "macs"))
    return sorted(sorted(range(len(saved)), key=lambda number: saved[number])[:MOST_SETS])
