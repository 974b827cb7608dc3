"""`sortal serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sortal.cli.settings import settings_of
from sortal.core.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from sortal.serve.settings import ServeSettings


def serve(
    model: Path | None = typer.Argument(None, help="A run, bundle, artifact or workspace."),
    settings: list[str] = typer.Argument(None, metavar="KEY=VALUE...", help="port=8000 workers=2 batch=32 queue=256 …"),
    models: Path | None = typer.Option(None, "--models", metavar="FILE", help="Several models by name."),
    auth: Path = typer.Option(None, "--auth", metavar="KEYS", help="Who may ask: a file of `sortal keys`."),
    tls: tuple[Path, Path] | None = typer.Option(
        None, "--tls", metavar="CERT KEY", help="Certificate and private key, PEM."
    ),
    client_ca: Path = typer.Option(None, "--client-ca", metavar="CA", help="Who signs the certificates of clients."),
    host: str = typer.Option(None, "--host", metavar="ADDRESS", help="As host=ADDRESS."),
    port: int = typer.Option(None, "--port", metavar="N", help="As port=N."),
    anyone: bool = typer.Option(
        False, "--anyone", help="Listen on other addresses than loopback although --auth or --tls is missing."
    ),
) -> None:
    """Answer images over HTTP until Ctrl-C or SIGTERM; one line of JSON an event on stderr.

    \b
    sortal serve runs/photos-1
    sortal serve line4/ port=8080 workers=2
    sortal serve --models models.yaml
    curl -F file=@a.jpg localhost:8000/predict
    """
    try:
        from sortal.serve.guard.safety import Safety
        from sortal.serve.listed import read_models
        from sortal.serve.story import serve as serve_model
        from sortal.serve.story import serve_several
    except ImportError as error:
        raise MissingExtraError(error.name or "uvicorn", "serve") from error
    certificate, key = tls or (None, None)
    safety = Safety(auth=auth, certificate=certificate, certificate_key=key, client_ca=client_ca, anyone=anyone)
    options = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    if models is None:
        if model is None:
            raise InputError("there is nothing to serve", hint="sortal serve runs/photos-1, or --models models.yaml")
        serve_model(model, _settings(settings, options), safety=safety)
        return
    own = _settings(_behind(model, settings), options)
    serve_several(read_models(models, own), own, safety)


def _behind(model: Path | None, settings: list[str] | None) -> list[str]:
    """All settings: with --models the first of them stands where a model would."""
    if model is not None and "=" not in str(model):
        hint = "leave one of the two away, or add it to the file"
        raise InputError("either one model or --models", received=str(model), hint=hint)
    return [*([] if model is None else [str(model)]), *(settings or ())]


def _settings(texts: list[str] | None, options: dict[str, Any]) -> ServeSettings:
    from sortal.serve.settings import ServeSettings

    return settings_of(ServeSettings, texts, of="a server", example="port=8000", options=options)
