"""A data set through every format that can hold it and back: is its digest the same?

    python benchmarks/round_trip.py SOURCE ... [--format NAME]

Each source is read and scanned. Then it is written in every writable format, read again and scanned again, and the
content digests (bytes, class, split and box of every row) are compared; last, through all those formats one after
another, each read from what the one before has written. A format that does not hold the source says why. Everything is
written into a temporary folder. Ends with 1 where a digest differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from sortal.data.convert import FILES, convert
from sortal.data.formats import FORMATS, WRITABLE
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable


def written(table: ImageTable, to: str, folder: Path) -> ImageTable:
    """The table after a round through a format, scanned."""
    suffix = {"csv": ".csv", "cvat": ".xml"}.get(to, ".json") if to in FILES else ""
    out = folder / f"as-{to}{suffix}"
    convert(table, to, out)
    return scan(images(out))


def refused(table: ImageTable, member: str) -> str | None:
    """Why a format does not hold what the digest covers."""
    reason: str | None = FORMATS.get(member).can_hold(table)
    return reason or next((lost for lost in FORMATS.get(member).loses(table) if lost.startswith("the boxes")), None)


def rounds(table: ImageTable, folder: Path) -> bool:
    """Print a line for each format and for the chain; whether all digests are equal."""
    equal, chain, last = True, [], table
    for to, member in WRITABLE.items():
        reason = refused(table, member)
        if reason is not None:
            print(f"  {to:12} does not hold it: {reason}")
            continue
        start = time.process_time()
        back = written(table, to, folder)
        same = back.content_digest == table.content_digest
        seconds = time.process_time() - start
        print(f"  {to:12} {len(back):8,} rows  {'equal' if same else 'DIFFERENT'}  {seconds:.1f} s CPU")
        if to != "csv":  # a table refers to where the images lie; a chain of copies is what is of interest
            last = written(last, to, folder / "chain")
            chain.append(to)
        equal &= same
    same = last.content_digest == table.content_digest
    print(f"  {' > '.join(chain)}: {'equal' if same else 'DIFFERENT'}", flush=True)
    return equal and same


def main() -> int:
    """Print everything; 1 where a digest differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--format", help="of all sources, where it cannot be told")
    given = parser.parse_args()
    equal = True
    for source in given.sources:
        table = scan(images(source, format=given.format))
        boxes = len(table) - table.frame["region"].null_count()
        print(
            f"{source}: {len(table):,} rows, {boxes:,} boxes, {len(table.labels)} classes, {table.content_digest[:12]}"
        )
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "chain").mkdir()
            equal &= rounds(table, Path(scratch))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
