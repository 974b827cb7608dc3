"""What a .tflite file says about itself: entries in its own metadata, and the class names as Android's tools read them.

Entries are named buffers of the file format. The names come once more as `labels.txt` in a zip archive appended to
the file, which readers of TFLite metadata open and the interpreter ignores.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

LABELS = "labels.txt"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same file for the same model, whenever it was made."""


def stamped(data: bytes, metadata: Mapping[str, str], labels: Sequence[str]) -> bytes:
    """The file with these entries added or replaced, and with `labels.txt`, one class a line in the order of logits."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    kept = [entry for entry in model.metadata or [] if _text(entry.name) not in metadata]
    for key, value in sorted(metadata.items()):
        entry = schema.MetadataT()
        entry.name, entry.buffer = key, _stored(model, value.encode(), schema)
        kept.append(entry)
    model.metadata, model.description = kept, "Sortal"
    return _with_archive(bytes(flatbuffer_utils.convert_object_to_bytearray(model)), labels)


def _stored(model: Any, data: bytes, schema: Any) -> int:
    import numpy as np

    made = schema.BufferT()
    made.data = np.frombuffer(data, np.uint8)
    model.buffers.append(made)
    return len(model.buffers) - 1


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name or ""


def _with_archive(data: bytes, labels: Sequence[str]) -> bytes:
    """Stored without compression, which those readers need."""
    buffer = io.BytesIO()
    buffer.write(data)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _EPOCH), "".join(f"{name}\n" for name in labels))
    return buffer.getvalue()
