"""`sortal.AsyncClient`: `sortal.Client`, to be awaited."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sortal.client import stories
from sortal.client.connection import Common, explained, failure, package, reply, request
from sortal.client.replies import Acknowledged, Told
from sortal.client.stories import Story, T
from sortal.client.talk import Failure, Heard, Send, Sleep
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions
from sortal.runtime.sources import Images, OneImage

if TYPE_CHECKING:
    import httpx


class AsyncClient(Common):
    """As `Client`, to be awaited."""

    _http: httpx.AsyncClient | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    """Where its connections were opened; another loop cannot use them."""

    async def predict(self, images: Images, *, request_id: str | None = None) -> Predictions:
        """See `Client.predict`; files are read and arrays encoded in between, without a thread."""
        return await self._run(stories.predict(images, self._query, self._patience, request_id, self._batch))

    async def feedback(
        self,
        label: str,
        *,
        request_id: str | None = None,
        image: OneImage | None = None,
        source: str = "",
        comment: str = "",
        key: str | None = None,
    ) -> Acknowledged:
        """See `Client.feedback`."""
        told = {"request_id": request_id, "source": source, "comment": comment, "key": key}
        return await self._run(stories.feedback(label, image, told, self._query, self._patience))

    async def explain(self, image: OneImage, *, class_name: str | None = None) -> Told:
        """See `Client.explain`."""
        return await self._run(stories.explain(image, explained(self._query, class_name), self._patience))

    async def model(self) -> Told:
        """See `Client.model`."""
        return await self._run(stories.model(self._query, self._patience))

    async def labels(self) -> LabelSet:
        """See `Client.labels`."""
        return await self._run(stories.labels(self._query, self._patience))

    async def health(self) -> Told:
        """See `Client.health`."""
        return await self._run(stories.state("/health", self._once))

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return bool((await self._run(stories.state("/readyz", self._once))).get("ready"))

    async def close(self) -> None:
        """Close its connections."""
        http, self._http = self._http, None
        if http is not None and self._loop is asyncio.get_running_loop():
            await http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, story: Story[T]) -> T:
        heard: Heard = None
        while True:
            try:
                step = story.send(heard)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
                heard = None
            else:
                heard = await self._sent(step)

    async def _sent(self, step: Send) -> Heard:
        http = self._connected()
        end_s = time.monotonic() + step.limit_s
        try:
            async with asyncio.timeout(step.limit_s), http.stream(**request(step)) as response:
                return reply(response, await response.aread())
        except TimeoutError:
            return Failure(reason="the answer came too slowly", late=True)
        except package().HTTPError as error:
            return failure(error, end_s)

    def _connected(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop:
            self._http, self._loop = package().AsyncClient(**self._options()), loop
        return self._http
