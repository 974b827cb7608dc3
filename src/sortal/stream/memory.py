"""Memory for frames, allocated once and shared with the capturing process: slots that hold one image file each.

Only pages that were written take memory, so a slot may be large; a camera that changes its resolution needs no other.
"""

from __future__ import annotations

import mmap
import os
import tempfile

from sortal.core.errors import MachineError


class FrameMemory:
    """`slots` pieces of `slot_bytes` each. Close it when no view is used any more."""

    def __init__(self, descriptor: int, slots: int, slot_bytes: int):
        self.descriptor, self.slots, self.slot_bytes = descriptor, slots, slot_bytes
        self._map = mmap.mmap(descriptor, slots * slot_bytes)
        self._view = memoryview(self._map)

    def slot(self, number: int) -> memoryview:
        """All bytes of a slot, to be read and written."""
        start = number * self.slot_bytes
        return self._view[start : start + self.slot_bytes]

    def copied(self, number: int, size: int) -> bytes:
        """The first `size` bytes of a slot."""
        start = number * self.slot_bytes
        return bytes(self._view[start : start + size])

    def close(self) -> None:
        """Give it back."""
        self._view.release()
        self._map.close()
        os.close(self.descriptor)


def new_memory(slots: int, slot_bytes: int) -> FrameMemory:
    """Fresh memory. Sizes are rounded up to whole pages. Raises MachineError where there is not so much."""
    page = mmap.PAGESIZE
    slot_bytes = -(-slot_bytes // page) * page
    try:
        descriptor = _descriptor()
        os.ftruncate(descriptor, slots * slot_bytes)
        return FrameMemory(descriptor, slots, slot_bytes)
    except OSError as error:
        what = f"no memory for {slots} frames of {slot_bytes / 2**20:g} MB: {error.strerror}"
        raise MachineError(what, hint="a smaller frame_mb or buffer, or higher limits (ulimit -f, -v)") from error


def _descriptor() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sortal-frames", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
