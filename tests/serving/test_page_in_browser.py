"""The page to try a classifier, in a real browser: images in, answers out, objections kept, nothing from elsewhere."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colors import color_bundle
from devtools import Page, opened
from servers import Server, start_server
from sortal.core.bundle import open_bundle
from sortal.workspace.deployment import promote
from sortal.workspace.feedback import statements
from sortal.workspace.folder import Workspace, create_workspace

HOSTILE = "<img src=x onerror=document.title='taken'>"
NAMES = ("夹渣", HOSTILE, "blue & <b>green</b>")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Workspace]]:
    folder = tmp_path_factory.mktemp("line")
    bundle = color_bundle(folder / "strange", names=NAMES, display={"夹渣": "slag inclusion"})
    with create_workspace(folder / "line4") as workspace:
        promote(workspace, open_bundle(bundle))
        server = start_server(workspace.path, folder / "log", "workers=1")
        try:
            server.wait_for("ready")
            yield server, workspace
        finally:
            server.end()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("page")) as found:
        yield found


def picture(path: Path, color: tuple[int, int, int]) -> Path:
    Image.fromarray(np.full((40, 60, 3), color, np.uint8)).save(path)
    return path


def said(page: Page) -> list[str]:
    return page.run("[...document.querySelectorAll('.result .said')].map((one) => one.textContent)")


def test_images_are_answered_and_objections_kept(line: tuple[Server, Workspace], page: Page, tmp_path: Path) -> None:
    server, workspace = line
    page.open(f"http://127.0.0.1:{server.port}/")
    page.wait("document.querySelector('h1').textContent === 'line4'")
    red, grey, broken = (
        picture(tmp_path / "red.png", (250, 0, 0)),
        picture(tmp_path / "grey.png", (9, 9, 9)),
        tmp_path / "b.png",
    )
    broken.write_bytes(b"no picture")
    for file in (red, grey, broken):
        page.choose("#files", file)
        page.wait("document.querySelector('.result .said')?.textContent !== '…'")
    texts = said(page)
    assert texts[0] == "No answer"
    assert texts[1] == "Not sure enough: a person should decide"
    assert texts[2].startswith("slag inclusion (夹渣), ")
    labels = "document.querySelectorAll('.result:last-child .bars li span:first-child')"
    bars = page.run(f"[...{labels}].map((one) => one.textContent)")
    assert set(bars) == {"slag inclusion (夹渣)", *NAMES[1:]}
    assert page.run("document.title") == "line4 · sortal serve"
    assert page.run("document.querySelector('[role=status]').textContent").startswith("b.png: ")

    form = "document.querySelector('.result:last-child')"
    page.run(f"{form}.querySelector('.wrong').click()")
    page.run(f"{form}.querySelector('.label').value = {json.dumps(HOSTILE)}")
    page.run(f"{form}.querySelector('.comment').value = '<script>1</script>'")
    page.run(f"{form}.querySelector('.feedback').requestSubmit()")
    page.wait(f"{form}.querySelector('.heard').textContent.startsWith('Kept: ')")
    assert [(one.label, one.source, one.comment) for one in statements(workspace)] == [
        (HOSTILE, "test page", "<script>1</script>")
    ]

    page.run(f"{form}.querySelector('.explain').click()")
    page.wait(f"{form}.querySelectorAll('.maps img').length === 1")
    page.wait(f"{form}.querySelector('.maps img').naturalWidth === 448")
    assert page.run("document.title") == "line4 · sortal serve"
    assert len(page.troubles) == 1  # the one image that is none
    assert page.troubles[0].startswith("network: Failed to load resource: the server responded with a status of 422")
    here = f"http://127.0.0.1:{server.port}/"
    assert [one for one in page.asked if not one.startswith((here, "data:", "blob:", "about:"))] == []


def test_the_page_is_for_keyboards_phones_and_the_dark(
    line: tuple[Server, Workspace], page: Page, tmp_path: Path
) -> None:
    server, _ = line
    page.open(f"http://127.0.0.1:{server.port}/", width=390, height=800, dark=True, touch=True)
    page.wait("document.querySelector('h1').textContent === 'line4'")
    page.press("Tab", 9)
    assert page.run("document.activeElement.id") == "files"
    assert page.run("getComputedStyle(document.querySelector('label[for=files]')).outlineStyle") == "solid"
    assert page.run("document.querySelector('#camera').getAttribute('capture')") == "environment"
    file = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), (0, 0, 250), np.uint8)).save(file, "PNG")
    values = list(file.getvalue())
    page.run(
        f"""(() => {{ const data = new DataTransfer();
        data.items.add(new File([new Uint8Array({values})], "dropped.png", {{ type: "image/png" }}));
        const drop = new DragEvent("drop", {{ dataTransfer: data, bubbles: true, cancelable: true }});
        document.querySelector("#drop").dispatchEvent(drop);
        }})()"""
    )
    page.wait("document.querySelector('.result .said')?.textContent.startsWith('blue & <b>green</b>, ')")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    controls = "[...document.querySelectorAll('input, select, button')]"
    unnamed = f"{controls}.filter((one) => !(one.labels?.length || one.textContent.trim()))"
    assert page.run(f"{unnamed}.map((one) => one.outerHTML)") == []


def test_the_description_can_be_read(line: tuple[Server, Workspace], page: Page) -> None:
    page.open(f"http://127.0.0.1:{line[0].port}/docs", width=390)
    assert page.run("document.querySelectorAll('details.operation').length") > 20
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    links = page.run("[...document.querySelectorAll('a[href^=\"#\"]')].map((one) => one.getAttribute('href').slice(1))")
    assert set(links) <= set(page.run("[...document.querySelectorAll('[id]')].map((one) => one.id)"))


def test_pages_may_load_and_ask_nothing_but_this_server(line: tuple[Server, Workspace]) -> None:
    server, _ = line
    for path, kind in (
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/page/try.js", "text/javascript"),
        ("/page/page.css", "text/css"),
    ):
        status, headers, body = server.ask("GET", path)
        assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        for foreign in (b"http://", b"https://", b"//cdn"):
            assert foreign not in body
    for path in ("/page/", "/page/routes.py", "/page/..%2fapp.py", "/page/docs.html.jinja", "/page/try.html"):
        assert server.ask("GET", path)[0] == 404
