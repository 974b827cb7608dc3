"""Registries: tables that can be read, loaded on first use, open to other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from sortal.core import registry as registry_module
from sortal.core.errors import InputError
from sortal.core.registry import Registry

CODECS = Registry(
    kind="codec", group="sortal.codecs", table={"json": "json:dumps", "wave": "wave", "colors": "colorsys"}
)


def test_members_are_attributes_or_modules() -> None:
    import json

    assert CODECS.get("json") is json.dumps
    assert CODECS.get("colors").rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    Registry(kind="x", group="y", table={"absent": "no_such_module:thing"}).names()
    with pytest.raises(ImportError):
        Registry(kind="x", group="y", table={"absent": "no_such_module:thing"}).get("absent")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown codec[\s\S]*jsn[\s\S]*did you mean json"):
        CODECS.get("jsn")


def test_other_packages_add_members_but_replace_none(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint(name="zebra", value="math:pi", group="sortal.codecs"),
        EntryPoint(name="json", value="math:e", group="sortal.codecs"),
    ]
    found = SimpleNamespace(entry_points=lambda group: points if group == "sortal.codecs" else [])
    monkeypatch.setattr(registry_module, "entry_points", found.entry_points)
    assert CODECS.names() == ["json", "wave", "colors", "zebra"]
    assert CODECS.get("zebra") == pytest.approx(3.14159, abs=1e-5)
    assert callable(CODECS.get("json"))
