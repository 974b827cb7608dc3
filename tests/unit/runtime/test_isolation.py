"""The run side needs no torch and calls nobody: checked in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

BLOCK = """
    import sys
    sys.modules.update(dict.fromkeys({blocked!r}))  # importing any of these now fails as if it were not installed
"""


def run(code: str, blocked: tuple[str, ...] = ()) -> str:
    program = textwrap.dedent(BLOCK.format(blocked=blocked)) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_predicting_from_a_bundle_needs_neither_torch_nor_onnx(engine, bundle):
    code = f"""
        import numpy as np
        from pathlib import Path
        from sortal.runtime.classifier import open_classifier
        with open_classifier(Path({str(bundle)!r}), engine={engine!r}, threads=1) as model:
            red = np.zeros((9, 9, 3), np.uint8)
            red[:, :, 0] = 255
            print(model.engine, model.predict([red, b"", red]).answers())
        assert not [name for name in sys.modules if name.startswith("torch.")]
    """
    blocked = ("torch", "torchvision", "timm", "safetensors", "onnx", "onnxscript")
    assert run(code, blocked) == f"{engine} ['red', None, 'red']\n"


def test_a_missing_engine_names_the_extra(bundle):
    code = f"""
        from pathlib import Path
        from sortal.core.errors import MissingExtraError
        from sortal.runtime.classifier import open_classifier
        try:
            open_classifier(Path({str(bundle)!r}), engine="openvino")
        except MissingExtraError as error:
            print(error)
    """
    assert 'pip install "sortal[openvino]"' in run(code, ("openvino",))


def test_opening_openvino_calls_nobody(bundle, tmp_path):
    """`import openvino` on its own reports to Google Analytics and writes into the home folder."""
    code = f"""
        import os
        os.environ["HOME"] = {str(tmp_path)!r}
        seen = []
        def hook(event, arguments):
            if event in ("socket.getaddrinfo", "socket.connect"):
                seen.append((event, arguments[0] if event == "socket.getaddrinfo" else arguments[1]))
        sys.addaudithook(hook)
        from pathlib import Path
        from sortal.runtime.classifier import open_classifier
        open_classifier(Path({str(bundle)!r}), engine="openvino", threads=1).close()
        import atexit
        atexit._run_exitfuncs()
        print(seen, os.listdir({str(tmp_path)!r}))
    """
    assert run(code) == "[] []\n"
