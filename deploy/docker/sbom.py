"""A bill of materials of the image, CycloneDX 1.6 as JSON: every package of requirements.txt with version, hashes, licence.

    /opt/sortal/bin/python deploy/docker/sbom.py > sbom.json

Run it with the Python that has the packages: it is asked for their licences. Packages that another system or Python would
get in their place are left out. Needs nothing but what is installed.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

LISTED = Path(__file__).with_name("requirements.txt")
_LINE = re.compile(r"^([\w.-]+)==([^\s;]+)(.*)$")


def packages(text: str) -> list[tuple[str, str, list[str]]]:
    """(name, version, sha256 of each of its files) of a list made by lock.sh."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        parts = _LINE.match(line)
        if parts:
            found.append((parts[1], parts[2], re.findall(r"sha256:([0-9a-f]{64})", parts[3])))
    return found


def licence(name: str) -> str:
    """As the package states it: an SPDX expression, else its classifiers, else its own words."""
    told = metadata.metadata(name)
    classified = [one.rpartition("::")[2].strip() for one in told.get_all("Classifier") or [] if one.startswith("License")]
    return told.get("License-Expression") or ", ".join(classified) or (told.get("License") or "not stated").splitlines()[0]


def component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    """One package."""
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "purl": f"pkg:pypi/{name}@{version}",
        "name": name,
        "version": version,
        "licenses": [{"license": {"name": licence(name)}}],
        "hashes": [{"alg": "SHA-256", "content": one} for one in hashes],
    }


def bill() -> dict[str, Any]:
    """The whole document; packages of other systems are not in it."""
    installed = {re.sub(r"[-_.]+", "-", one.name).lower(): one.version for one in metadata.distributions()}
    listed = [one for one in packages(LISTED.read_text(encoding="utf-8")) if installed.get(one[0]) == one[1]]
    own = {"type": "application", "name": "sortal", "version": installed.get("sortal", "unknown")}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": [component(*one) for one in listed],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
    print()
