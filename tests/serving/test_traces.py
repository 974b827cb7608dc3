"""Traces: what a collector receives, whose trace it is, and that a collector in trouble costs nobody an answer."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import ValidationError

from servers import PATIENCE_S, Server, Start
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.trace_parent import parse_trace_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """A receiver of OTLP over HTTP on a port of its own; `status` is what it answers."""

    def __init__(self, status: int = 200):
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.asked = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(self.path, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        self.asked += 1
        if path != "/v1/traces":
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    collector = Collector(status)
    try:
        yield collector
    finally:
        collector.close()


def ended(server: Server) -> None:
    """Ending sends what is left, within a few seconds even where nobody takes it."""
    started = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - started < 30


def test_a_request_becomes_spans_that_add_up(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        server = start(bundles[0], "workers=1", "name=colors", "trace_share=0")
        parent = f"00-{TRACE}-{SPAN}-01"
        assert server.predict(colors["red"], traceparent=parent)[0] == 200
        assert server.predict(b"nothing", traceparent=f"00-{'a' * 32}-{SPAN}-01")[0] == 422
        assert server.predict(colors["red"], traceparent=f"00-{'b' * 32}-{SPAN}-00")[0] == 200
        assert server.predict(colors["red"])[0] == 200
        ended(server)
    lines = [one for one in server.events() if one["event"] == "predict"]
    assert [one["trace_id"] for one in lines[:3]] == [TRACE, "a" * 32, "b" * 32]
    assert collector.resources[0]["service.name"] == "sortal"
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE, "a" * 32}  # by the callers; our own share is 0
    mine = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    assert set(mine) == {"request", "receive", "queue", "worker", "decode", "network"}
    root, worker = mine["request"], mine["worker"]
    assert root.parent_span_id.hex() == SPAN
    assert root.kind == Span.SPAN_KIND_SERVER
    assert {mine[name].parent_span_id for name in ("receive", "queue", "worker")} == {root.span_id}
    assert {mine[name].parent_span_id for name in ("decode", "network")} == {worker.span_id}
    told = {one.key: one.value for one in root.attributes}
    assert told["sortal.outcome"].string_value == "ok"
    assert told["http.response.status_code"].int_value == 200
    order = [mine["request"], mine["receive"], mine["queue"], worker]
    assert sorted(order, key=lambda span: span.start_time_unix_nano) == order
    for inner, outer in (("receive", root), ("queue", root), ("worker", root), ("decode", worker), ("network", worker)):
        span = mine[inner]
        assert outer.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= outer.end_time_unix_nano
    assert abs(root.start_time_unix_nano / 1e9 - time.time()) < 600


@pytest.mark.parametrize("trouble", ["refuses", "gone"])
def test_a_collector_in_trouble_costs_no_request(
    start: Start,
    bundles: tuple[Path, Path],
    colors: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with collecting(503) as collector:
        if trouble == "gone":
            collector.close()
        server = start(bundles[0], "workers=1", f"trace={collector.url}")
        assert {server.predict(colors["red"])[0] for _ in range(20)} == {200}
        server.account()
        end = time.monotonic() + PATIENCE_S
        while trouble == "refuses" and collector.asked == 0 and time.monotonic() < end:
            time.sleep(0.02)  # what it is sent is sent beside the answers
        assert (collector.asked > 0) == (trouble == "refuses")
        ended(server)
    assert all(line.startswith("{") for line in server.log.read_text(encoding="utf-8").splitlines())


def test_without_a_collector_ids_of_traces_are_logged(shared: Server, colors: dict[str, bytes]) -> None:
    shared.predict(colors["red"], traceparent=f"00-{TRACE}-{SPAN}-01")
    assert shared.events()[-1]["trace_id"] == TRACE
    shared.predict(colors["red"], traceparent="nonsense")
    assert "trace_id" not in shared.events()[-1]


@pytest.mark.parametrize(
    "address", ["ftp://a", "127.0.0.1:4318", "http://user:secret@127.0.0.1:4318", "http://a b", "http://a\n"]
)
def test_a_collector_is_an_address_without_a_password(address: str) -> None:
    with pytest.raises(ValidationError):
        ServeSettings(trace=address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_header_that_is_not_valid_is_no_trace(text: str) -> None:
    assert parse_trace_parent(text) is None


def test_headers_of_later_versions_are_read_as_far_as_they_are_known() -> None:
    found = parse_trace_parent(f"cc-{TRACE}-{SPAN}-03-more")
    assert found is not None
    assert (found.trace_id, found.span_id, found.flags) == (TRACE, SPAN, 3)
