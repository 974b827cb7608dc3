"""Convert in a process of its own, with a time limit: converters and engines of others crash and hang, and then take
nothing with them. Only files come back, and the reason where there are none.

`python -m sortal.export.conversion NAME model.onnx folder [calibration.npy] [stand-in.onnx]` is the other side; it also
opens what it made once, or writes what stands in for it where no engine is here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sortal.core.errors import BundleError, InputError, InternalError, MachineError, SortalError
from sortal.core.preprocess import Pixels

TIME_LIMIT_S = 900.0
_FULL_BYTES = 2**18
"""What a disk that a converter has filled may have left."""
_KINDS: dict[str, type[SortalError]] = {
    kind.__name__: kind for kind in (BundleError, InputError, InternalError, MachineError)
}


def convert_apart(
    name: str,
    onnx: Path,
    out: Path,
    *,
    time_limit_s: float = TIME_LIMIT_S,
    pixels: Pixels | None = None,
    stand_in: Path | None = None,
) -> None:
    """Fill the folder `out` with the artifact `name` of an exported, stamped file.

    `pixels` (N, height, width, channels) are prepared images for an artifact that is calibrated; `stand_in` is the file
    to write for one that no engine opens here, see `sortal.export.artifacts`. Raises what the converter raised;
    BundleError where it crashed or took longer than the limit, InputError for a limit that is none.
    """
    if not time_limit_s > 0:
        raise InputError("a time limit is a number of seconds above 0", received=f"{time_limit_s:g}")
    command = [sys.executable, "-m", "sortal.export.conversion", name, str(onnx), str(out)]
    with TemporaryDirectory(prefix="sortal-calibration-") as folder:
        if pixels is not None:
            command.append(str(Path(folder, "calibration.npy")))
            np.save(command[-1], pixels, allow_pickle=False)
        if stand_in is not None:
            command.append(str(stand_in))
        _run(command, name, time_limit_s, out)


def _run(command: list[str], name: str, time_limit_s: float, out: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=time_limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise BundleError(
            f"the converter did not end within {time_limit_s:g} s and was stopped; nothing was changed",
            where=name,
            hint="allow more with --time-limit",
        ) from error
    if done.returncode == 0:
        return
    told = _told(done.stdout)
    if not isinstance(told, MachineError):
        _refuse_full_disk(out, str(told) if told else _reason(done))
    if told is not None:
        raise told
    raise BundleError(f"the converter crashed: {_reason(done)}; nothing was changed", where=name)


def _refuse_full_disk(folder: Path, said: str) -> None:
    """Raise MachineError where nothing more can be written: converters of others say many things of that, or crash."""
    free = shutil.disk_usage(folder).free
    if free < _FULL_BYTES:
        raise MachineError(
            f"no room to convert in: {free:,} bytes are free; nothing was changed",
            where=str(folder),
            received=said,
            hint="make room, or name a folder on another disk: TMPDIR=/other/disk sortal export ...",
        )


def _told(text: str) -> SortalError | None:
    """The error that the other side printed as JSON in its last line."""
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    if not isinstance(found, dict) or "what" not in found:
        return None
    kind = _KINDS.get(str(found.get("kind")), BundleError)
    return kind(str(found["what"]), where=found.get("where"), received=found.get("received"), hint=found.get("hint"))


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit code {done.returncode}"


def _main(name: str, onnx: Path, out: Path, *more: Path) -> int:
    from sortal.export.artifacts import ARTIFACTS

    calibration = next((path for path in more if path.suffix == ".npy"), None)
    stand_in = next((path for path in more if path.suffix == ".onnx"), None)
    try:
        member = ARTIFACTS.get(name)
        if calibration is None:
            member.convert(onnx, out)
        else:
            member.calibrated(onnx, out, np.load(calibration, allow_pickle=False))
        if member.DETAILS["engine"] is not None:
            _open_once(member.DETAILS, out)
        elif stand_in is not None:
            member.stand_in(onnx, out, stand_in)
    except SortalError as error:
        kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _KINDS or cls is SortalError)
        told = {"kind": kind, "what": error.what, "where": error.where, "received": error.received, "hint": error.hint}
        print(json.dumps(told))
        return 1
    return 0


def _open_once(details: dict[str, Any], out: Path) -> None:
    """Run the artifact on one black image: whatever crashes an engine shall do it here."""
    from sortal.runtime.engines import ENGINES
    from sortal.runtime.metadata import from_metadata
    from sortal.runtime.network_input import network_input, takes_any_size, upright_input

    opened = ENGINES.get(details["engine"]).open(out / details["model"], threads=1)
    spec = from_metadata(opened.metadata, where=details["model"]).preprocess
    black = np.zeros((1, *spec.size, spec.channels), np.uint8 if spec.depth == 8 else np.uint16)
    resizes = takes_any_size(opened.metadata)
    opened.run(upright_input(black) if resizes else network_input(spec, black, opened.metadata))
    opened.close()


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], *(Path(argument) for argument in sys.argv[2:])))
