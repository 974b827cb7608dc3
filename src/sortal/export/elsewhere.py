"""What `sortal import` takes, and who reads it: an ONNX file, or a model folder of the Hugging Face hub's format."""

from __future__ import annotations

from pathlib import Path

from sortal.core.errors import InputError
from sortal.core.report import Report
from sortal.models.hub_folder import CONFIG_FILE, is_hub_folder


def import_any(
    model: Path, *, labels: Path | None, preprocess: Path | None, out: Path, licence: str | None = None
) -> Report:
    """Publish `model` as a bundle at `out`. Raises as `import_onnx` and `import_hub`, and InputError for neither."""
    from sortal.export.hub_import import import_hub
    from sortal.export.importer import import_onnx

    if model.is_dir():
        if not is_hub_folder(str(model)):
            hint = "give an ONNX file, or a folder that timm wrote for the Hugging Face hub"
            raise InputError(f"this folder has no {CONFIG_FILE}", where=str(model), hint=hint)
        if preprocess is not None:
            raise InputError(
                "a model folder says itself how images are prepared", received=f"--preprocess {preprocess}"
            )
        return import_hub(model, labels=labels, out=out, licence=licence)
    if labels is None:
        raise InputError("an ONNX file does not name its classes", where=str(model), hint="add --labels names.txt")
    return import_onnx(model, labels=labels, preprocess=preprocess, out=out, licence=licence or "unknown")
