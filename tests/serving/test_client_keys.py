"""Clients and the page at a server that asks for keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sortal
from devtools import opened
from servers import Start
from sortal.core.errors import InputError, OverloadError
from sortal.serve.guard.keys import add_key


def test_a_key_opens_and_a_wrong_one_says_so(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    chief, camera = add_key(file, "chief", ("admin",)), add_key(file, "camera", ("infer",))
    slow = add_key(file, "slow", ("infer",), rate="1/h", burst=1)
    server = start(bundles[0], "workers=1", "--auth", str(file))
    url = f"http://127.0.0.1:{server.port}"
    for key, said in ((None, "key"), ("sortal_wrong", "key")):
        with sortal.Client(url, key=key) as client:
            assert client.ready()
            with pytest.raises(InputError, match=said) as caught:
                client.predict(colors["red"])
            assert caught.value.hint is not None
            assert "sortal_wrong" not in str(caught.value)
    with sortal.Client(url, key=camera) as client:
        assert client.predict(colors["red"]).answers() == ["red"]
        with pytest.raises(InputError):
            client.feedback("red", request_id="a")
    with sortal.Client(url, key=slow, timeout=0.5) as client, pytest.raises(OverloadError) as caught_busy:
        client.predict(colors["red"])
    assert caught_busy.value.retry_after_s > 60

    picture = tmp_path / "green.png"
    picture.write_bytes(colors["green"])
    with opened(tmp_path) as page:
        page.open(url + "/")
        page.wait("!document.querySelector('#locked').hidden")
        assert page.run("document.activeElement.id") == "key"
        page.run(f"document.querySelector('#key').value = '{chief}'")
        page.run("document.querySelector('#locked').requestSubmit()")
        page.wait("document.querySelector('h1').textContent === 'one'")
        assert page.run("document.querySelector('#locked').hidden")
        page.choose("#files", picture)
        page.wait("document.querySelector('.result .said')?.textContent.startsWith('green, ')")
        assert not [one for one in page.asked if re.search("sortal_", one)]
    assert "sortal_" not in server.log.read_text(encoding="utf-8")
