"""What all suites share: `tests/` is a place to import from (`corpus` holds image files), and torch waits politely.

Several test processes share few CPUs; threads that spin while they wait would make each other many times slower.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MKL_NUM_THREADS", "1")
