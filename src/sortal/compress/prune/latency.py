"""From a share of the time to a share of the multiplications: by cutting, exporting and timing, before any training.

Time does not follow multiplications: layers wait for memory, and vectors are filled with eight channels or with one.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sortal.compress.prune.cutting import cut_to, total
from sortal.compress.prune.ground import Ground
from sortal.compress.speed import interleaved_ms, time_ratio
from sortal.core.errors import RecipeError
from sortal.export.graph import export_onnx
from sortal.models.network import Network
from sortal.runtime.engines import ENGINES

_TRIES = 5
_ROUNDS = 30
_LARGEST = 0.9


def share_for_latency(ground: Ground, network: Network, original: Path, *, wanted: float) -> float:
    """The smallest share of multiplications found whose cut leaves `wanted` of the time of `original`, an ONNX file.

    CPU time of one image on one thread, in turns. Raises RecipeError where even the largest cut is not fast enough.
    """
    low, high = 0.0, _LARGEST
    reached = _ratio(ground, network, original, high)
    if reached > wanted:
        raise RecipeError(
            f"a cut of {high:.0%} of the multiplications leaves {reached:.0%} of the time on this machine",
            where="compress.prune",
            received=f"{ground.recipe.compress.prune} of the latency",
            hint="ask for less, or for a smaller input (compress.frontier=true)",
        )
    for _ in range(_TRIES):
        middle = (low + high) / 2
        ratio = _ratio(ground, network, original, middle)
        ground.listener.say(f"cutting {middle:.0%} of the multiplications leaves {ratio:.0%} of the time")
        low, high = (low, middle) if ratio <= wanted else (middle, high)
    return high


def _ratio(ground: Ground, network: Network, original: Path, share: float) -> float:
    goal = int((1 - share) * total(network, ground, "macs"))
    cut = cut_to(network, ground, goal=goal, measure="macs", criterion="l1")
    spec = ground.bundle.preprocess
    image = np.zeros((1, spec.channels, *spec.size), np.float32)
    with TemporaryDirectory(prefix="sortal-") as folder:
        graph = export_onnx(cut.network, spec, Path(folder) / "model.onnx")
        engines = [ENGINES.get("onnxruntime").open(path, threads=1) for path in (original, graph)]
        try:
            before, after = interleaved_ms(engines, image, rounds=_ROUNDS)
        finally:
            for engine in engines:
                engine.close()
    return float(time_ratio(before, after).value or 1.0)
