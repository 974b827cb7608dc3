"""Fetch published weights: from the Hugging Face hub (or `HF_ENDPOINT`), or from a plain mirror (`SORTAL_MIRROR`).

Only `model.safetensors` is ever fetched, never a pickle. Size and licence are told before the first byte, what is
already in a cache is used without the network, and nothing half fetched is left in place. `SORTAL_MIRROR` is any web
folder that holds `<hub id>/model.safetensors`, for example `timm/resnet18.a1_in1k/model.safetensors`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from sortal.core.errors import MachineError, WeightsError
from sortal.core.places import is_there
from sortal.core.publish import machine_error
from sortal.models.cards import cache_folder, file_sha256

WEIGHTS_FILE = "model.safetensors"
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_TIMEOUT_S = 20.0
_DISK_ERRORS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A weights file on disk, its SHA-256, and where it came from."""

    path: Path
    sha256: str
    source: str


def tell(message: str) -> None:
    """Print to stderr: stdout belongs to reports."""
    sys.stderr.write(message + "\n")


def is_offline() -> bool:
    """True when `SORTAL_OFFLINE` or `HF_HUB_OFFLINE` forbids the network."""
    truthy = {"1", "true", "yes", "on"}
    return any(os.environ.get(name, "").strip().lower() in truthy for name in ("SORTAL_OFFLINE", "HF_HUB_OFFLINE"))


def cached(hub_id: str) -> Path | None:
    """The weights of `hub_id` (`owner/name`) if a cache of this user holds them."""
    own = _own_cache(hub_id)
    if is_there(own):
        return own
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, WEIGHTS_FILE)
    return Path(found) if isinstance(found, str) else None


def fetch(hub_id: str, *, licence: str, offline: bool, say: Callable[[str], None] = tell) -> Fetched:
    """The weights of `hub_id`, from a cache or downloaded.

    Raises WeightsError when offline, absent, unreachable or damaged, and MachineError when the disk refuses.
    """
    if (path := cached(hub_id)) is not None:
        return Fetched(path=path, sha256=file_sha256(path), source=f"{hub_id} (cached)")
    if offline:
        raise _offline_error(hub_id)
    if mirror := os.environ.get("SORTAL_MIRROR"):
        return _from_mirror(hub_id, mirror, licence=licence, say=say)
    return _from_hub(hub_id, licence=licence, say=say)


def _offline_error(hub_id: str) -> WeightsError:
    return WeightsError(
        "these pretrained weights would have to be downloaded, and the network is switched off (SORTAL_OFFLINE)",
        received=hub_id,
        hint="set SORTAL_ZOO to a folder of weights cards, or model.weights=null to train from scratch, "
        "or unset SORTAL_OFFLINE",
    )


def _own_cache(hub_id: str) -> Path:
    return cache_folder() / hub_id.replace("/", "--") / WEIGHTS_FILE


def _announce(url: str, size: int | None, licence: str) -> str:
    amount = "size unknown" if size is None else f"{size / 1e6:.1f} MB"
    return f"downloading weights: {url} ({amount}, licence {licence})"


def _from_hub(hub_id: str, *, licence: str, say: Callable[[str], None]) -> Fetched:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = hf_hub_url(hub_id, WEIGHTS_FILE, endpoint=endpoint)
    try:
        about: Any = get_hf_file_metadata(url, endpoint=endpoint, timeout=_TIMEOUT_S)
        say(_announce(url, about.size, licence))
        path = Path(hf_hub_download(hub_id, WEIGHTS_FILE, endpoint=endpoint))
    except HfHubHTTPError as error:
        raise _unreachable(url, f"the server answered {error.response.status_code}") from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(url, str(error)) from error
    except OSError as error:
        raise _disk_or_network(url, error) from error
    except Exception as error:  # the client's transport errors have another class in each of its major versions
        raise _unreachable(url, str(error) or type(error).__name__) from error
    return Fetched(path=path, sha256=_checked(path, about.etag, url), source=f"{hub_id} from {endpoint}")


def _from_mirror(hub_id: str, mirror: str, *, licence: str, say: Callable[[str], None]) -> Fetched:
    if not mirror.startswith(("http://", "https://")):
        raise WeightsError("SORTAL_MIRROR must be an http or https address", received=mirror)
    url = f"{mirror.rstrip('/')}/{quote(hub_id)}/{WEIGHTS_FILE}"
    target = _own_cache(hub_id)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tag = _download(url, target, lambda size: say(_announce(url, size, licence)))
    except HTTPError as error:
        error.close()
        raise _unreachable(url, f"the server answered {error.code}") from error
    except OSError as error:
        raise _disk_or_network(url, error) from error
    return Fetched(path=target, sha256=_checked(target, tag, url), source=f"{hub_id} from {mirror}")


def _download(url: str, target: Path, starting: Callable[[int | None], None]) -> str | None:
    """Stream `url` to `target` by way of a temporary file beside it; returns the ETag."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            length = answer.headers.get("Content-Length")
            starting(int(length) if length else None)
            shutil.copyfileobj(answer, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
            if length and file.tell() != int(length):
                raise URLError(f"the connection ended after {file.tell()} of {length} bytes")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    tag = answer.headers.get("X-Linked-ETag") or answer.headers.get("ETag")
    return None if tag is None else tag.strip('W/"')


def _checked(path: Path, tag: str | None, url: str) -> str:
    """SHA-256 of a download, compared with the server's tag where that is one."""
    found = file_sha256(path)
    if tag and re.fullmatch(r"[0-9a-f]{64}", tag) and tag != found:
        path.resolve().unlink(missing_ok=True)  # the hub's cache holds a link to the data
        path.unlink(missing_ok=True)
        raise WeightsError(
            "the download is damaged (SHA-256 differs)", where=url, received=found, hint=f"expected {tag}; try again"
        )
    return found


def _unreachable(url: str, reason: str) -> WeightsError:
    return WeightsError(
        f"cannot download these weights: {reason}",
        where=url,
        hint="check the network, set SORTAL_MIRROR or HF_ENDPOINT to a mirror, set SORTAL_ZOO to a folder of weights "
        "cards, or model.weights=null to train from scratch",
    )


def _disk_or_network(url: str, error: OSError) -> WeightsError | MachineError:
    if error.errno in _DISK_ERRORS or isinstance(error.filename, str):
        return machine_error(error, cache_folder())
    return _unreachable(url, str(getattr(error, "reason", None) or error))
