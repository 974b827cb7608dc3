"""`sortal.Client`: what a server answers, as if the classifier were here.

client = sortal.Client("http://127.0.0.1:8000")
predictions = client.predict(["a.jpg", array, pil_image, image_bytes])
"""

from __future__ import annotations

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


class Client(Common):
    """A server of classifiers. Threads may share one; close it, or use it in a `with` block."""

    _http: httpx.Client | None = None

    def predict(self, images: Images, *, request_id: str | None = None) -> Predictions:
        """Answers in the order of `images`, as `Classifier.predict` gives them, all from one bundle.

        Images are sent in as many requests as the server's limits ask for. `request_id` names the request, for
        feedback and the server's log; where several requests are needed, `request_id-0` and so on. An image that cannot
        be read, here or there, is a row with index -1 and an entry in `errors`. Prediction sets are not told by servers
        (`conformal` is None). Raises OverloadError, DeadlineError, MachineError where the server cannot be reached,
        NotFoundError for an unknown model, ConflictError where classifiers were exchanged all the time.
        """
        return self._run(stories.predict(images, self._query, self._patience, request_id, self._batch))

    def feedback(
        self,
        label: str,
        *,
        request_id: str | None = None,
        image: OneImage | None = None,
        source: str = "",
        comment: str = "",
        key: str | None = None,
    ) -> Acknowledged:
        """Say that an image, or the image of a request, is a `label`; it is on the server's disk when this returns.

        `source` says who says so; a `key` counts once, and is made where none is given. Raises NotFoundError for a
        request that nobody knows or where no workspace is served, InputError for a label that is no class,
        ConflictError for a key that was used for something else.
        """
        told = {"request_id": request_id, "source": source, "comment": comment, "key": key}
        return self._run(stories.feedback(label, image, told, self._query, self._patience))

    def explain(self, image: OneImage, *, class_name: str | None = None) -> Told:
        """Why one image is answered so: the answer, maps with their checks, boxes; see docs/client.md.

        `class_name` asks what speaks for another class. Raises ImageError, InputError for an unknown class,
        OverloadError, DeadlineError.
        """
        return self._run(stories.explain(image, explained(self._query, class_name), self._patience))

    def model(self) -> Told:
        """The classifier as the server describes it: bundle, engine, input, classes, limits."""
        return self._run(stories.model(self._query, self._patience))

    @property
    def labels(self) -> LabelSet:
        """The classes of the classifier that answers now; asked anew each time."""
        return self._run(stories.labels(self._query, self._patience))

    def health(self) -> Told:
        """Workers, queue and classifier, also while it is not ready. Asked once, without repetition."""
        return self._run(stories.state("/health", self._once))

    def ready(self) -> bool:
        """Whether a request would be answered now. Asked once. Raises MachineError where nobody is there."""
        return bool(self._run(stories.state("/readyz", self._once)).get("ready"))

    def close(self) -> None:
        """Close its connections."""
        with self._opening:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, story: Story[T]) -> T:
        heard: Heard = None
        while True:
            try:
                step = story.send(heard)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Sleep):
                time.sleep(step.seconds)
                heard = None
            else:
                heard = self._sent(step)

    def _sent(self, step: Send) -> Heard:
        with self._opening:
            if self._http is None:
                self._http = package().Client(**self._options())
            http = self._http
        end_s = time.monotonic() + step.limit_s
        try:
            with http.stream(**request(step)) as response:
                parts = []
                for part in response.iter_bytes():
                    parts.append(part)
                    if time.monotonic() > end_s:  # a server that sends a byte now and then keeps nobody
                        return Failure(reason="the answer came too slowly", late=True)
                return reply(response, b"".join(parts))
        except package().HTTPError as error:
            return failure(error, end_s)
