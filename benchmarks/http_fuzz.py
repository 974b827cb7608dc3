"""Requests made up from the server's own description, and what it answers to them.

    python benchmarks/http_fuzz.py runs/photos-1 --examples 500

starts `sortal serve`, reads /openapi.json and sends it valid and invalid requests of every operation, single and in
sequences (schemathesis). Fails where an answer is a server error, has a status, type or shape that is not described,
where what the description forbids is taken, where the server ended or lost a worker, or where a fault is in its log.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "negative_data_rejection",
)
NOT_OFFERED = "load$"
"""501 by design: clients do not load and unload models."""
_START_S = 120.0


def program() -> Path | None:
    """schemathesis, from the virtual environment or the path; None where it is not installed."""
    own = Path(sys.prefix) / "programs" / "schemathesis" / "bin" / "schemathesis"
    found = str(own) if own.is_file() else shutil.which("schemathesis")
    return None if found is None else Path(found)


def fuzz(url: str, folder: Path, *, examples: int, seed: int) -> tuple[int, str]:
    """(exit code, report) of a run against the server at `url`; 0 is without a finding. `folder` takes its files."""
    command = [
        str(program()),
        "run",
        f"{url}/openapi.json",
        "--checks",
        ",".join(CHECKS),
        "--exclude-path-regex",
        NOT_OFFERED,
        "--max-examples",
        str(examples),
        "--seed",
        str(seed),
        "--continue-on-failure",
        "--no-color",
        "--warnings",
        "off",
        "--request-timeout",
        "120",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def main() -> int:
    """One server, one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--examples", type=int, default=500, help="of each operation")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if program() is None:
        print("schemathesis is not installed: make setup", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), Path(name) / "log"
        command = [sys.executable, "-m", "sortal", "serve", str(asked.model.absolute()), "port=0"]
        with log.open("wb") as file:
            server = subprocess.Popen(command, stderr=file, stdout=file)
        try:
            url = _ready(server, log)
            started_s = time.monotonic()
            code, report = fuzz(url, folder, examples=asked.examples, seed=asked.seed)
            print(report)
            faults = [*_faults(server, log, url)]
            print(f"{time.monotonic() - started_s:.0f} s, exit code {code}; " + ("; ".join(faults) or "server sound"))
        finally:
            server.terminate()
            server.wait(60)
    return 1 if code or faults else 0


def _ready(server: subprocess.Popen[bytes], log: Path) -> str:
    url, end_s = "", time.monotonic() + _START_S
    while time.monotonic() < end_s and server.poll() is None:
        events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        url = next((event["url"] for event in events if event["event"] == "listening"), url)
        if any(event["event"] == "ready" for event in events):
            return url
        time.sleep(0.1)
    raise SystemExit(f"the server does not start: {log.read_text()}")


def _faults(server: subprocess.Popen[bytes], log: Path, url: str) -> list[str]:
    """What is wrong with a server afterwards."""
    if server.poll() is not None:
        return [f"the server ended with {server.returncode}"]
    with urllib.request.urlopen(f"{url}/health") as response:
        health = json.load(response)
    found = [] if health["workers_died"] == 0 else [f"{health['workers_died']} workers died"]
    return found + (["a traceback in the log"] if "Traceback" in log.read_text() else [])


if __name__ == "__main__":
    sys.exit(main())
