"""The C++ of the documentation, compiled and run: it answers as Sortal does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.core.bundle import open_bundle
from sortal.data.decode import to_pixels
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines.openvino import import_openvino
from worlds import World, sortal

DOCUMENT = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_program_for_openvino_answers_as_sortal_does(world: World, tmp_path: Path) -> None:
    package = Path(str(import_openvino().__file__)).parent
    if not (package / "include" / "openvino" / "openvino.hpp").is_file():
        pytest.skip("this package of OpenVINO brings no headers")
    shutil.copytree(world.run, tmp_path / "photos-1")
    assert sortal(tmp_path, "export", "photos-1", "--to", "openvino-resize", "--count", "8").code == 0
    program = _compiled(package, tmp_path)
    model = open_bundle(tmp_path / "photos-1" / "bundle").artifact("openvino-resize") / "model.xml"
    files = sorted((world.home / "other").rglob("*.png"))
    readable = [path for path in files if path.name not in ("nothing.png", "short.png")][:3]
    with open_classifier(tmp_path / "photos-1") as classifier:
        for size, path in zip([(32, 32), (90, 71), (40, 200)], readable, strict=True):
            pixels = np.asarray(Image.fromarray(to_pixels(path.read_bytes())).resize(size[::-1]))
            (tmp_path / "pixels.raw").write_bytes(pixels.tobytes())
            command = [program, model, tmp_path / "pixels.raw", *map(str, size)]
            said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split()
            expected = classifier.predict([pixels])
            assert int(said[0]) == expected.index[0]
            assert float(said[1]) == pytest.approx(float(expected.probability[0]), abs=1e-3)


def _compiled(package: Path, folder: Path) -> Path:
    blocks = re.findall(r"```cpp\n(.+?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    source, program = folder / "classify.cpp", folder / "classify"
    source.write_text(next(block for block in blocks if "openvino.hpp" in block), encoding="utf-8")
    libraries = package / "libs"
    library = next(libraries.glob("libopenvino.so*"))
    command = ["g++", "-std=c++17", "-O1", f"-I{package / 'include'}", str(source), str(library)]
    command += [f"-Wl,-rpath,{libraries}", f"-Wl,-rpath-link,{libraries}", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return program
