"""How a command that several processes run ends: one of them says what went wrong, and each may keep a log."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import typer

from sortal.cli.app import INTERRUPTED, exit_code
from sortal.core.errors import SortalError
from sortal.core.team import leading, team_size


@contextmanager
def one_voice(*, debug: bool = False) -> Iterator[None]:
    """Inside, a stop by SIGTERM ends with its sentence, and an error is printed by the first process that failed."""
    with _log() if debug else nullcontext():
        try:
            yield
        except KeyboardInterrupt as stop:
            if leading():
                print(str(stop) or "interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from stop
        except Exception as error:
            if team_size() == 1:
                raise
            from sortal.train.team import claim_failure

            if claim_failure():
                raise
            raise typer.Exit(exit_code(error) if isinstance(error, SortalError) else 3) from error


@contextmanager
def _log() -> Iterator[None]:
    """What libraries write to the standard error stream goes to `dist-<rank>.log`; our own still come through.

    torch and NCCL read these variables when they are loaded, which must not have happened yet.
    """
    path = Path(f"dist-{os.environ.get('RANK', '0')}.log").absolute()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "INFO")
    os.environ.setdefault("TORCH_DISTRIBUTED_DEBUG", "INFO")  # DETAIL ends torch 2.14 with Gloo by a segmentation fault
    os.environ.setdefault("NCCL_DEBUG", "INFO")
    os.environ.setdefault("NCCL_DEBUG_FILE", str(path.with_suffix(".nccl.log")))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    before, spoken = os.dup(2), sys.stderr
    os.dup2(log, 2)
    sys.stderr = os.fdopen(os.dup(before), "w", buffering=1)
    try:
        yield
    except BaseException:
        os.write(log, traceback.format_exc().encode("utf-8", "replace"))
        print(f"--debug-dist: what process {os.environ.get('RANK', '0')} said is in {path}", file=sys.stderr)
        raise
    finally:
        sys.stderr.close()
        sys.stderr = spoken
        os.dup2(before, 2)
        os.close(before)
        os.close(log)
