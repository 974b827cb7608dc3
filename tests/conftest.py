"""What all suites share: `tests/` is a place to import from (`corpus` holds image files), and torch waits politely.

Several test processes share few CPUs; threads that spin while they wait would make each other many times slower.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MKL_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell: tests send Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "SORTAL_CACHE" not in os.environ:  # the user's own cache is no place for tests; workers inherit this one
    os.environ["SORTAL_CACHE"] = tempfile.mkdtemp(prefix="sortal-tests-")
    atexit.register(shutil.rmtree, os.environ["SORTAL_CACHE"], ignore_errors=True)
