"""POST /explain?class=NAME&format=json|png&map=KIND&overlay=true: why one image is answered so."""

from __future__ import annotations

import base64
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sortal.core.errors import ImageError, InputError, SortalError
from sortal.serve.answers import ID_HEADER, request_id
from sortal.serve.asked import choice, switch
from sortal.serve.explaining.explainer import Explainer
from sortal.serve.frames import Frame
from sortal.serve.intake import images_of
from sortal.serve.models import Models
from sortal.serve.refusals import refused
from sortal.serve.settings import ServeSettings

PICTURE = "png"
_FORMATS = ("json", PICTURE)


class Explaining:
    """The route, and an explainer for each model that was asked about."""

    def __init__(self, models: Models, settings: ServeSettings):
        self._models, self._settings = models, settings
        self._explainers: dict[str, Explainer] = {}

    def routes(self) -> list[Route]:
        """For the application."""
        return [Route("/explain", self.explain, methods=["POST"])] if self._settings.explain else []

    async def explain(self, request: Request) -> Response:
        """The answer to one image with maps of where the evidence lies, as JSON or as a picture."""
        name = request_id(request.headers)
        try:
            response = await self._explained(request, name)
        except SortalError as error:
            response = refused(error, name)[0]
            if isinstance(error, ImageError):
                response = JSONResponse({"request_id": name, "code": error.code, "error": error.what}, 422)
        response.headers[ID_HEADER] = name
        return response

    async def stop(self) -> None:
        """End all processes."""
        for explainer in self._explainers.values():
            await explainer.stop()

    async def _explained(self, request: Request, name: str) -> Response:
        form, overlays = choice(request, "format", _FORMATS), switch(request, "overlay")
        served = self._models.find(request.query_params.get("model"))
        images = await images_of(request, self._settings)
        if len(images) != 1:
            raise InputError("one image is explained at a time", received=f"{len(images)} images")
        explainer = self._explainers.get(served.name)
        if explainer is None:
            explainer = self._explainers[served.name] = Explainer(served.service)
        wanted = request.query_params.get("class")
        frame = await explainer.explain(images[0], wanted, pictures=overlays or form == PICTURE)
        if form == PICTURE:
            return _picture(frame, request.query_params.get("map"))
        return JSONResponse(_told(frame, name))


def _told(frame: Frame, name: str) -> dict[str, Any]:
    told = {key: value for key, value in frame.header.items() if key != "kind"}
    if frame.blobs:
        told["maps"] = [
            {**one, "overlay": f"data:image/png;base64,{base64.b64encode(data).decode()}"}
            for one, data in zip(told["maps"], frame.blobs, strict=True)
        ]
    return {"request_id": name, **told}


def _picture(frame: Frame, kind: str | None) -> Response:
    """The map that was named, else the first one that passed its checks, else the first."""
    maps = frame.header["maps"]
    kinds = [one["kind"] for one in maps]
    if kind is not None and kind not in kinds:
        raise InputError("there is no such map of this image", received=kind[:40], hint=", ".join(kinds))
    passed = next((number for number, one in enumerate(maps) if one["passed"]), 0)
    chosen = passed if kind is None else kinds.index(kind)
    headers = {"x-map": kinds[chosen], "x-map-passed": str(maps[chosen]["passed"]).lower()}
    return Response(frame.blobs[chosen], media_type="image/png", headers=headers)
