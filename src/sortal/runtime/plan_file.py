"""What stands beside a TensorRT engine: `model.plan` has `model.plan.json`, without which it is not opened.

A plan works with the version of TensorRT and the GPU model that it was built with, and on no other; TensorRT itself
finds that out late or, between GPUs of one family, not at all. The sidecar says what it was built with and for which
batches, and carries the metadata of the ONNX file, which a plan has no place for. Its digest finds damage; it is no
signature: a plan holds code for the GPU, so open none from a stranger.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sortal.core.canonical import parse, pretty
from sortal.core.errors import BundleError, InputError
from sortal.core.manifest import explain
from sortal.core.publish import disk_errors, publish_file
from sortal.runtime.onnx_file import message_fields

ENDING = ".plan"
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
"""Fields of `ModelProto` and of its entries (onnx/onnx.proto3)."""
_Batch = Annotated[int, Field(ge=1)]


class BatchProfile(BaseModel):
    """The batch sizes an engine is built for: it takes any from `min` to `max` and is tuned for `opt`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: _Batch = 1
    opt: _Batch = 8
    max: _Batch = 32

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min <= opt <= max must hold, not {self.min}, {self.opt}, {self.max}")
        return self


class PlanMachine(BaseModel):
    """What a plan is tied to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensorrt: str
    """`tensorrt.__version__`."""
    gpu: str
    """As CUDA names it, for example `NVIDIA H200`."""
    compute_capability: str
    """`9.0`."""


class PlanInfo(BaseModel):
    """`model.plan.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    machine: PlanMachine
    profile: BatchProfile
    """Equal numbers where the ONNX file fixes its batch."""
    input: tuple[int, ...]
    """Sizes of one image, (channels, height, width)."""
    source_sha256: str
    """Of the ONNX file."""
    plan_sha256: str
    metadata: dict[str, str] = {}
    """The ONNX file's own: `sortal.labels` and so on."""


def sidecar(plan: Path) -> Path:
    """Where the description of a plan lies."""
    return plan.with_name(plan.name + ".json")


def write_plan(plan: Path, data: bytes, info: PlanInfo) -> None:
    """The engine's bytes and its sidecar. Raises MachineError when the disk refuses."""
    sealed = info.model_copy(update={"plan_sha256": sha256(data).hexdigest()})
    publish_file(plan, data)
    publish_file(sidecar(plan), pretty(sealed.model_dump(mode="json")).encode())


def read_plan(plan: Path) -> tuple[bytes, PlanInfo]:
    """A plan that is what its sidecar says. Raises BundleError when either is missing, damaged or altered."""
    info = read_info(plan)
    if not plan.is_file():
        raise BundleError("there is no such engine", where=str(plan))
    with disk_errors(plan):
        data = plan.read_bytes()
    found = sha256(data).hexdigest()
    if found != info.plan_sha256:
        raise BundleError("the engine is not the one that its sidecar describes", where=str(plan), received=found)
    return data, info


def read_info(plan: Path) -> PlanInfo:
    """The sidecar alone. Raises BundleError when it is missing or damaged."""
    path = sidecar(plan)
    if not path.is_file():
        raise BundleError(
            "a TensorRT engine is opened only with the sidecar that says what it was built with",
            where=str(path),
            hint="build it with: python -m sortal.export.tensorrt model.onnx model.plan",
        )
    try:
        with disk_errors(path):
            return PlanInfo.model_validate(parse(path.read_bytes(), where=str(path)))
    except ValidationError as error:
        raise BundleError(f"the sidecar is damaged: {explain(error)}", where=str(path)) from error
    except InputError as error:
        raise BundleError("the sidecar is damaged: it is not valid JSON", where=str(path)) from error


def differences(built: PlanMachine, here: PlanMachine) -> tuple[str, ...]:
    """What a plan was built with that is otherwise here, a sentence each; none where it may be opened."""
    named = (("TensorRT", "tensorrt"), ("GPU", "gpu"), ("compute capability", "compute_capability"))
    pairs = [(what, getattr(built, key), getattr(here, key)) for what, key in named]
    return tuple(f"{what}: built with {old}, here is {new}" for what, old, new in pairs if old != new)


def refuse_other_machine(plan: Path, info: PlanInfo, here: PlanMachine) -> None:
    """Raise BundleError that says what differs where a plan is not of this machine."""
    found = differences(info.machine, here)
    if found:
        raise BundleError(
            "this TensorRT engine was built for another machine and cannot be used here",
            where=str(plan),
            received="; ".join(found),
            hint=f"build it here from its ONNX file: python -m sortal.export.tensorrt model.onnx {plan.name}",
        )


def onnx_metadata(data: bytes, *, where: str) -> dict[str, str]:
    """The metadata of an ONNX file, read without the onnx package. Raises BundleError for a damaged file."""
    found: dict[str, str] = {}
    for number, _, entry in message_fields(memoryview(data), where):
        if number == _METADATA_PROPS and isinstance(entry, memoryview):
            pair = {at: value for at, _, value in message_fields(entry, where) if isinstance(value, memoryview)}
            key, value = (bytes(pair.get(at, b"")).decode("utf-8", "replace") for at in (_KEY, _VALUE))
            found[key] = value
    return found
