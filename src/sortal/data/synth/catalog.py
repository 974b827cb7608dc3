"""The catalog of parts: which classes there are, in which order, under which names.

A class is a kind in one size, one finish and one variant (thread, head, teeth, seal). The order is fixed: the first
twelve are different to the eye yet not trivially so (two nuts, two washers); after them the kinds take turns, so that
any number of classes is a fair mix. A class keeps its place, and so its pictures, however many are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

_BOLT_SIZES = {"m5": 5.0, "m8": 8.0, "m6": 6.0, "m10": 10.0, "m4": 4.0}
_SHAFT_SIZES = {"d5": 5.0, "d8": 8.0, "d6": 6.0, "d10": 10.0, "d4": 4.0}
_ROUND_SIZES = {"d16": 8.0, "d22": 11.0, "d12": 6.0, "d19": 9.5}
_PLATE_SIZES = {"21mm": 7.0, "15mm": 5.0, "18mm": 6.0, "24mm": 8.0}
_THREADED = ("full", "partial")


@dataclass(frozen=True, kw_only=True)
class PartClass:
    """One class of parts. `index` is its place in the catalog; size_mm is what the shapes call d."""

    index: int
    name: str
    kind: str
    size: str
    size_mm: float
    finish: str
    variant: str


@dataclass(frozen=True, kw_only=True)
class _Kind:
    sizes: dict[str, float]
    finishes: tuple[str, ...]
    variants: tuple[str, ...]


_KINDS: dict[str, _Kind] = {
    "hex-bolt": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "black", "yellow"), variants=_THREADED),
    "hex-nut": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "brass", "black"), variants=("plain", "countersunk")),
    "flat-washer": _Kind(sizes=_BOLT_SIZES, finishes=("steel", "brass", "black", "copper"), variants=("plain", "wide")),
    "spur-gear": _Kind(sizes=_ROUND_SIZES, finishes=("steel", "brass", "black"), variants=("24t", "16t", "36t")),
    "ball-bearing": _Kind(sizes=_ROUND_SIZES, finishes=("steel", "black"), variants=("open", "sealed")),
    "compression-spring": _Kind(sizes=_SHAFT_SIZES, finishes=("steel", "black", "yellow"), variants=("heavy", "light")),
    "l-bracket": _Kind(sizes=_PLATE_SIZES, finishes=("zinc", "black", "yellow"), variants=("square", "round")),
    "socket-screw": _Kind(sizes=_BOLT_SIZES, finishes=("black", "zinc", "yellow"), variants=_THREADED),
    "lock-nut": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "black", "yellow"), variants=("plain", "blue")),
    "countersunk-screw": _Kind(sizes=_BOLT_SIZES, finishes=("brass", "zinc", "black"), variants=_THREADED),
    "spring-washer": _Kind(sizes=_BOLT_SIZES, finishes=("steel", "black", "copper"), variants=("plain", "heavy")),
    "dowel-pin": _Kind(sizes=_SHAFT_SIZES, finishes=("steel", "black", "brass"), variants=("plain", "grooved")),
    "circlip": _Kind(sizes=_ROUND_SIZES, finishes=("black", "steel", "yellow"), variants=("external", "internal")),
    "wing-nut": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "brass", "black"), variants=("plain", "long")),
    "wood-screw": _Kind(sizes=_BOLT_SIZES, finishes=("yellow", "zinc", "brass", "black"), variants=_THREADED),
    "sprocket": _Kind(sizes=_ROUND_SIZES, finishes=("steel", "black", "zinc"), variants=("12t", "18t")),
    "flat-bracket": _Kind(sizes=_PLATE_SIZES, finishes=("zinc", "black", "copper"), variants=("round", "square")),
    "eye-bolt": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "black", "yellow"), variants=_THREADED),
    "flange-nut": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "black", "yellow"), variants=("serrated", "smooth")),
    "pan-screw": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "brass", "black"), variants=_THREADED),
    "tooth-washer": _Kind(sizes=_BOLT_SIZES, finishes=("steel", "black", "yellow"), variants=("external", "internal")),
    "split-pin": _Kind(sizes=_SHAFT_SIZES, finishes=("zinc", "brass", "black"), variants=("closed", "open")),
    "pulley": _Kind(sizes=_ROUND_SIZES, finishes=("steel", "black", "brass"), variants=("plain", "spoked")),
    "thumb-screw": _Kind(sizes=_BOLT_SIZES, finishes=("brass", "zinc", "black"), variants=_THREADED),
    "cap-nut": _Kind(sizes=_BOLT_SIZES, finishes=("brass", "zinc", "black"), variants=("plain", "low")),
    "extension-spring": _Kind(sizes=_SHAFT_SIZES, finishes=("steel", "black", "yellow"), variants=("long", "short")),
    "ring-terminal": _Kind(sizes=_PLATE_SIZES, finishes=("copper", "zinc", "brass"), variants=("plain", "sleeved")),
    "standoff": _Kind(sizes=_BOLT_SIZES, finishes=("brass", "zinc", "black"), variants=("stem", "plain")),
    "e-clip": _Kind(sizes=_ROUND_SIZES, finishes=("black", "steel", "yellow"), variants=("plain", "square")),
    "clevis-pin": _Kind(sizes=_SHAFT_SIZES, finishes=("zinc", "steel", "yellow"), variants=("plain", "twin")),
    "square-nut": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "black", "brass"), variants=("plain", "countersunk")),
    "set-screw": _Kind(sizes=_BOLT_SIZES, finishes=("black", "steel", "brass"), variants=("cone", "flat")),
    "t-bracket": _Kind(sizes=_PLATE_SIZES, finishes=("zinc", "black", "yellow"), variants=("square", "round")),
    "rivet": _Kind(sizes=_SHAFT_SIZES, finishes=("copper", "steel", "brass"), variants=("plain", "hollow")),
    "shaft-collar": _Kind(sizes=_ROUND_SIZES, finishes=("black", "steel", "zinc"), variants=("plain", "split")),
    "castle-nut": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "yellow", "black"), variants=("plain", "three")),
    "stud": _Kind(sizes=_BOLT_SIZES, finishes=("zinc", "black", "yellow"), variants=_THREADED),
    "taper-pin": _Kind(sizes=_SHAFT_SIZES, finishes=("steel", "brass", "black"), variants=("plain", "grooved")),
    "parallel-key": _Kind(sizes=_PLATE_SIZES, finishes=("steel", "black", "brass"), variants=("round", "square")),
}

_FIRST = (
    ("hex-bolt", "m8", "zinc", "full"),
    ("hex-nut", "m10", "zinc", "plain"),
    ("flat-washer", "m10", "steel", "plain"),
    ("spur-gear", "d19", "steel", "24t"),
    ("ball-bearing", "d22", "steel", "open"),
    ("compression-spring", "d8", "steel", "heavy"),
    ("l-bracket", "21mm", "zinc", "square"),
    ("socket-screw", "m8", "black", "full"),
    ("lock-nut", "m10", "zinc", "blue"),
    ("countersunk-screw", "m6", "brass", "full"),
    ("spring-washer", "m10", "steel", "plain"),
    ("dowel-pin", "d8", "steel", "plain"),
)


@cache
def catalog() -> tuple[PartClass, ...]:
    """All classes in their fixed order; names are unique."""
    waiting = [[one for one in _combinations(kind) if one not in _FIRST] for kind in _KINDS]
    order = list(_FIRST)
    for turn in range(max(len(queue) for queue in waiting)):
        order += [queue[turn] for queue in waiting if turn < len(queue)]
    return tuple(_entry(index, *keys) for index, keys in enumerate(order))


def _combinations(kind: str) -> list[tuple[str, str, str, str]]:
    """All of one kind, so that neighbors in the list differ in more than one attribute where they can."""
    spec = _KINDS[kind]
    sizes, finishes, variants = list(spec.sizes), spec.finishes, spec.variants
    rows = []
    for variant_turn, finish_turn, size_turn in product(range(len(variants)), range(len(finishes)), range(len(sizes))):
        finish = finishes[(finish_turn + size_turn) % len(finishes)]
        variant = variants[(variant_turn + size_turn + finish_turn) % len(variants)]
        rows.append((kind, sizes[size_turn], finish, variant))
    return rows


def _entry(index: int, kind: str, size: str, finish: str, variant: str) -> PartClass:
    plain = variant in ("plain", "full")
    name = f"{kind}-{size}-{finish}" if plain else f"{kind}-{size}-{finish}-{variant}"
    size_mm = _KINDS[kind].sizes[size]
    return PartClass(index=index, name=name, kind=kind, size=size, size_mm=size_mm, finish=finish, variant=variant)
