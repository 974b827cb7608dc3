"""What a benchmark measures: every artifact of a bundle on every engine that opens it, and the live network.

What cannot run here is an entry too, with the reason: a table that leaves it out would look as if it did not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sortal.benchmark.child import EAGER
from sortal.core.bundle import Bundle
from sortal.core.errors import InputError, nearest
from sortal.runtime.engines.opening import PACKAGES, engines_for, is_installed, parse_engine
from sortal.runtime.locate import FOREIGN_FILES, model_in

LIVE = "weights"
"""The artifact name of the live network."""
_EXTRAS = {"litert": "mobile", "torch": "train", "executorch": "executorch"}
_DEVICES = {"cuda": "GPU", "tensorrt": "GPU", "gpu": "GPU", "qnn": "NPU", "npu": "NPU", "coreml": "NPU"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row: an artifact on an engine. `why_not` says why it is not run here; empty where it is."""

    artifact: str
    engine: str
    precision: str
    size_bytes: int
    model: Path | None = None
    why_not: str = ""

    @property
    def name(self) -> str:
        """`onnx-int8 · openvino`."""
        return f"{self.artifact} · {self.engine}"

    @property
    def device(self) -> str:
        """CPU, GPU or NPU, by the engine and its variant."""
        parts = self.engine.lower().replace("executionprovider", "").split(":")
        return next((_DEVICES[part] for part in parts if part in _DEVICES), "CPU")


def entries_of(bundle: Bundle, *, only: Sequence[str] = (), engines: Sequence[str] = ()) -> list[Entry]:
    """All rows, float32 ONNX first; `only` names artifacts, `engines` those to measure instead of all.

    Raises InputError for names that are unknown or absent, BundleError where an artifact was altered.
    """
    asked = [str(parse_engine(name)) for name in engines]
    present = [*bundle.artifacts(), LIVE]
    for name in only:
        if name not in present:
            raise InputError("the bundle has no such artifact", received=name, hint=nearest(name, present))
    names = sorted(bundle.artifacts(), key=lambda name: (name != "onnx", name))
    found = [one for name in names if not only or name in only for one in _of_artifact(bundle, name, asked)]
    if (not only or LIVE in only) and not asked:
        found.append(_live(bundle))
    if not found:
        raise InputError("there is nothing to measure", hint="none of these artifacts is opened by these engines")
    return found


def _of_artifact(bundle: Bundle, name: str, asked: Sequence[str]) -> list[Entry]:
    attachment = bundle.attachment(f"artifacts/{name}")
    details, folder = attachment.manifest.details, attachment.path
    size, precision = (
        sum(entry.size for entry in attachment.manifest.files.values()),
        str(details.get("precision", "?")),
    )
    model, foreign = model_in(folder), details.get("for")
    if foreign is not None or model is None:
        who = foreign or next(
            (who for file, who in FOREIGN_FILES.items() if (folder / file).exists()), "other programs"
        )
        where = "cannot be opened here: " if model is None else ""
        why = f"{where}for {who}; compared with the original when it was made"
        return [Entry(artifact=name, engine=str(who).split(",")[0], precision=precision, size_bytes=size, why_not=why)]
    opened_by = engines_for(model)
    engines = [one for one in asked if one.partition(":")[0] in opened_by] if asked else list(opened_by)
    return [
        Entry(
            artifact=name,
            engine=engine,
            precision=precision,
            size_bytes=size,
            model=model,
            why_not=_missing(engine),
        )
        for engine in engines
    ]


def _live(bundle: Bundle) -> Entry:
    weights = bundle.weights_path
    why = _missing("torch") if weights is not None else "this copy of the bundle has no weights"
    size = 0 if weights is None else weights.stat().st_size
    return Entry(artifact=LIVE, engine=EAGER, precision="float32", size_bytes=size, model=weights, why_not=why)


def _missing(engine: str) -> str:
    name = engine.partition(":")[0]
    if is_installed(name):
        return ""
    return f"needs the package {PACKAGES[name]!r}: " + (
        "on the machine with the GPU" if name == "tensorrt" else f'pip install "sortal[{_EXTRAS.get(name, name)}]"'
    )
