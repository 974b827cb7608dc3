"""The limits that a server holds, each with a default that is safe on a small machine."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from sortal.runtime.threads import allowed_cpus

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MOST_WORKERS = 8


def _unless_off(port: object) -> object:
    """None where a port is `off`, which YAML reads as false."""
    if port is True:
        raise ValueError("a port is a number, or off")
    return None if port is False or port == "off" else port


class ServeSettings(BaseModel):
    """Where a server listens, how much it takes at once, and how long it waits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes a free one."""
    grpc_port: Annotated[Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_unless_off)] = Field(
        default_factory=lambda others: 0 if others.get("port") == 0 else 8001
    )
    """Of gRPC; 0 takes a free one, None opens none. By default a free one where `port` is one."""
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Where metrics are told instead of on `port`; 0 takes a free one."""
    origins: tuple[str, ...] = ()
    """Sites whose pages may ask this server from a browser, such as https://line4.example; `*` is all."""
    urls: bool = False
    """Whether images are fetched that a request names by their address."""
    connections: Count = 512
    """Open at once at most, and not more than the system has descriptors for; others are refused with 503."""
    workers: Count = Field(default_factory=lambda: min(allowed_cpus(), _MOST_WORKERS))
    """Processes that decode and answer."""
    threads: Count = 1
    """Of each worker."""
    engine: str = "auto"
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What clients of the Open Inference Protocol call the model; by default the folder's name."""
    batch: Count = 32
    """Images answered together at most."""
    delay_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long an image may wait for others although a worker is free. While all are busy, images are joined anyway."""
    preferred: tuple[Count, ...] = ()
    """Sizes of batches, ascending: the largest that is there goes at once, and what is less waits for `delay_ms`."""
    queue: Count = 256
    """Images that wait at most; more are refused with 503."""
    images: Count = 64
    """Images in one request at most."""
    body_mb: Positive = 20.0
    header_s: Positive = 10.0
    """How long a client may take to send its headers."""
    body_s: Positive = 20.0
    """How long a client may take to send its body."""
    send_s: Positive = 20.0
    """How long a client may take to read the next part of its answer."""
    answer_s: Positive = 10.0
    """How long an image may take from being received to being answered."""
    hang_s: Positive = 20.0
    """A worker that has not answered for so long is killed and replaced."""
    start_s: Positive = 120.0
    """A worker that is not ready after so long is killed and replaced."""
    memory_mb: Annotated[float, Field(ge=64)] = 1024.0
    """Memory that a worker may take beyond what it has when it is ready (Linux); an image that needs more is refused.
    One of 40 million pixels needs 160 to 680."""
    warm: bool = True
    """Whether workers answer a made-up image at every size of a batch before requests come; else one alone."""
    keep: Literal["none", "doubtful", "all"] = "none"
    """Which images a workspace keeps: those left to a person or unknown, all, or none."""
    page: bool = True
    """Whether a page to try it is served at `/`."""
    explain: bool = True
    """Whether answers are explained; a process for that starts when the first explanation is asked for."""
    explain_s: Positive = 60.0
    """How long an explanation may take, waiting included."""
    drain_s: Positive = 30.0
    """How long open requests are waited for when the server ends."""
    canary_errors: Share = 0.05
    """By which a canary's share of failed requests may exceed that of the live classifier; see `rollout.guard`."""
    canary_latency: Annotated[float, Field(ge=1)] = 2.0
    """How many times the live one's latency its own may be, at the median and at the 99th percentile."""
    canary_abstained: Share = 0.2
    """By which its share of images left to a person may exceed that of the live one."""
    canary_disagreed: Share = 0.3
    """The share of images for which it may name another class than the live one."""
    canary_requests: Count = 20
    """Requests to it before anything is said about it."""
    canary_chance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Of ending by chance, ever, a canary that keeps these limits."""
    canary_gone_s: Positive = 20.0
    """A canary of which no worker was ready for so long is ended."""

    trace: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")] | None = None
    """The OpenTelemetry collector that traces are sent to, such as http://127.0.0.1:4318; without it the one that
    OTEL_EXPORTER_OTLP_ENDPOINT names, or none."""
    trace_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the requests that come without a trace of their own; the others do as their trace says."""

    @field_validator("preferred")
    @classmethod
    def _fit(cls, sizes: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        """Each larger than the one before, and none than a batch."""
        batch = info.data.get("batch", math.inf)
        if list(sizes) != sorted(set(sizes)) or any(size > batch for size in sizes):
            raise ValueError(f"sizes are ascending and none is larger than a batch, which is {batch}")
        return sizes

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK

    @property
    def open_hosts(self) -> tuple[str, ...]:
        """The addresses that other machines can reach."""
        hosts = (self.host,) if self.metrics_port is None else (self.host, self.metrics_host)
        return tuple(host for host in hosts if host not in LOOPBACK)
