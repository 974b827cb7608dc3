"""Exit codes, and what reaches a person when something goes wrong."""

from __future__ import annotations

import pytest
import typer

from sortal import __version__
from sortal.cli import app
from sortal.core.errors import (
    BundleError,
    DataError,
    ImageError,
    InternalError,
    MachineError,
    MissingExtraError,
    RecipeError,
    SortalError,
    WeightsError,
)


def _raises(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        """Fail."""
        raise error

    monkeypatch.setattr(app, "_load", lambda where: command)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError("wrong"), 2),
        (DataError("wrong"), 2),
        (ImageError("corrupt", "wrong"), 2),
        (BundleError("wrong"), 2),
        (WeightsError("wrong"), 2),
        (MachineError("wrong"), 3),
        (MissingExtraError("torch", "train"), 3),
        (InternalError("wrong"), 3),
        (OSError(28, "No space left on device"), 3),
        (KeyboardInterrupt(), 130),
        (typer.Exit(1), 1),
        (typer.Abort(), 130),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raises(error, monkeypatch)
    assert app.run(["show"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    if isinstance(error, SortalError):
        assert printed.err == f"error: {error}\n"


def test_a_bug_shows_where_it_happened(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _raises(ZeroDivisionError("ouch"), monkeypatch)
    assert app.run(["show"]) == 3
    said = capsys.readouterr().err
    assert "ouch" in said
    assert "this is a bug in Sortal" in said


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out == f"sortal {__version__}\n"
    assert app.run(["train", "--help"]) == 0
    assert "sortal train labels.csv model=mobilenetv2_100 train.time=10m seed=1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["trian"], "train"), (["show"], "Missing argument"), (["show", "a", "--nope"], "--nope")],
)
def test_usage_errors(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
