"""`/openapi.json` for programs and `/docs` for people."""

from __future__ import annotations

import json
from functools import cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sortal.serve.openapi.description import description
from sortal.serve.page.files import page
from sortal.serve.settings import ServeSettings


def describing_routes(settings: ServeSettings) -> list[Route]:
    """For the application; both answers are made once, the page when somebody looks: a server starts without Jinja."""
    found = description(settings)
    text = json.dumps(found)

    @cache
    def shown() -> str:
        from sortal.serve.openapi.reading import to_read

        return to_read(found)

    async def described(_: Request) -> Response:
        return Response(text, media_type="application/json")

    async def docs(_: Request) -> Response:
        return page(shown())

    return [Route("/openapi.json", described), Route("/docs", docs)]
