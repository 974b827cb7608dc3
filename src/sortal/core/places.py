"""Where things that are not the user's own files are kept on this machine: a cache, which may be deleted at any time,
and a state, which is small and worth keeping.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_root() -> Path | None:
    """The folder of all caches: `SORTAL_CACHE`, or `sortal` in the platform's cache folder. It need not exist.

    None where neither is known: no variable is set and there is no home folder.
    """
    if own := os.environ.get("SORTAL_CACHE"):
        return Path(own).expanduser()
    try:
        return _platform_cache() / "sortal"
    except RuntimeError:  # what Path.home raises where there is none
        return None


def state_root() -> Path | None:
    """The folder of what should outlive a cache: `SORTAL_STATE`, or `sortal` in the platform's folder for state.

    None where neither is known.
    """
    if own := os.environ.get("SORTAL_STATE"):
        return Path(own).expanduser()
    try:
        return _platform_state() / "sortal"
    except RuntimeError:  # what Path.home raises where there is none
        return None


def is_there(path: Path) -> bool:
    """Whether something is at `path` that may be looked at; a cache of somebody else is as good as none."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _platform_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _platform_state() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
