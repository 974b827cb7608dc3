"""What is installed: above the floors of known faults, under licences that are allowed, and listed with hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "deploy" / "docker"
LISTS = (DOCKER / "requirements.txt", DOCKER / "build-requirements.txt", REPOSITORY / "requirements.lock")

ALLOWED = re.compile(
    r"(?i)\b(mit|mit-cmu|bsd|0bsd|apache|isc|psf|python software foundation|zlib|cc0|unlicense|mpl|mozilla public"
    r"|any-osi)\b"
)
"""Permissive licences, and the one that binds its own files alone."""
FORBIDDEN = re.compile(r"(?i)\b(a?gpl|affero|gnu general public)")


def pinned(text: str) -> list[tuple[str, Version]]:
    """(name, version) of every line of a list."""
    found = re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", text)
    return [(re.sub(r"[-_.]+", "-", name).lower(), Version(version)) for name, version in found]


def floors() -> dict[str, Requirement]:
    lines = (DOCKER / "floors.txt").read_text(encoding="utf-8").splitlines()
    stated = [Requirement(line.partition("#")[0].strip()) for line in lines if line and not line.startswith("#")]
    return {one.name: one for one in stated}


def below(text: str) -> list[str]:
    """Packages of a list that have a known fault."""
    known = floors()
    return [
        f"{name} {version}"
        for name, version in pinned(text)
        if name in known and not known[name].specifier.contains(version, prereleases=True)
    ]


def test_no_package_has_a_known_fault() -> None:
    assert [fault for file in LISTS for fault in below(file.read_text(encoding="utf-8"))] == []
    named = {name for file in LISTS for name, _ in pinned(file.read_text(encoding="utf-8"))}
    assert set(floors()) <= named, "a floor of something that nobody installs"


@pytest.mark.parametrize("line", ["pillow==9.5.0", "Pillow==12.2.9", "python_multipart==0.0.31", "h11==0.14.0 \\"])
def test_an_old_package_would_be_found(line: str) -> None:
    assert len(below(line)) == 1


def test_the_bill_of_materials_has_every_package_with_hashes_and_an_allowed_licence() -> None:
    told = subprocess.run([sys.executable, str(DOCKER / "sbom.py")], capture_output=True, text=True, check=True)
    bill = json.loads(told.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {name for name, _ in pinned((DOCKER / "requirements.txt").read_text(encoding="utf-8"))}
    assert {one["name"] for one in bill["components"]} == listed
    for one in bill["components"]:
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"
        assert one["hashes"], one["name"]
        assert all(re.fullmatch(r"[0-9a-f]{64}", each["content"]) for each in one["hashes"])
        [licence] = [each["license"]["name"] for each in one["licenses"]]
        assert ALLOWED.search(licence), f"{one['name']}: {licence}"
        assert not FORBIDDEN.search(licence), f"{one['name']}: {licence}"


@pytest.mark.parametrize("licence", ["AGPL-3.0-only", "GNU General Public License v3 (GPLv3)", "GNU Affero"])
def test_a_licence_that_is_not_allowed_would_be_found(licence: str) -> None:
    assert FORBIDDEN.search(licence)
