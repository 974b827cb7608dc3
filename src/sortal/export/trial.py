"""Run a model nobody knows yet in a process of its own, so that one that crashes or hangs takes nothing with it.

ONNX Runtime says of itself that models from strangers can crash it; a model may also hold an endless loop. Only
numbers come back. `python -m sortal.export.trial model.onnx input.npy output.npz` is the other side.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError

TIMEOUT_S = 300.0


def try_model(data: bytes, batch: NDArray[np.float32], *, where: str) -> dict[str, NDArray[np.float32]]:
    """Every float output of the model by name for one batch of its only input.

    Raises BundleError with the engine's own words when it cannot be opened or run, crashes, or takes minutes.
    """
    with TemporaryDirectory(prefix="sortal-trial-") as folder:
        model, given, found = (Path(folder, name) for name in ("model.onnx", "input.npy", "output.npz"))
        model.write_bytes(data)
        np.save(given, batch)
        command = [sys.executable, "-m", "sortal.export.trial", str(model), str(given), str(found)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise BundleError(f"the model did not answer within {TIMEOUT_S:.0f} s", where=where) from error
        if done.returncode != 0:
            raise BundleError(f"the model cannot be run: {_reason(done)}", where=where)
        with np.load(found, allow_pickle=False) as outputs:
            return {_name(key): outputs[key] for key in outputs.files}


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0:
        return f"it crashed the engine (signal {-done.returncode})"
    return lines[-1][:300] if lines else f"exit code {done.returncode}"


def _key(name: str) -> str:
    return name.encode().hex()  # names may hold slashes, which .npz takes for folders


def _name(key: str) -> str:
    return bytes.fromhex(key).decode()


def _main(model: Path, given: Path, found: Path) -> int:
    from sortal.runtime.engines.onnxruntime import open_session
    from sortal.runtime.onnx_file import read_model
    from sortal.runtime.threads import allowed_cpus

    try:
        session = open_session(read_model(model), threads=allowed_cpus(), where="model")
        names = [output.name for output in session.get_outputs()]
        results = session.run(names, {session.get_inputs()[0].name: np.load(given, allow_pickle=False)})
    except Exception as error:  # whatever it was, the other side needs one line
        print(str(error).strip().replace("\n", " ")[:300], file=sys.stderr)
        return 1
    floats = {name: value for name, value in zip(names, results, strict=True) if isinstance(value, np.ndarray)}
    arrays: dict[str, Any] = {_key(name): value for name, value in floats.items() if value.dtype == np.float32}
    np.savez(found, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*(Path(argument) for argument in sys.argv[1:4])))
