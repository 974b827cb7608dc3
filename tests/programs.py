"""Programs of others that some tests need: where one is missing they are skipped, but not in continuous integration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def need_program(name: str, package: str) -> str:
    """The path of a program of Debian's `package`."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    return found or _missing(name, package)


def need_library(name: str, package: str) -> str:
    """The path of a library of Debian's `package`, below the folder of libraries of this machine's kind."""
    found = next((str(path) for path in Path("/usr/lib").glob(f"*/{name}")), None)
    return found or _missing(name, package)


def _missing(name: str, package: str) -> str:
    reason = f"{name} is not installed: apt-get install {package}"
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
