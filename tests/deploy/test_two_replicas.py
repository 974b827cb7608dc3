"""Two servers behind the nginx of deploy/nginx: both are asked, one that dies is left out, and it comes back."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from programs import need_program
from servers import PATIENCE_S, Server, start_server
from sockets import free_port
from sortal.serve.settings import ServeSettings

NGINX = Path(__file__).parents[2] / "deploy" / "nginx" / "sortal.conf"


@contextmanager
def balanced(folder: Path, *servers: Server) -> Iterator[Server]:
    """nginx with our file before the servers, to be asked as a server is."""
    nginx, port = need_program("nginx", "nginx-light"), free_port()
    text = NGINX.read_text(encoding="utf-8").replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    for place, server in zip(("127.0.0.1:8000", "127.0.0.1:8010"), servers, strict=True):
        assert place in text
        text = text.replace(place, f"127.0.0.1:{server.port}")
    text = text.replace("fail_timeout=5s", "fail_timeout=1s")
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"{name}_temp_path {folder}/{name};" for name in names)
    main = f"user root;\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/error;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{main}http {{\naccess_log off;\n{places}\n{text}}}\n")
    process = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error")])
    front = Server(process=process, log=folder / "error", port=port)
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                front.ask("GET", "/livez")
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)
        yield front
    finally:
        process.terminate()
        process.wait(30)


def shares(before: list[float], servers: list[Server]) -> list[float]:
    return [
        server.numbers()["sortal_requests_received_total"] - was for was, server in zip(before, servers, strict=True)
    ]


def test_requests_are_shared_and_a_replica_that_dies_is_left_out(bundle: Path, tmp_path: Path, red: bytes) -> None:
    servers = [start_server(bundle, tmp_path / f"log-{number}", "workers=1") for number in range(2)]
    try:
        for server in servers:
            server.wait_for("ready")
        with balanced(tmp_path, *servers) as front:
            statuses = Counter(front.predict(red)[0] for _ in range(40))
            assert statuses == {200: 40}
            assert min(shares([0, 0], servers)) >= 10
            assert front.ask("GET", "/metrics")[0] == 404

            servers[0].process.send_signal(signal.SIGKILL)
            servers[0].process.wait()
            before = servers[1].numbers()["sortal_requests_received_total"]
            assert Counter(front.predict(red)[0] for _ in range(40)) == {200: 40}
            assert shares([before], servers[1:]) == [40]

            port = servers[0].port
            servers[0] = start_server(bundle, tmp_path / "log-again", "workers=1", f"port={port}")
            servers[0].wait_for("ready")
            end = time.monotonic() + PATIENCE_S
            while servers[0].numbers()["sortal_requests_received_total"] < 5:
                assert front.predict(red)[0] == 200
                assert time.monotonic() < end
                time.sleep(0.02)
    finally:
        for server in servers:
            server.end()


def test_the_limits_of_the_file_are_those_of_the_server() -> None:
    text, settings = NGINX.read_text(encoding="utf-8"), ServeSettings()
    assert f"client_max_body_size {settings.body_mb:g}m;" in text
    assert int(re.findall(r"proxy_read_timeout (\d+)s", text)[0]) > max(settings.answer_s, settings.explain_s)
    assert "non_idempotent" in re.findall(r"proxy_next_upstream (.*);", text)[0]
    assert "timeout" not in re.findall(r"proxy_next_upstream (.*);", text)[0].split()  # an image is not decoded twice
