"""`/`, and what pages load."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sortal.serve.page.files import own, page
from sortal.serve.refusals import not_found
from sortal.serve.settings import ServeSettings


def _of_reports(name: str) -> str:
    """A file of their pages; what makes them, and Polars with it, is loaded when somebody looks."""
    from sortal.evaluate.pages import page as reports

    return reports.own(name)


_PARTS: dict[str, Callable[[str], str]] = {"page.css": _of_reports, "try.css": own, "try.js": own}
"""Files that pages load, and where they lie: the looks of reports are those of these pages too."""


def page_routes(settings: ServeSettings) -> list[Route]:
    """For the application."""
    return [*([Route("/", _page)] if settings.page else []), Route("/page/{name}", _part)]


async def _page(_: Request) -> Response:
    return page(own("try.html"))


async def _part(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _PARTS:
        return await not_found(request, LookupError(name))
    return page(_PARTS[name](name), name.rpartition(".")[2])
