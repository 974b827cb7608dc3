"""Make docs/pictures/audit.png: drawn images with planted faults, audited, and the top of the page photographed.

    python docs/pictures/make_audit_picture.py

Needs Chromium (or Chrome) and, for suspected label errors, a weights card in SORTAL_ZOO.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import sortal
from sortal.core.publish import publish_file
from sortal.data.synth.faults import FaultOptions, plant
from sortal.data.synth.options import SynthOptions

WIDTH, HEIGHT = 1180, 5200
PICTURE = Path(__file__).parent / "audit.png"
FAULTS = FaultOptions(exact_duplicates=0.04, near_duplicates=0.04, leaking_groups=4, seed=1)


def main() -> None:
    """Draw, plant, audit, photograph."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("this needs Chromium or Chrome")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sortal.synthesize(home / "drawn", options=SynthOptions(classes=6, images=300, size_px=128, seed=3, workers=0))
        plant(sortal.images(home / "drawn"), home / "parts", FAULTS)
        report = sortal.audit(home / "parts", out=home / "audit")
        page = Path(report.paths["report"])
        page.write_text(page.read_text(encoding="utf-8").replace(f"{home}/", ""), encoding="utf-8")
        shot = home / "shot.png"
        size = f"--window-size={WIDTH},{HEIGHT}"
        quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command = [browser, *quiet, size, f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        publish_file(PICTURE, _small(shot))


def _small(shot: Path) -> bytes:
    """What is most worth doing and the worst findings, in few colors."""
    with Image.open(shot) as image:
        top = image.convert("RGB").crop((0, 0, WIDTH, 860))
    buffer = io.BytesIO()
    top.quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
