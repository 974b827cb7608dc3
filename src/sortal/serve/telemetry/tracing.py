"""Traces of requests, sent to an OpenTelemetry collector. Off unless somebody names one.

    request                    from received to answered
      receive                  until its images were there
      queue                    until a worker was free
      worker                   the batch that its images went in, one span a batch
        decode · network       as long as the worker says; their place within its span is approximate

Spans are made when a request has its outcome, from times that are taken anyway. A thread of the exporter sends them; a
collector that is slow or gone costs spans and no request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from sortal.core.errors import MissingExtraError
from sortal.serve.batcher import Went
from sortal.serve.metrics import Outcome
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.trace_parent import TraceParent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from sortal.serve.account import Call

_COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PATH = "/v1/traces"
_SEND_S = 5.0
"""How long the exporter tries to send one bundle of spans."""
_END_S = 3.0
"""How long the end of a server waits for spans to be sent."""
_MOST_BATCHES = 16
"""Of one request that are told."""
_FAULTS: tuple[Outcome, ...] = ("failed", "expired")


def open_tracing(settings: ServeSettings, lines: logging.Handler) -> Tracing | None:
    """Traces to the collector that `trace=` or the environment names; None where neither does. What the exporter has to
    say goes to `lines`. Raises MissingExtraError where a collector is named and OpenTelemetry is not installed."""
    asked = settings.trace is not None or any(os.environ.get(name) for name in _COLLECTORS)
    if not asked or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise MissingExtraError(error.name or "opentelemetry", "trace") from error
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(lines)
    logger.propagate = False
    named = os.environ.get("OTEL_SERVICE_NAME", "sortal")
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_share)),
        resource=Resource.create({"service.name": named, "service.version": version("sortal")}),
        shutdown_on_exit=False,
    )
    endpoint = None if settings.trace is None else settings.trace.rstrip("/").removesuffix(_PATH) + _PATH
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_SEND_S)))
    return Tracing(provider)


@dataclass(frozen=True, kw_only=True)
class _Clock:
    """From the monotonic clock to nanoseconds since 1970."""

    offset_ns: int

    def ns(self, seconds: float) -> int:
        return self.offset_ns + int(1e9 * seconds)


class Tracing:
    """Makes spans of calls that have their outcome."""

    def __init__(self, provider: TracerProvider):
        self._provider = provider
        self._tracer = provider.get_tracer("sortal.serve")

    def tell(self, call: Call, outcome: Outcome, status: int | str, seconds: float) -> str:
        """Record a call; returns the id of its trace, 32 hexadecimal digits."""
        from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context

        clock = _Clock(offset_ns=time.time_ns() - int(1e9 * time.monotonic()))
        root = self._tracer.start_span(
            "request", _context(call.parent), SpanKind.SERVER, start_time=clock.ns(call.started_s)
        )
        if root.is_recording():
            root.set_attributes(_attributes(call, outcome, status))
            if outcome in _FAULTS:
                root.set_status(StatusCode.ERROR, outcome)
            self._stages(call, set_span_in_context(root), clock)
        root.end(clock.ns(call.started_s + seconds))
        return format_trace_id(root.get_span_context().trace_id)

    async def stop(self) -> None:
        """Send what is left, for `_END_S` at most."""
        # a thread that does not keep the process, whatever the collector does
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        end_s = time.monotonic() + _END_S
        while thread.is_alive() and time.monotonic() < end_s:
            await asyncio.sleep(0.01)

    def _stages(self, call: Call, under: Context, clock: _Clock) -> None:
        if call.body_s is None:
            return
        arrived_s = call.started_s + call.body_s
        self._span("receive", under, clock, call.started_s, arrived_s)
        for went in call.went[:_MOST_BATCHES]:
            self._span("queue", under, clock, arrived_s, went.started_s)
            self._worker(went, under, clock)

    def _worker(self, went: Went, under: Context, clock: _Clock) -> None:
        from opentelemetry.trace import set_span_in_context

        span = self._span("worker", under, clock, went.started_s, went.ended_s, {"sortal.batch": went.images})
        inside, decoded_s = set_span_in_context(span), went.started_s + went.decode_s
        self._span("decode", inside, clock, went.started_s, decoded_s)
        self._span("network", inside, clock, decoded_s, decoded_s + went.network_s)

    def _span(
        self,
        name: str,
        under: Context,
        clock: _Clock,
        start_s: float,
        end_s: float,
        attributes: Mapping[str, int] | None = None,
    ) -> Span:
        span = self._tracer.start_span(name, under, attributes=attributes, start_time=clock.ns(start_s))
        span.end(clock.ns(end_s))
        return span


def _context(parent: TraceParent | None) -> Context:
    """Of the span that asked; an empty one without."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if parent is None:
        return Context()
    remote = SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=TraceFlags(parent.flags)
    )
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _attributes(call: Call, outcome: Outcome, status: int | str) -> dict[str, str | int]:
    told: dict[str, str | int] = {
        "sortal.way": call.way,
        "sortal.outcome": outcome,
        "sortal.request_id": call.name,
        "sortal.images": call.images,
    }
    if call.model:
        told["sortal.model"] = call.model
    return told | ({"http.response.status_code": status} if isinstance(status, int) else {"rpc.status": status})
