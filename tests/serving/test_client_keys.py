"""Clients and the page at a server that asks for keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

import sortal
from devtools import opened
from servers import Start
from sortal.core.errors import InputError, MachineError, OverloadError
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


def test_certificates_are_checked_both_ways(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    ours, other = trustme.CA(), trustme.CA()
    files = {
        name: tmp_path / name for name in ("server.pem", "server.key", "own.pem", "own.key", "ca.pem", "other.pem")
    }
    for name, hosts in (("server", ("127.0.0.1",)), ("own", ("camera",))):
        leaf = ours.issue_cert(*hosts)
        files[f"{name}.pem"].write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        files[f"{name}.key"].write_bytes(leaf.private_key_pem.bytes())
    ours.cert_pem.write_to_path(str(files["ca.pem"]))
    other.cert_pem.write_to_path(str(files["other.pem"]))
    safe = ("--tls", str(files["server.pem"]), str(files["server.key"]), "--client-ca", str(files["ca.pem"]))
    server = start(bundles[0], "workers=1", *safe)
    url = f"https://127.0.0.1:{server.port}"
    own = (files["own.pem"], files["own.key"])
    with sortal.Client(url, ca=files["ca.pem"], certificate=own) as client:
        assert client.predict(colors["red"]).answers() == ["red"]
    for said, options in (
        ("ca=", {"certificate": own}),
        ("ca=", {"certificate": own, "ca": files["other.pem"]}),
        ("certificate=", {"ca": files["ca.pem"]}),
    ):
        with sortal.Client(url, retries=0, **options) as client, pytest.raises(MachineError) as caught:
            client.ready()
        assert said in f"{caught.value.hint}", str(caught.value)
    with sortal.Client(url.replace("127.0.0.1", "localhost"), ca=files["ca.pem"], certificate=own) as client:
        with pytest.raises(MachineError) as caught:
            client.ready()
        assert "an address that it is for" in str(caught.value.hint)
    with sortal.Client(url.replace("https", "http"), retries=0) as client, pytest.raises(MachineError):
        client.ready()
    with pytest.raises(InputError, match="certificates cannot be used"):
        sortal.Client(url, ca=tmp_path / "nothing.pem")
    with pytest.raises(InputError, match="certificates cannot be used"):
        sortal.Client(url, certificate=(files["own.pem"], files["server.key"]))
