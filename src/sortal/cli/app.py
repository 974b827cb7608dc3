"""The command line: one short function a command, loaded when it is called, and the one place that knows exit codes.

0 done · 1 a negative verdict · 2 the user's input is wrong · 3 the machine or an internal fault · 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from sortal.core.errors import InputError, SortalError

COMMANDS: dict[str, str] = {
    "audit": "sortal.cli.audit:audit",
    "train": "sortal.cli.train:train",
    "reproduce": "sortal.cli.train:reproduce",
    "evaluate": "sortal.cli.evaluate:evaluate",
    "certify": "sortal.cli.certify:certify",
    "compare": "sortal.cli.compare:compare",
    "explain": "sortal.cli.explain:explain",
    "calibrate": "sortal.cli.calibrate:calibrate",
    "export": "sortal.cli.export:export",
    "targets": "sortal.cli.targets:targets",
    "compress": "sortal.cli.compress:compress",
    "benchmark": "sortal.cli.benchmark:benchmark",
    "predict": "sortal.cli.predict:predict",
    "serve": "sortal.cli.serve:serve",
    "stream": "sortal.cli.stream:stream",
    "keys": "sortal.cli.keys:keys",
    "promote": "sortal.cli.workspace:promote",
    "rollback": "sortal.cli.workspace:rollback",
    "journal": "sortal.cli.workspace:journal",
    "rollout": "sortal.cli.workspace:rollout",
    "workspace": "sortal.cli.workspace:workspace",
    "augment": "sortal.cli.augment:augment",
    "find-lr": "sortal.cli.rates:find_lr",
    "learning-curve": "sortal.cli.studies:learning_curve",
    "sweep": "sortal.cli.studies:sweep",
    "profile": "sortal.cli.profile:profile",
    "import": "sortal.cli.importer:import_",
    "show": "sortal.cli.show:show",
    "models": "sortal.cli.models:models",
    "fix": "sortal.cli.fix:fix",
    "data": "sortal.cli.data:data",
    "cache": "sortal.cli.cache:cache",
    "convert": "sortal.cli.convert:convert",
    "synth": "sortal.cli.synth:synth",
    "split": "sortal.cli.split:split",
    "doctor": "sortal.cli.doctor:doctor",
}
DONE, NEGATIVE, WRONG_INPUT, MACHINE_FAULT, INTERRUPTED = 0, 1, 2, 3, 130


def build() -> typer.Typer:
    """The Typer application with every command."""
    app = typer.Typer(
        name="sortal",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="From folders of images to a classifier that can be depended on.\n\n"
        "Start with: sortal train photos/   (one folder a class)",
    )
    for name, where in COMMANDS.items():
        function = _load(where)
        app.command(name, help=function.__doc__)(function)
    app.callback(invoke_without_command=True)(_version)
    return app


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. Errors are printed to stderr, without a traceback."""
    try:
        result = build()(arguments, standalone_mode=False)
        return result if isinstance(result, int) else DONE
    except typer.Exit as done:
        return done.exit_code
    except typer.TyperException as error:
        show = getattr(error, "show", None)  # usage errors print themselves, with the usage line
        show() if show is not None else print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return MACHINE_FAULT
    except SortalError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    except OSError as error:
        print(f"error: the machine refused: {error}", file=sys.stderr)
        return MACHINE_FAULT
    except Exception:
        traceback.print_exc()
        print("error: this is a bug in Sortal; please report it with the lines above", file=sys.stderr)
        return MACHINE_FAULT


def exit_code(error: SortalError) -> int:
    """Which exit code a kind of error maps to."""
    return WRONG_INPUT if isinstance(error, InputError) else MACHINE_FAULT


def _load(where: str) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from sortal import __version__

        print(f"sortal {__version__}")
        raise typer.Exit
