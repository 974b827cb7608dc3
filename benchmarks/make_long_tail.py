"""Make a folder of images long-tailed: of the training images of class i only max * factor ** -(i / (C - 1)) are kept.

Usage: make_long_tail.py SOURCE TARGET [--factor 50] [--val 0.1]     SOURCE has train/<class> and test/<class>
Files are linked, not copied. A share `val` of what is kept goes to val/<class>, at least one image a class; the test
images stay as they are, so accuracy on them is macro accuracy where they are balanced.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path


def link(files: list[Path], folder: Path) -> None:
    """Symbolic links in a new folder."""
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).symlink_to(file.resolve())


def main() -> None:
    """Choose by a fixed seed and link."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--factor", type=float, default=50.0)
    parser.add_argument("--val", type=float, default=0.1)
    given = parser.parse_args()
    classes = sorted(path.name for path in (given.source / "train").iterdir())
    for number, name in enumerate(classes):
        files = sorted((given.source / "train" / name).iterdir())
        kept = round(len(files) * given.factor ** -(number / (len(classes) - 1)))
        chosen = random.Random(number).sample(files, kept)
        held = max(1, round(kept * given.val))
        link(chosen[held:], given.target / "train" / name)
        link(chosen[:held], given.target / "val" / name)
        link(sorted((given.source / "test" / name).iterdir()), given.target / "test" / name)


if __name__ == "__main__":
    main()
