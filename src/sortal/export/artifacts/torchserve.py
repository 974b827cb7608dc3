"""A model archive for TorchServe: the ONNX file, and a handler that answers with Sortal's runtime.

    classifier.mar    MAR-INF/MANIFEST.json · handler.py · model.onnx
    model.onnx        the same file, for the check

TorchServe has been archived by its makers and gets no repairs, of security either; this is for who has it already. The
archive is written here without its archiver, whose format is a zip: https://github.com/pytorch/serve, model-archiver.
It is the same to the byte whenever it is made.
"""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from sortal.export import torchserve_handler
from sortal.export.torchserve_handler import MODEL
from sortal.runtime.onnx_file import read_model

NAME = "classifier"
ARCHIVE = f"{NAME}.mar"
DETAILS = {
    "format": "torchserve-archive",
    "precision": "float32",
    "model": MODEL,
    "engine": "onnxruntime",
    "for": "TorchServe (archived by its makers)",
}
_MANIFEST = {
    "runtime": "python",
    "model": {"modelName": NAME, "serializedFile": MODEL, "handler": "handler.py", "modelVersion": "1.0"},
    "archiverVersion": "0.12.0",
}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/classifier.mar` and `out/model.onnx`. Raises BundleError for a damaged file."""
    model = read_model(onnx)
    (out / MODEL).write_bytes(model)
    with ZipFile(out / ARCHIVE, "w", ZIP_DEFLATED) as archive:
        _add(archive, "MAR-INF/MANIFEST.json", json.dumps(_MANIFEST, indent=2).encode())
        _add(archive, "handler.py", Path(torchserve_handler.__file__).read_bytes())
        _add(archive, MODEL, model)


def _add(archive: ZipFile, name: str, data: bytes) -> None:
    info = ZipInfo(name)  # whose time is 1980
    info.compress_type, info.external_attr = ZIP_DEFLATED, 0o644 << 16
    archive.writestr(info, data)
