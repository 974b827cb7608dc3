"""`python -m sortal.export.tensorrt model.onnx model.plan`: for devices that have TensorRT and no torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from sortal.core.errors import InputError, SortalError
from sortal.core.progress import Plain
from sortal.export.tensorrt.build import build_engine, outdated
from sortal.runtime.engines.tensorrt import import_tensorrt, this_machine
from sortal.runtime.onnx_file import read_model
from sortal.runtime.plan_file import BatchProfile

WRONG_INPUT, MACHINE_FAULT = 2, 3


def main(arguments: Sequence[str]) -> int:
    """Build what is asked for unless it is current; the exit code, 0 where there is an engine for this machine."""
    asked = _parser().parse_args(arguments)
    try:
        _build(asked)
    except SortalError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT if isinstance(error, InputError) else MACHINE_FAULT
    return 0


def _build(asked: argparse.Namespace) -> None:
    onnx = asked.model / "model.onnx" if asked.model.is_dir() else asked.model
    profile = _profile(asked)
    source = read_model(onnx)
    reason = outdated(asked.plan, source=source, machine=this_machine(import_tensorrt()), profile=profile)
    if reason is None and not asked.force:
        print(f"{asked.plan} is current", file=sys.stderr)
        return
    print(f"{reason or 'asked for with --force'}", file=sys.stderr)
    build_engine(onnx, asked.plan, profile=profile, timing_cache=asked.timing_cache, listener=Plain(sys.stderr))
    print(asked.plan)


def _profile(asked: argparse.Namespace) -> BatchProfile:
    try:
        return BatchProfile(min=asked.min, opt=asked.opt, max=asked.max)
    except ValidationError as error:
        received = f"--min {asked.min} --opt {asked.opt} --max {asked.max}"
        raise InputError(
            "these batch sizes are in no order", received=received, hint="1 <= min <= opt <= max"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sortal.export.tensorrt", description="Build a TensorRT engine for the GPU of this machine."
    )
    usual = BatchProfile()
    parser.add_argument("model", type=Path, help="an exported ONNX file, or the folder of the artifact tensorrt")
    parser.add_argument("plan", type=Path, help="the engine to write, for example model.plan")
    parser.add_argument("--min", type=int, default=usual.min, help="smallest batch (%(default)s)")
    parser.add_argument("--opt", type=int, default=usual.opt, help="batch it is tuned for (%(default)s)")
    parser.add_argument("--max", type=int, default=usual.max, help="largest batch (%(default)s)")
    parser.add_argument("--timing-cache", type=Path, help="file of measured kernels, read and written")
    parser.add_argument("--force", action="store_true", help="build even where the engine is current")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
