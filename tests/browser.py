"""Pages in a real browser: open one, run a few lines in it, and read the document as it then is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """The browser's program. Without one the test is skipped; where `CI` is set that is a failure."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        message = "no Chromium is installed (make setup installs it)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def document(page: Path, tmp_path: Path, *, address: str = "", steps: str = "", width: int = 1280) -> str:
    """The document of `page` after `steps` (JavaScript) ran in it. An error in the page or the steps is an attribute
    `data-error` of the body; what the steps return stands in `data-result`."""
    probe = (
        "<script>addEventListener('error', (event) => { document.body.dataset.error = event.message; });"
        "addEventListener('load', () => setTimeout(() => { const result = (() => {"
        f"{steps}"
        "})(); if (result !== undefined) document.body.dataset.result = JSON.stringify(result); }, 50));</script>"
    )
    copy = tmp_path / "probed.html"
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("<main>", f"{probe}<main>", 1), encoding="utf-8")
    home = tmp_path / "browser"
    command = [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={home}",
        f"--window-size={width},900",
        "--virtual-time-budget=3000",
        "--dump-dom",
        f"file://{copy}{address}",
    ]
    done = subprocess.run(command, capture_output=True, timeout=240, check=True)
    return done.stdout.decode("utf-8")
