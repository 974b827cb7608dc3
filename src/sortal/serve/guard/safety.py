"""How a server is kept safe: with which keys and certificates, and what it refuses to do without them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sortal.core.errors import InputError
from sortal.serve.settings import ServeSettings


@dataclass(frozen=True, kw_only=True)
class Safety:
    """What the command line says about it."""

    auth: Path | None = None
    """The file of keys; without, everybody who reaches the server may ask everything."""
    certificate: Path | None = None
    """PEM, with the chain that belongs to it."""
    certificate_key: Path | None = None
    client_ca: Path | None = None
    """Who signs the certificates that clients have to show; without, none is asked for."""
    anyone: bool = False
    """Listen beyond this machine although keys or TLS are missing."""

    def check(self, settings: ServeSettings) -> None:
        """Raises InputError for an address that other machines can reach without keys and TLS, unless `anyone`."""
        if self.client_ca is not None and self.certificate is None:
            raise InputError("certificates of clients need TLS", hint="--tls cert.pem key.pem --client-ca ca.pem")
        if not settings.open_hosts or self.anyone:
            return
        missing = [] if self.auth is not None else ["--auth keys.yaml"]
        missing += [] if self.certificate is not None else ["--tls cert.pem key.pem"]
        if not missing:
            return
        why = "requests are not authenticated" if self.auth is None else "keys would be sent in the clear"
        raise InputError(
            f"this address can be reached from other machines, and {why}",
            received=settings.open_hosts[0],
            hint=f"{' '.join(missing)}; or --anyone, where something before this server sees to it",
        )
