"""The command `sortal`, also as `python -m sortal`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code.

    Threads of a busy machine's torch sleep while they wait: spinning made training 10 times slower at a load of two
    processes a core. Whoever sets OMP_WAIT_POLICY decides otherwise.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sortal.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
