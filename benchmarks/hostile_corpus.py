"""Time and memory of every odd and hostile file: `python benchmarks/hostile_corpus.py [--repeat 3] [--all]`.

Decodes the corpus of the tests and prints the slowest and the hungriest files (all with `--all`): verdict, whether it
is the expected one, worst time of the repeats, share of the 2 s limit, and peak memory above what was resident before
the file. Ends with 1 where a verdict is wrong or a limit (2 s, 300 MB) is broken. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from corpus.build import write_corpus
from sortal.core.errors import ImageError
from sortal.data.decode import decode
from sortal.data.files import read_file, shown

LIMIT_S, LIMIT_MB = 2.0, 300.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One file's outcome."""

    name: str
    expected: str
    verdict: str
    worst_s: float
    grown_mb: float

    @property
    def kept(self) -> bool:
        """Whether the verdict is right and both limits hold."""
        return self.verdict == self.expected and self.worst_s <= LIMIT_S and self.grown_mb <= LIMIT_MB


def measure(path: Path, expected: str, repeat: int) -> Measured:
    """Decode one file `repeat` times."""
    _reset_peak()
    before, worst_s, verdict = _peak_mb(), 0.0, ""
    for _ in range(repeat):
        start = time.perf_counter()
        try:
            height, width = decode(read_file(path)).shape[:2]
            verdict = f"{height}x{width}"
        except ImageError as error:
            verdict = error.code
        worst_s = max(worst_s, time.perf_counter() - start)
    return Measured(name=path.name, expected=expected, verdict=verdict, worst_s=worst_s, grown_mb=_peak_mb() - before)


def main() -> int:
    """Print the table; 0 where every file kept its verdict and the limits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = _measured(Path(folder), options.repeat)
    notable = {*sorted(rows, key=_time)[-15:], *sorted(rows, key=_memory)[-8:], *(row for row in rows if not row.kept)}
    _print(rows if options.all else sorted(notable, key=_time, reverse=True))
    wrong = [row for row in rows if not row.kept]
    slowest, hungriest = max(rows, key=_time), max(rows, key=_memory)
    print(f"\n{len(rows)} files, {len(wrong)} with a wrong verdict or beyond a limit")
    time_share, memory_share = slowest.worst_s / LIMIT_S, hungriest.grown_mb / LIMIT_MB
    print(f"worst time  {slowest.worst_s * 1000:8.1f} ms, {time_share:6.1%} of the limit ({shown(slowest.name)})")
    print(f"peak growth {hungriest.grown_mb:8.1f} MB, {memory_share:6.1%} of the limit ({shown(hungriest.name)})")
    return 1 if wrong else 0


def _measured(folder: Path, repeat: int) -> list[Measured]:
    verdicts = write_corpus(folder)
    decode(read_file(folder / "plain.png"))
    return [measure(folder / name, verdict, repeat) for name, verdict in verdicts.items()]


def _print(rows: list[Measured]) -> None:
    print(f"{'file':34} {'verdict':20} {'kept':5} {'worst ms':>9} {'of 2 s':>8} {'MB more':>8}")
    for row in rows:
        share = row.worst_s / LIMIT_S
        kept = "yes" if row.kept else "NO"
        print(
            f"{shown(row.name):34} {row.verdict:20} {kept:5} {row.worst_s * 1000:9.1f} {share:8.2%} {row.grown_mb:8.1f}"
        )


def _reset_peak() -> None:
    """Let the peak start again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """Peak resident memory of this process since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _time(row: Measured) -> float:
    return row.worst_s


def _memory(row: Measured) -> float:
    return row.grown_mb


if __name__ == "__main__":
    sys.exit(main())
