"""From what a user types as `--source` to a kind of source and an address, and the secrets that such text may hold."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from sortal.core.errors import InputError
from sortal.stream.sources import SOURCES, Source

SCHEMES = {"rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http"}
"""The only schemes that are opened, and the source that opens them."""
HIDDEN = "***"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_IN_PATH = re.compile(r"(?i)((?:user|pass|passwd|password|pwd|token|key|auth|secret)=)([^/&;]+)")
"""Some cameras want their password in the path: `rtsp://host/user=admin&password=…`."""
_MOST_TEXT = 2000
_SHORT = 3
"""Characters of a value that stands in many words by chance: `channel=1`."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A source that can be opened."""

    kind: str
    address: str
    shown: str
    """The address as everybody may read it."""

    @property
    def source(self) -> Source:
        """The member of the registry."""
        found: Source = SOURCES.get(self.kind)
        return found

    def scrubbed(self, text: str) -> str:
        """A text without the secrets of the address."""
        return scrubbed(text, secrets_of(self.address))


def named(text: str) -> Named:
    """What `text` names: a folder, a video file, `rtsp://`, `http://`, `camera:0`, `simulated:`; `@file` reads the text
    from a file's first line, so that a password is in no command line. Raises InputError."""
    if text.startswith("@"):
        text = _first_line(Path(text[1:]))
    if not text or len(text) > _MOST_TEXT or not text.isprintable():
        raise InputError("no source of frames", received=repr(masked(text[:80])), hint=_HINT)
    kind, address = _placed(text)
    found = Named(kind=kind, address=address, shown=masked(text) if kind != "video" else address)
    found.source.check(address)
    return found


_HINT = "rtsp://camera/stream, http://camera/video, camera:0, video.mp4, folder/ or simulated:"


def _placed(text: str) -> tuple[str, str]:
    path = Path(text)
    if path.is_dir():
        return "folder", str(path.resolve())
    if path.is_file():
        return "video", str(path.resolve())  # begins with a slash: never read as a protocol or an option
    found = _SCHEME.match(text)
    if found is None:
        raise InputError("there is no such folder, file or camera", where="--source", received=text, hint=_HINT)
    scheme = found[1].lower()
    if scheme in SCHEMES:
        if not text[found.end() :].startswith("//"):
            raise InputError("no address of a camera", where="--source", received=masked(text), hint=f"{scheme}://host")
        return SCHEMES[scheme], text
    own = {"camera", "simulated"} | (set(SOURCES.names()) - set(SOURCES.table))
    if scheme in own:
        return scheme, text[found.end() :]
    known = ", ".join(SCHEMES)
    raise InputError(f"a source of this scheme is not opened; {known} are", where="--source", received=masked(text))


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(_MOST_TEXT + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the file with the address cannot be read", where=str(path)) from error


def masked(text: str) -> str:
    """A URL without user, password and the values of its query; other text as it is."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return text.partition("://")[0] + "://" + HIDDEN
    netloc = f"{HIDDEN}@{host}" if "@" in parts.netloc else host
    query = re.sub(r"=[^&]*", "=" + HIDDEN, parts.query) if "=" in parts.query else HIDDEN if parts.query else ""
    return urlunsplit((parts.scheme, netloc, _IN_PATH.sub(r"\1" + HIDDEN, parts.path), query, ""))


def secrets_of(text: str) -> tuple[str, ...]:
    """What of a URL nobody may read: its user information and the values of its query, the longest first."""
    if "://" not in text:
        return ()
    try:
        parts = urlsplit(text)
    except ValueError:
        return (text.partition("://")[2],)
    user = parts.netloc.rpartition("@")[0]
    found = {user, parts.password or "", *re.findall(r"=([^&]*)", parts.query)}
    found |= {value for _, value in _IN_PATH.findall(parts.path)} | ({parts.query} if "=" not in parts.query else set())
    found |= {value for _, value in parse_qsl(parts.query)} | {unquote(parts.password or "")}
    return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))


def asked_of(parts: SplitResult) -> tuple[str, dict[str, str]]:
    """What a host is asked for by an HTTP URL: the path with its query, and the header with its user, if any."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.username is None:
        return path, {}
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return path, {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """A text in which no secret stands any more; a short one counts where it stands alone."""
    for secret in secrets:
        alone = re.escape(secret) if len(secret) > _SHORT else rf"(?<!\w){re.escape(secret)}(?!\w)"
        text = re.sub(alone, HIDDEN, text)
    return text
