"""A page in a real browser that a test drives step by step, through the browser's own protocol over two pipes."""

from __future__ import annotations

import base64
import itertools
import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from browser import browser

PATIENCE_S = 60.0


@dataclass(kw_only=True)
class Page:
    """One tab. What goes wrong in it, or is forbidden by its policy, is in `troubles`."""

    to: int
    back: int
    session: str = ""
    troubles: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Addresses of everything that was asked for."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _rest: bytes = b""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE_S
        while True:
            heard = self._hear(end)
            if heard.get("id") == number:
                assert "error" not in heard, (method, heard)
                return heard["result"]
            self._note(heard)

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, touch: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition}\n{self.run('document.body.innerText')}\n{self.troubles}"
            time.sleep(0.05)

    def choose(self, selector: str, *files: Path) -> None:
        """Put files into an input, as a person does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text)

    def picture(self, path: Path, *, whole: bool = True) -> Path:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def _hear(self, end: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self.back, selectors.EVENT_READ)
            while b"\0" not in self._rest:
                assert selector.select(max(end - time.monotonic(), 0)), "the browser says nothing"
                part = os.read(self.back, 1 << 20)
                assert part, "the browser ended"
                self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def _note(self, heard: dict[str, Any]) -> None:
        told = heard.get("params", {})
        if heard.get("method") == "Runtime.exceptionThrown":
            self.troubles.append(json.dumps(told["exceptionDetails"])[:500])
        elif heard.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.troubles.append(f"{told['entry']['source']}: {told['entry']['text']}")
        elif heard.get("method") == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])


@contextmanager
def opened(folder: Path) -> Iterator[Page]:
    """A browser with one empty tab; it ends with the block."""
    theirs_in, to = os.pipe()
    back, theirs_out = os.pipe()
    command = [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--remote-debugging-pipe",
        f"--user-data-dir={folder / 'browser'}",
        "about:blank",
    ]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
        pass_fds=[theirs_in, theirs_out],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    page = Page(to=to, back=back)
    try:
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            page.call(f"{domain}.enable")
        yield page
    finally:
        process.terminate()
        process.wait(30)
        os.close(to)
        os.close(back)
