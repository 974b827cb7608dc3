"""Build a TensorRT engine from an ONNX file, on the machine with the GPU; needs neither torch nor onnx there.

Written for TensorRT 10 and 11 (NVIDIA's Python API documentation; every call is checked against the bindings of 11.4),
with one older way kept for devices that stay on 8.5. What changed between them decides `typing_of`: TensorRT 11 takes
a network's precision from its file alone and has neither FP16 and INT8 flags nor calibrators; int8 comes as Q/DQ nodes.
Sortal's tests have no GPU: no engine was ever built by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from sortal.core.errors import BundleError
from sortal.core.progress import Listener, Silent
from sortal.core.publish import publish_file
from sortal.export.tensorrt.logger import Kept, keeping_logger
from sortal.runtime.engines.tensorrt import INPUT, import_tensorrt, this_machine
from sortal.runtime.onnx_file import read_model
from sortal.runtime.plan_file import BatchProfile, PlanInfo, PlanMachine, onnx_metadata, read_info, write_plan

_SHOWN = 5


class ParserError(Protocol):
    """`tensorrt.ParserError`, as far as it is told."""

    def desc(self) -> str: ...
    def node(self) -> int: ...


def build_engine(
    onnx: Path,
    out: Path,
    *,
    profile: BatchProfile | None = None,
    timing_cache: Path | None = None,
    listener: Listener | None = None,
) -> PlanInfo:
    """Write the engine `out` (`model.plan`) and its sidecar for this GPU and this TensorRT.

    `profile` are the batches it takes, 1 to 32 by default; a file that fixes its batch has that one. `timing_cache` is
    read where it fits this machine and written back: the next build is quicker. Building takes minutes.
    Raises BundleError with the nodes that TensorRT cannot take, MissingExtraError, or MachineError without a GPU.
    """
    data = read_model(onnx)
    trt = import_tensorrt()
    machine = this_machine(trt)
    told = listener or Silent()
    told.say(f"building for {machine.gpu} with TensorRT {machine.tensorrt}; this takes minutes")
    kept = Kept()
    builder = trt.Builder(keeping_logger(trt, kept))
    flags, half = typing_of(trt)
    network = builder.create_network(flags)
    config = builder.create_builder_config()
    if half is not None:
        config.set_flag(half)
    _parse(trt, network, data, kept, where=str(onnx))
    sizes, wanted = _input_of(network, profile, where=str(onnx))
    _add_profile(builder, config, sizes, wanted, where=str(onnx))
    _read_timings(config, timing_cache, told)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BundleError("TensorRT cannot build an engine", where=str(onnx), received=kept.last())
    if timing_cache is not None:
        publish_file(timing_cache, bytes(config.get_timing_cache().serialize()))
    info = PlanInfo(
        machine=machine,
        profile=wanted,
        input=sizes,
        source_sha256=sha256(data).hexdigest(),
        plan_sha256="",
        metadata=onnx_metadata(data, where=str(onnx)),
    )
    write_plan(out, bytes(plan), info)
    return read_info(out)


def outdated(plan: Path, *, source: bytes, machine: PlanMachine, profile: BatchProfile | None) -> str | None:
    """Why `plan` has to be built (again) from the ONNX file `source` here, a sentence; None where it is current."""
    if not plan.is_file():
        return "there is no engine yet"
    try:
        info = read_info(plan)
    except BundleError as error:
        return error.what
    if info.source_sha256 != sha256(source).hexdigest():
        return "the ONNX file is another one"
    if info.machine != machine:
        return f"it was built for {info.machine.gpu} with TensorRT {info.machine.tensorrt}"
    fixed = info.profile.min == info.profile.max
    if profile is not None and profile != info.profile and not fixed:
        return f"it was built for batches of {info.profile.min} to {info.profile.max}"
    return None


def typing_of(trt: Any) -> tuple[int, Any]:
    """Flags of the network and the builder's flag for half precision, by what this TensorRT knows.

    Since 10 the network is strongly typed: what its file says is what is computed. Before, batches had to be called
    explicit, and half precision had to be allowed.
    """
    kinds = trt.NetworkDefinitionCreationFlag
    if hasattr(kinds, "STRONGLY_TYPED"):
        return 1 << int(kinds.STRONGLY_TYPED), None
    return 1 << int(kinds.EXPLICIT_BATCH), trt.BuilderFlag.FP16


def parse_complaints(errors: Sequence[ParserError]) -> str:
    """The parser's errors in one text, each with the node it is about."""
    lines = [_complaint(error) for error in errors[:_SHOWN]]
    more = [f"and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    return "; ".join([*lines, *more]) or "no reason given"


def _complaint(error: ParserError) -> str:
    named = getattr(error, "node_name", None)  # since TensorRT 10
    operator = getattr(error, "node_operator", None)
    where = f"node {error.node()}" if named is None or not named() else f"node {named()}"
    kind = f" ({operator()})" if operator is not None and operator() else ""
    return f"{where}{kind}: {error.desc().strip()}"


def _parse(trt: Any, network: Any, data: bytes, kept: Kept, *, where: str) -> None:
    parser = trt.OnnxParser(network, keeping_logger(trt, kept))
    if not parser.parse(data):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        raise BundleError(
            "TensorRT does not take this model",
            where=where,
            received=parse_complaints(errors),
            hint="export the artifact onnx and run it with ONNX Runtime's CUDA provider, which takes more operators",
        )


def _input_of(network: Any, profile: BatchProfile | None, *, where: str) -> tuple[tuple[int, ...], BatchProfile]:
    """Sizes of one image, and the batches to build for: as asked, or the one that the file fixes."""
    if network.num_inputs != 1 or network.get_input(0).name != INPUT:
        raise BundleError(f"the model must have one input called {INPUT}", where=where)
    batch, *sizes = (int(size) for size in network.get_input(0).shape)
    if any(size < 1 for size in sizes):
        raise BundleError("only the batch may be free", where=where, received=str([batch, *sizes]))
    if batch > 0:
        return tuple(sizes), BatchProfile(min=batch, opt=batch, max=batch)
    return tuple(sizes), profile or BatchProfile()


def _add_profile(builder: Any, config: Any, sizes: tuple[int, ...], profile: BatchProfile, *, where: str) -> None:
    made = builder.create_optimization_profile()
    made.set_shape(INPUT, *((count, *sizes) for count in (profile.min, profile.opt, profile.max)))
    if config.add_optimization_profile(made) < 0:
        raise BundleError("TensorRT refuses the batch sizes", where=where, received=repr(profile))


def _read_timings(config: Any, file: Path | None, listener: Listener) -> None:
    """Attach the cache of `file`, or a new one where there is none or it is another machine's."""
    if file is None:
        return
    known = file.read_bytes() if file.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        listener.say(f"{file} is the timing cache of another GPU or TensorRT; it is begun anew")
        config.set_timing_cache(config.create_timing_cache(b""), False)
