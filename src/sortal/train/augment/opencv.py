"""OpenCV with its own threads off: images are already varied by the loader's threads, one batch each.

OpenCV releases the interpreter lock while it works on pixels, so these threads really run side by side.
"""

from __future__ import annotations

import cv2

cv2.setNumThreads(0)

__all__ = ["cv2"]
