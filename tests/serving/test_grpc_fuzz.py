"""Damaged messages: none is the server's fault, and none gets lost. `benchmarks/grpc_fuzz.py` sends many more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from servers import Server

SCRIPT = Path(__file__).parents[2] / "benchmarks/grpc_fuzz.py"


def test_damaged_messages_are_the_senders_fault(shared: Server) -> None:
    command = [sys.executable, str(SCRIPT), "--http", f"127.0.0.1:{shared.port}", "--grpc", shared.grpc]
    ended = subprocess.run([*command, "--model", "one", "--count", "300"], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "300 messages" in ended.stdout
    shared.account()
