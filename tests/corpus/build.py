"""All cases together, and the corpus as a folder: `python tests/corpus/build.py FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from corpus.hostile import hostile
from corpus.odd import odd

CASES: dict[str, tuple[str, Callable[[], bytes]]] = {
    name: (verdict, build) for name, verdict, build in [*odd(), *hostile()]
}
"""File name to (verdict, builder); a verdict is HEIGHTxWIDTH of the upright pixels or one of the error codes."""


def write_corpus(folder: Path) -> dict[str, str]:
    """Write every file into an existing folder; returns file name to verdict."""
    for name, (_, build) in CASES.items():
        (folder / name).write_bytes(build())
    return {name: verdict for name, (verdict, _) in CASES.items()}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for file, verdict in write_corpus(target).items():
        print(f"{verdict:20} {(target / file).stat().st_size:>9} {file!r}")
