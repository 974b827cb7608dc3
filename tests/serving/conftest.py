"""Servers that answer with a classifier of colors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colors import color_bundle
from servers import Server, Start, start_server


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two classifiers that differ in how sure they are."""
    folder = tmp_path_factory.mktemp("bundles")
    return color_bundle(folder / "one"), color_bundle(folder / "two", temperature=2.0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(model, "workers=1", ...)`: a server that is ready; ended after the test."""
    running: list[Server] = []

    def started(model: Path, *settings: str) -> Server:
        server = start_server(model, tmp_path / f"server-{len(running)}.log", *settings)
        running.append(server)
        server.wait_for("ready")
        return server

    yield started
    for server in running:
        server.end()


@pytest.fixture(scope="module")
def shared(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a module that leave it as it was."""
    server = start_server(bundles[0], tmp_path_factory.mktemp("server") / "log", "workers=1", "body_mb=1", "images=8")
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def tight(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits two seconds for everything and takes 1 MB."""
    limits = ["workers=1", "body_mb=1", "header_s=2", "body_s=2", "send_s=2", "connections=40"]
    server = start_server(bundles[0], tmp_path_factory.mktemp("tight") / "log", *limits)
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.end()


@pytest.fixture(scope="session")
def colors() -> dict[str, bytes]:
    """PNG files of one color each."""
    found = {}
    for position, name in enumerate(("red", "green", "blue")):
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[..., position] = 250
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found[name] = file.getvalue()
    return found


@pytest.fixture
def unharmed(tight: Server, colors: dict[str, bytes]) -> Iterator[None]:
    """After each test a good request is answered, the account is even, no worker died."""
    yield
    status, answer = tight.predict(colors["green"])
    assert (status, answer["predictions"][0]["label"]) == (200, "green")
    assert tight.numbers()["sortal_worker_deaths_total"] == 0
    tight.account()
