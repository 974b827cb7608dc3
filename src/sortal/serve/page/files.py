"""Files of this folder as responses that a browser takes for exactly what they are."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from starlette.responses import Response

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def page(text: str, kind: str = "html") -> Response:
    """A response under a policy that lets the page load and ask nothing but this server."""
    return Response(text, media_type=f"{KINDS[kind]}; charset=utf-8", headers=HEADERS)


@lru_cache(maxsize=16)
def own(name: str) -> str:
    """The text of a file beside this one."""
    return files("sortal.serve.page").joinpath(name).read_text(encoding="utf-8")
