"""TLS for HTTP and gRPC: what is refused at the start, what clients may do, and certificates that are exchanged."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from servers import Server, start_server
from sortal.core.errors import InputError
from sortal.serve.guard.keys import add_key
from sortal.serve.guard.safety import Safety
from sortal.serve.guard.tls import Certificates
from sortal.serve.settings import ServeSettings

HOSTS = ("localhost", "127.0.0.1")
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    certificate: Path
    key: Path
    issued: trustme.LeafCert


def issued(ca: trustme.CA, folder: Path, name: str, *hosts: str, **dates: datetime) -> Pair:
    leaf = ca.issue_cert(*(hosts or HOSTS), **dates)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return Pair(certificate=certificate, key=key, issued=leaf)


def client(ca: trustme.CA | None = None, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca is not None:
        ca.configure_trust(context)
    for name, version in versions.items():
        setattr(context, name, version)
    return context


def ask(server: Server, context: ssl.SSLContext, path: str = "/livez") -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def presented(server: Server, context: ssl.SSLContext) -> bytes:
    """The certificate that a connection sees."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as shaken,
    ):
        found = shaken.getpeercert(binary_form=True)
        assert found is not None
        return found


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.issued.cert_chain_pems[0].bytes().decode())


def test_files_that_cannot_serve_are_named(tmp_path: Path) -> None:
    ca, other = trustme.CA(), trustme.CA()
    good, another = issued(ca, tmp_path, "good"), issued(other, tmp_path, "another")
    now = datetime.now(UTC)
    old = issued(ca, tmp_path, "old", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
    early = issued(ca, tmp_path, "early", not_before=now + timedelta(days=1), not_after=now + timedelta(days=9))
    text, nothing = tmp_path / "text.pem", tmp_path / "nothing.pem"
    text.write_text("no certificate\n")
    locked, other_kind = tmp_path / "locked.key", tmp_path / "ed25519.key"
    for file, hidden in (
        (locked, serialization.BestAvailableEncryption(b"abc")),
        (other_kind, serialization.NoEncryption()),
    ):
        made = Ed25519PrivateKey.generate()
        pem, format_ = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file.write_bytes(made.private_bytes(pem, format_, hidden))
    for certificate, key, authority, said in (
        (nothing, good.key, None, "nothing.pem: this file cannot be read: No such file"),
        (good.certificate, nothing, None, "nothing.pem: this file cannot be read"),
        (tmp_path, good.key, None, "Is a directory"),
        (text, good.key, None, "text.pem: there is no certificate"),
        (good.certificate, text, None, "text.pem: there is no private key"),
        (good.key, good.certificate, None, "there is no certificate"),
        (good.certificate, another.key, None, "does not belong to the certificate"),
        (good.certificate, other_kind, None, "does not belong to the certificate"),
        (good.certificate, locked, None, "has a password"),
        (old.certificate, old.key, None, "certificate has expired"),
        (early.certificate, early.key, None, "certificate is not yet valid"),
        (good.certificate, good.key, text, "text.pem: this is no file of certificates"),
        (good.certificate, good.key, nothing, "nothing.pem: this file cannot be read"),
    ):
        with pytest.raises(InputError) as caught:
            Certificates(certificate, key, authority)
        assert said in str(caught.value)
    assert Certificates(good.certificate, good.key).not_after.endswith("GMT")


def test_an_open_address_needs_keys_and_tls(tmp_path: Path) -> None:
    keys, certificate, key = tmp_path / "k", tmp_path / "c", tmp_path / "p"
    outside = ServeSettings(host="0.0.0.0")
    for safety, settings, said in (
        (Safety(), outside, "not authenticated"),
        (Safety(certificate=certificate, certificate_key=key), outside, "not authenticated"),
        (Safety(auth=keys), outside, "in the clear"),
        (Safety(), ServeSettings(host="::"), "not authenticated"),
        (Safety(), ServeSettings(metrics_port=0, metrics_host="10.0.0.5"), "not authenticated"),
        (Safety(client_ca=certificate), ServeSettings(), "--tls"),
    ):
        with pytest.raises(InputError, match=said):
            safety.check(settings)
    for safety, settings in (
        (Safety(), ServeSettings()),
        (Safety(), ServeSettings(metrics_host="10.0.0.5")),
        (Safety(anyone=True), outside),
        (Safety(auth=keys, anyone=True), outside),
        (Safety(auth=keys, certificate=certificate, certificate_key=key), outside),
    ):
        safety.check(settings)


def test_certificates_are_exchanged_while_clients_ask(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    ca, stranger = trustme.CA(), trustme.CA()
    first, second = issued(ca, tmp_path, "first"), issued(ca, tmp_path, "second")
    used = issued(ca, tmp_path, "used")
    shutil.copy(first.certificate, used.certificate)
    shutil.copy(first.key, used.key)
    pair = [str(used.certificate), str(used.key)]
    server = start_server(bundles[0], tmp_path / "log", "workers=1", "header_s=2", "--tls", *pair)
    try:
        listening = server.wait_for("listening")
        assert listening["url"].startswith("https://127.0.0.1:")
        assert (listening["tls"], listening["keys"]) == (True, False)
        assert listening["certificate_ends"].endswith("GMT")
        server.wait_for("ready")
        trusting = client(ca)
        assert ask(server, trusting) == 200
        assert presented(server, trusting) == der(first)
        versions = ssl.TLSVersion
        assert ask(server, client(ca, maximum_version=versions.TLSv1_2)) == 200
        for context in (client(), client(stranger), _old(ca)):
            with pytest.raises(ssl.SSLError):
                ask(server, context)
        plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        plain.request("GET", "/livez")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            plain.getresponse()
        plain.close()
        silent = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        assert silent.recv(1) == b""  # a handshake that never comes
        silent.close()

        statuses, stop = list[int](), threading.Event()

        def load() -> None:
            while not stop.is_set():
                statuses.append(ask(server, trusting, "/readyz"))

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        shutil.copy(second.certificate, used.certificate)  # for a moment the key is another's
        server.wait_for("certificates not reloaded")
        assert presented(server, trusting) == der(first)
        shutil.copy(second.key, used.key)
        server.wait_for("certificates reloaded")
        assert presented(server, trusting) == der(second)
        used.certificate.write_text("spoilt")
        server.wait_for("certificates not reloaded", 2)
        assert presented(server, trusting) == der(second)
        count, end = len(statuses), time.monotonic() + PATIENCE_S
        while len(statuses) < count + 30 and time.monotonic() < end:
            time.sleep(0.02)
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert len(statuses) >= count + 30
        assert set(statuses) == {200}
    finally:
        server.end()


def _old(ca: trustme.CA) -> ssl.SSLContext:
    """A client that knows nothing after TLS 1.1."""
    context = client(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def test_clients_show_certificates_where_they_have_to(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    ca, clients, stranger = trustme.CA(), trustme.CA(), trustme.CA()
    own = issued(ca, tmp_path, "own")
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    key = add_key(tmp_path / "keys.yaml", "one", ("admin",))
    safe = ["--auth", str(tmp_path / "keys.yaml"), "--tls", str(own.certificate), str(own.key)]
    outside = ["host=0.0.0.0", "grpc_port=0", *safe, "--client-ca", str(tmp_path / "clients.pem")]
    server = start_server(bundles[0], tmp_path / "log", "workers=1", *outside)
    try:
        server.wait_for("ready")
        known, unknown, bare = client(ca), client(ca), client(ca)
        clients.issue_cert("station-2").configure_cert(known)
        stranger.issue_cert("station-2").configure_cert(unknown)
        assert ask(server, known) == 200
        assert ask(server, known, "/model") == 401
        for context in (unknown, bare):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
                ask(server, context)
        new = trustme.CA()
        new.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
        server.wait_for("certificates reloaded")
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            ask(server, known)
        assert key not in server.log.read_text()
    finally:
        server.end()


RPC = """
import json, sys
import grpc
told = json.loads(sys.stdin.readline())
pem = [one.encode() if one else None for one in told["pem"]]
credentials = grpc.ssl_channel_credentials(pem[0], pem[1], pem[2])
for line in sys.stdin:
    with grpc.secure_channel(told["address"], credentials, [("grpc.ssl_target_name_override", "localhost")]) as channel:
        call = channel.unary_unary(json.loads(line)["path"])
        try:
            call(b"", timeout=10, metadata=(("x-api-key", told["key"]),))
            print("OK", flush=True)
        except grpc.RpcError as error:
            print(error.code().name, flush=True)
"""
LIVE = "/inference.GRPCInferenceService/ServerLive"


def rpc(address: str, ca: trustme.CA, leaf: trustme.LeafCert | None, key: str, path: str) -> str:
    pem = [ca.cert_pem.bytes().decode(), None, None]
    if leaf is not None:
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        pem = [pem[0], leaf.private_key_pem.bytes().decode(), chain.decode()]
    lines = [{"address": address, "pem": pem, "key": key}, {"path": path}]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    done = subprocess.run([sys.executable, "-c", RPC], input=text, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_grpc_has_the_same_certificates_and_keys(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    ca, other, clients = trustme.CA(), trustme.CA(), trustme.CA()
    own, next_one = issued(ca, tmp_path, "own"), issued(other, tmp_path, "next")
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    key = add_key(tmp_path / "keys.yaml", "one", ("infer",))
    safe = ["--auth", str(tmp_path / "keys.yaml"), "--tls", str(own.certificate), str(own.key)]
    server = start_server(
        bundles[0], tmp_path / "log", "workers=1", *safe, "--client-ca", str(tmp_path / "clients.pem")
    )
    try:
        server.wait_for("ready")
        address, leaf = server.wait_for("listening")["grpc"], clients.issue_cert("station-2")
        metadata = "/inference.GRPCInferenceService/ServerMetadata"
        assert rpc(address, ca, leaf, key, metadata) == "OK"
        assert rpc(address, ca, leaf, "wrong", metadata) == "UNAUTHENTICATED"
        assert rpc(address, ca, None, key, LIVE) == "UNAVAILABLE"
        assert rpc(address, other, leaf, key, LIVE) == "UNAVAILABLE"
        shutil.copy(next_one.key, own.key)
        shutil.copy(next_one.certificate, own.certificate)
        server.wait_for("certificates reloaded")
        assert rpc(address, other, leaf, key, LIVE) == "OK"
        assert rpc(address, ca, leaf, key, LIVE) == "UNAVAILABLE"
    finally:
        server.end()
