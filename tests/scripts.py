"""Scripts of `benchmarks/` as modules that tests sample, and what they need of the machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_benchmark(name: str) -> ModuleType:
    """`benchmarks/<name>.py` as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def need_strace() -> None:
    """Skip where nothing can be traced, but not in continuous integration: there the check has to run."""
    tried = shutil.which("strace") and subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True)
    if not tried or tried.returncode != 0:
        reason = "strace is not installed or may not trace processes here"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
