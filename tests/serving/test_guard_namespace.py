"""Images by URL in a network of its own, with sentinels on port 80 of loopback and of a cloud's metadata address."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

INSIDE = """
import asyncio, json, socket, subprocess, threading
for command in ("ip link set lo up", "ip addr add 169.254.169.254/32 dev lo"):
    subprocess.run(command.split(), check=True)
hits = []
def sentinel(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 80), family=family)
    def run():
        while True:
            connection, _ = listener.accept()
            hits.append(address)
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nimage")
            connection.close()
    threading.Thread(target=run, daemon=True).start()
for address in ("127.0.0.1", "::1", "169.254.169.254"):
    sentinel(address)
from sortal.core.errors import SortalError
from sortal.serve.guard.fetch import Fetcher
hosts = ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "0.0.0.0", "[::1]",
         "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::]", "169.254.169.254", "2852039166", "0xa9fea9fe",
         "[64:ff9b::a9fe:a9fe]", "[fe80::1%25lo]", "user@127.0.0.1", "127.0.0.1:80", "127.0.0.1."]
async def asked(fetcher, url):
    try:
        return (await fetcher([url]))[0].decode()
    except SortalError:
        return ""
async def run(fetcher):
    return [await asked(fetcher, f"http://{host}/latest/meta-data/") for host in hosts]
guarded = asyncio.run(run(Fetcher(1000)))
reached = len(hits)
control = asyncio.run(run(Fetcher(1000, is_allowed=lambda _: True)))
told = {"guarded": guarded, "reached": reached, "control": sorted(set(hits)), "let": sum(map(bool, control))}
print(json.dumps(told))
"""


def _may_have_a_network_of_its_own() -> bool:
    if sys.platform != "linux" or not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _may_have_a_network_of_its_own(), reason="needs unshare and ip, and the right to use them")
def test_no_sentinel_is_reached_and_without_the_guard_each_is() -> None:
    done = subprocess.run(["unshare", "-rn", sys.executable, "-c", INSIDE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["guarded"]) == {""}
    assert found["reached"] == 0
    assert found["control"] == ["127.0.0.1", "169.254.169.254", "::1"]
    assert found["let"] >= 12
