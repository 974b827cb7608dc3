"""`sortal serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sortal.core.errors import InputError, MissingExtraError, nearest

if TYPE_CHECKING:
    from sortal.serve.settings import ServeSettings


def serve(
    model: Path = typer.Argument(..., help="A run, bundle, artifact or workspace."),
    settings: list[str] = typer.Argument(None, metavar="KEY=VALUE...", help="port=8000 workers=2 batch=32 queue=256 …"),
    auth: Path = typer.Option(None, "--auth", metavar="KEYS", help="Who may ask: a file of `sortal keys`."),
    tls: tuple[Path, Path] | None = typer.Option(
        None, "--tls", metavar="CERT KEY", help="Certificate and private key, PEM."
    ),
    client_ca: Path = typer.Option(None, "--client-ca", metavar="CA", help="Who signs the certificates of clients."),
    anyone: bool = typer.Option(
        False, "--anyone", help="Listen on other addresses than loopback although --auth or --tls is missing."
    ),
) -> None:
    """Answer images over HTTP until Ctrl-C or SIGTERM; one line of JSON an event on stderr.

    \b
    sortal serve runs/photos-1
    sortal serve line4/ port=8080 workers=2
    curl -F file=@a.jpg localhost:8000/predict
    """
    try:
        from sortal.serve.guard.safety import Safety
        from sortal.serve.story import serve as serve_model
    except ImportError as error:
        raise MissingExtraError(error.name or "uvicorn", "serve") from error
    certificate, key = tls or (None, None)
    safety = Safety(auth=auth, certificate=certificate, certificate_key=key, client_ca=client_ca, anyone=anyone)
    serve_model(model, _settings(settings), safety=safety)


def _settings(texts: list[str] | None) -> ServeSettings:
    import yaml
    from pydantic import ValidationError

    from sortal.serve.settings import ServeSettings

    found = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not separator or key not in ServeSettings.model_fields:
            hint = nearest(key, ServeSettings.model_fields) or "port=8000"
            raise InputError("no such setting of a server", received=text, hint=hint)
        found[key] = yaml.safe_load(value)
    try:
        return ServeSettings.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(str(first["msg"]), where=str(first["loc"][0]), received=str(first["input"])) from error
