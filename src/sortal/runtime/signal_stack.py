"""The alternate signal stack of the calling thread, kept as it is while a library is used that exchanges it.

OpenVINO's CPU plugin installs one of twelve kilobytes when it compiles a model and takes it away with the model, which
may happen in another thread. Training that was interrupted after that ended with a segmentation fault.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Inside, a library may exchange the stack; afterwards it is the one from before. Elsewhere than on Linux nothing
    is done."""
    if not sys.platform.startswith("linux"):
        yield
        return
    exchange = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    known = exchange(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            exchange(ctypes.byref(before), None)


def signal_stack_bytes() -> int:
    """Size of the calling thread's alternate signal stack; 0 where it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    now = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now))
    return int(now.size) if now.sp else 0
