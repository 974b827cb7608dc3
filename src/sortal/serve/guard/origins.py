"""Pages of other sites in a browser on this machine: they can reach loopback, and must not ask in its user's name.

A browser sends `Origin` with whatever a page posts. Where requests need no key, a page may post to the server that it
came from and nowhere else, and to a server on loopback only under a name of loopback: another name that leads there is
an attack (DNS rebinding). Programs send no `Origin` and are not concerned. Where requests need a key there is nothing
to take: a page of another site has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from sortal.serve.settings import LOOPBACK


def is_foreign(origin: str, host: str, origins: Sequence[str], *, on_loopback: bool) -> bool:
    """Whether a page of `origin` asks a server, that it calls `host`, which is not its own and does not know it."""
    if origin in origins or "*" in origins:
        return False
    try:
        found = urlsplit(origin)
        name = found.hostname
    except ValueError:
        return True
    if not name or found.netloc.lower() != host.lower():
        return True
    return on_loopback and name not in LOOPBACK
