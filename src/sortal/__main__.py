"""The command `sortal`, also as `python -m sortal`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code.

    Threads that wait spin only briefly before they sleep. libgomp's default, long spinning, makes torch slower as soon
    as something else runs: benchmarks/waiting_threads.py measured 1178 ms (up to 3700) for a training step beside two
    busy processes against 852 ms, and no difference on an idle machine. Who sets either variable decides otherwise.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    from sortal.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
