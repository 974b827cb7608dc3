"""TLS for HTTP and gRPC: certificates that are checked before they are used, and exchanged while requests come in.

A certificate is checked by shaking hands with itself in memory: that finds dates that are over and purposes that are
others, as a client would find them. One context listens for good; at each handshake it hands over to the context made
of the files that are in force, so no connection is lost when they change.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sortal.core.errors import InputError

if TYPE_CHECKING:
    import grpc

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption alone. TLS 1.3 has no others."""
_OF_OTHERS = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says of a key that belongs to another certificate, or is of another kind."""
_OUT_OF_DATE = (9, 10)
"""OpenSSL's codes for certificates that are not valid yet, and no longer."""


class Certificates:
    """A server's certificate, its key, and who signs those of clients where that is asked for."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None):
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self.paths = tuple(path for path in (certificate, key, client_ca) if path is not None)
        self.not_after = ""
        """When the certificate ends, as OpenSSL writes it."""
        self._pem: tuple[bytes, bytes, bytes | None] = (b"", b"", None)
        self._current = self._listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.load()
        self._listening = self._context()
        self._listening.sni_callback = self._hand_over

    def load(self) -> None:
        """Read the files. Raises InputError where one is missing, is no PEM, belongs to another, or is out of date;
        what was in force stays so then."""
        read = [_read(path) for path in self.paths]
        context = self._context()
        not_after = _checked(self._certificate, self._pair())
        if read != [_read(path) for path in self.paths]:
            raise InputError("these files are being written", where=str(self._certificate))
        self._current, self.not_after = context, not_after
        self._pem = (read[0], read[1], read[2] if self._client_ca else None)

    @property
    def context(self) -> ssl.SSLContext:
        """For a server that listens."""
        return self._listening

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For a server of gRPC; asks for the files in force at each handshake."""
        import grpc

        def configuration() -> Any:
            certificate, key, ca = self._pem
            return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=ca)

        asked = self._client_ca is not None
        return grpc.dynamic_ssl_server_credentials(configuration(), configuration, asked)

    def _hand_over(self, connection: ssl.SSLSocket | ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = self._current

    def _context(self) -> ssl.SSLContext:
        """Of the files as they are, with certificates of clients where those are asked for."""
        context = self._pair()
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except (ssl.SSLError, OSError) as error:
                raise InputError("this is no file of certificates (PEM)", where=str(self._client_ca)) from error
            context.verify_mode = ssl.CERT_REQUIRED
            context.num_tickets = 0  # every connection shows its certificate: none goes on from an earlier one
            context.options |= ssl.OP_NO_TICKET
        return context

    def _pair(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password(self._key))
        except ssl.SSLError as error:
            raise self._wrong(error) from error
        return context

    def _wrong(self, error: ssl.SSLError) -> InputError:
        """Which of the two files is to blame."""
        if error.reason in _OF_OTHERS:
            what = f"this key does not belong to the certificate {self._certificate}"
            return InputError(what, where=str(self._key), hint="--tls cert.pem key.pem, of one pair")
        for path, mark in ((self._certificate, b"-----BEGIN CERTIFICATE-----"), (self._key, b"PRIVATE KEY-----")):
            if mark not in path.read_bytes():
                kind = "certificate" if path == self._certificate else "private key"
                return InputError(f"there is no {kind} (PEM) in this file", where=str(path))
        return InputError(f"this certificate or its key cannot be used: {error.reason}", where=str(self._certificate))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        what = f"this file cannot be read: {error.strerror}"
        raise InputError(what, where=str(path), hint="--tls cert.pem key.pem") from error


def _no_password(key: Path) -> Callable[[], str]:
    def asked() -> str:
        hint = "openssl pkey -in key.pem -out plain.pem"
        raise InputError("this key has a password, and a server cannot be asked for it", where=str(key), hint=hint)

    return asked


def _checked(certificate: Path, server_side: ssl.SSLContext) -> str:
    """When a certificate ends, once a client that trusts nothing but it has shaken hands. Raises InputError."""
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname = False
    client_side.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client_side.load_verify_locations(certificate)
        client = _handshake(server_side, client_side)
    except ssl.SSLCertVerificationError as error:
        hint = "renew it, or set the clock" if error.verify_code in _OUT_OF_DATE else None
        what = f"no client would accept this: {error.verify_message}"
        raise InputError(what, where=str(certificate), hint=hint) from error
    except ssl.SSLError as error:
        raise InputError(f"this certificate cannot be used: {error.reason}", where=str(certificate)) from error
    return str((client.getpeercert() or {}).get("notAfter", ""))


def _handshake(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> ssl.SSLObject:
    """The client's end of a connection in memory. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return client
