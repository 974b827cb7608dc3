"""Ctrl-C is handled while a model is open: OpenVINO's small signal stack does not stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sortal.core.bundle import open_bundle
from sortal.runtime.engines import ENGINES
from sortal.runtime.signal_stack import signal_stack_bytes

INTERRUPTED = """
import signal, sys
from pathlib import Path
import numpy as np
from sortal.runtime.engines import ENGINES
engine = ENGINES.get("openvino").open(Path(sys.argv[1]), threads=1)
engine.run(np.zeros((2, 3, 16, 16), np.float32))
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("handled")
"""


def model(bundle: Path) -> Path:
    return open_bundle(bundle).artifact("onnx") / "model.onnx"


def test_the_signal_stack_is_the_one_from_before(bundle: Path) -> None:
    pytest.importorskip("openvino")
    before = signal_stack_bytes()
    engine = ENGINES.get("openvino").open(model(bundle), threads=1)
    engine.run(np.zeros((2, 3, 16, 16), np.float32))
    assert signal_stack_bytes() == before
    engine.close()
    assert signal_stack_bytes() == before


def test_ctrl_c_is_handled_while_openvino_has_a_model(bundle: Path) -> None:
    pytest.importorskip("openvino")
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + INTERRUPTED,
    ]
    done = subprocess.run([*command, str(model(bundle))], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("handled\n", 0), done.stderr
