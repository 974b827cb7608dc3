"""Look into a `.pt2` file before `torch.export.load` does, and refuse everything that could run code while it loads.

A .pt2 file is a zip archive: the graph as JSON, tensors as raw bytes. As read from the sources of PyTorch 2.14, loading
one runs code of the file's maker in these ways, all of which are looked for here:

    pickle          example inputs, tensors marked `use_pickle`, custom and opaque objects, all .pt files of old formats
    shared objects  anything under data/aotinductor
    operator names  looked up with getattr from `torch`, so that torch.os.system is one
    expressions     sizes are parsed by sympy, which evaluates Python; so are guards
    tree specs      an `__enum__` is imported by name

What is left are kernels of ATen, arithmetic on sizes, and tensors.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sortal.core.errors import BundleError

MOST_GRAPH_BYTES = 256 * 2**20
"""Of the graph's JSON text; that of a network of 300 layers has 0.3 MB."""

_PLAIN = re.compile(
    r"(models/model\.json|data/(weights|constants)/(model_(weights|constants)_config\.json|(weight|tensor)_\d+)"
    r"|data/sample_inputs/model\.pt|extra/[\w.]+|archive_format|archive_version|version|byteorder"
    r"|\.data/(version|serialization_id)|\.format_version|\.storage_alignment)"
)
_TARGET = re.compile(
    r"torch\.ops\.aten\.[A-Za-z_]\w*\.\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)|math\.(ceil|floor|trunc)"
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_SYMBOL = re.compile(r"[suz]\w{0,4}\d+")
_EXPRESSION = re.compile(r"[\w\s()+\-*/,='%<>]*")
_WORDS = frozenset(
    {
        "Symbol", "Integer", "Rational", "Add", "Mul", "Pow", "Max", "Min", "True", "False", "positive", "integer",
        "nonnegative", "negative", "zero", "finite", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod",
        "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv", "IntTrueDiv", "TruncToInt", "RoundToInt", "ToFloat",
        "Identity", "evaluate", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not",
    }
)  # fmt: skip


def inspect_program(path: Path) -> None:
    """Raises BundleError when the file is damaged or holds anything but a graph of known operators and raw tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            _inspect(archive, str(path))
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError("the file is damaged or is no program of torch.export", where=str(path)) from error


def _inspect(archive: zipfile.ZipFile, where: str) -> None:
    sizes = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    for name, info in sizes.items():
        if not _PLAIN.fullmatch(name) or (name == "data/sample_inputs/model.pt" and info.file_size):
            raise _refused("a part that could run code while it is loaded", where, info.filename)
    if sizes["models/model.json"].file_size > MOST_GRAPH_BYTES:
        raise _refused("a graph of unusual size", where, f"{sizes['models/model.json'].file_size:,} bytes")
    for kind in ("weights", "constants"):
        config = json.loads(archive.read(sizes[f"data/{kind}/model_{kind}_config.json"]))
        for name, entry in config["config"].items():
            if entry.get("use_pickle") is not False or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                raise _refused("a pickled tensor", where, str(name))
    text = archive.read(sizes["models/model.json"]).decode()
    if "__" in re.sub(r"__(iadd|imul|isub|and|or|xor|lshift|rshift)__", "", text):
        raise _refused("a name with two underscores", where, None)
    program = json.loads(text)
    if program.get("guards_code"):
        raise _refused("guards in Python", where, str(program["guards_code"][0])[:200])
    for key, value in _entries(program):
        if key == "target" and isinstance(value, str) and not _TARGET.fullmatch(value):
            raise _refused("an operator that is none of ATen's", where, value[:200])
        if key == "expr_str" and not _harmless(value):
            raise _refused("an expression that is no size", where, str(value)[:200])


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of every object inside, with its value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _harmless(text: Any) -> bool:
    if not isinstance(text, str) or not _EXPRESSION.fullmatch(text):
        return False
    return all(word in _WORDS or _SYMBOL.fullmatch(word) for word in _WORD.findall(text))


def _refused(what: str, where: str, received: str | None) -> BundleError:
    return BundleError(
        f"the program holds {what}, which is refused",
        where=where,
        received=received,
        hint="make it again from its bundle: sortal export RUN --to torch",
    )
