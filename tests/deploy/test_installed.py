"""What the image holds, installed by the script that the image uses, and run as the image runs.

As nobody, without rights, on a read-only root, where no network can be reached: everything but an engine of containers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scripts import need_strace

REPOSITORY = Path(__file__).parents[2]
NOBODY = "65534"

_INSIDE = """
set -e
mount --make-rprivate /
mkdir -p "$FOLDER/tmp"
mount -t tmpfs -o size=256m,mode=1777 tmpfs "$FOLDER/tmp"
mount -o remount,bind,ro /
export TMPDIR="$FOLDER/tmp" HOME="$FOLDER/tmp" SORTAL_CACHE="$FOLDER/tmp/sortal" MPLCONFIGDIR="$FOLDER/tmp/matplotlib"
export PYTHONDONTWRITEBYTECODE=1 PATH="$FOLDER/sortal/bin:/usr/bin:/bin"
cd "$FOLDER/tmp"
"$FOLDER/sortal/bin/python" -c "$UP"
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    strace -f -qq -y -e trace=openat,creat,mkdir,mkdirat,rename,renameat2,unlink,connect -o "$FOLDER/tmp/calls" \
    "$FOLDER/sortal/bin/python" "$FOLDER/client.py" "$FOLDER/model" "$FOLDER/red.png"
"""
_UP = """
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh", b"lo", 0x41))
"""
_CLIENT = """
import importlib.util, json, os, re, signal, subprocess, sys, time, urllib.request

server = subprocess.Popen(["sortal", "serve", sys.argv[1], "port=0", "workers=1"], stderr=subprocess.PIPE, text=True)
url = ""
for line in server.stderr:
    event = json.loads(line)
    url = event.get("url", url)
    if event["event"] == "ready":
        break

def ask(path, body=None):
    with urllib.request.urlopen(urllib.request.Request(url + path, body), timeout=60) as answer:
        return answer.read().decode()

with open(sys.argv[2], "rb") as file:
    answered = json.loads(ask("/predict", file.read()))
status = open(f"/proc/{server.pid}/status").read()
told = {
    "label": answered["predictions"][0]["label"],
    "ready": json.loads(ask("/readyz"))["ready"],
    "metrics": "sortal_requests_total" in ask("/metrics"),
    "torch": importlib.util.find_spec("torch") is not None,
    "pip": importlib.util.find_spec("pip") is not None,
    "uid": os.getuid(),
    "rights": dict(re.findall(r"(?m)^(CapEff|CapBnd|NoNewPrivs):\\s+(\\w+)", status)),
}
server.send_signal(signal.SIGTERM)
server.stderr.read()
told["exit"] = server.wait(60)
calls = open(os.environ["TMPDIR"] + "/calls").read()
told["calls"] = [line for line in calls.splitlines() if "=" in line]
print(json.dumps(told))
"""


def interpreter() -> str:
    """A Python that nobody may run: that of a developer can lie in a home that is closed."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        asked = "import sys, ensurepip; print(sys.version_info >= (3, 11))"
        # through a shell: setpriv itself still has the rights to look anywhere
        person = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "sh", "-c"]
        tried = [*person, 'exec "$0" -c "$1"', python, asked]
        told = subprocess.run(tried, capture_output=True, text=True)
        if told.stdout.strip() == "True":
            return python
    pytest.skip("no Python 3.11 here that others than its owner may run")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Which nobody may enter: pytest's own are closed."""
    with TemporaryDirectory(prefix="sortal-installed-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
def test_what_is_installed_serves_without_rights_network_or_a_place_to_write(
    bundle: Path, red: bytes, open_folder: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("namespaces and other users need root")
    need_strace()
    folder = open_folder
    careful = 'umask 077; exec sh deploy/docker/install.sh "$0" "$1"'  # as root's is on hardened machines
    command = ["sh", "-c", careful, str(REPOSITORY), str(folder / "sortal")]
    environment = {**os.environ, "PYTHON": interpreter()}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("sortal ")

    subprocess.run(["cp", "-r", str(bundle), str(folder / "model")], check=True)
    (folder / "red.png").write_bytes(red)
    (folder / "client.py").write_text(_CLIENT)
    subprocess.run(["chmod", "-R", "a+rX", str(folder / "model"), str(folder / "client.py")], check=True)
    told = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", _INSIDE],
        env={"FOLDER": str(folder), "UP": _UP, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    found = json.loads(told.stdout.splitlines()[-1])
    calls = found.pop("calls")
    assert found == {
        "label": "red",
        "ready": True,
        "metrics": True,
        "torch": False,
        "pip": False,
        "uid": int(NOBODY),
        "rights": {"NoNewPrivs": "1", "CapEff": "0" * 16, "CapBnd": "0" * 16},
        "exit": 0,
    }
    assert len(calls) > 1000  # what strace saw
    written = [line for line in calls if re.search(r"O_(WRONLY|RDWR|CREAT)|^\d+ (creat|mkdir|rename|unlink)", line)]
    inside = re.compile(re.escape(f"{folder}/tmp") + r'|"/(dev|proc|sys)/|= -1 ')
    outside = [line for line in written if not inside.search(line)]
    assert outside == []
    reached = [line for line in calls if "connect(" in line and "AF_INET" in line and "127.0.0.1" not in line]
    assert reached == []
