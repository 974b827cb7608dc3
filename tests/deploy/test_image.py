"""What an image is made of, by its text and by its script; no engine is needed. See test_installed for what it runs."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "deploy" / "docker"
_SECRET = re.compile(r"(?i)secret|password|token|passwd|credential|api_?key")


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words) of the Dockerfile, in order."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


def locked(path: Path) -> dict[str, set[str]]:
    """Exact versions of each package in a list of requirements."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name.lower(), set()).add(version)
    return found


def test_the_base_is_refused_without_a_digest() -> None:
    found = instructions()
    assert [words for name, words in found if name == "FROM"] == ["${BASE} AS build", "${BASE}"]
    assert ("ARG", "BASE") in found  # and no default
    guard = next(words for name, words in found if name == "RUN" and "@sha256" in words)
    for base, accepted in (("python:3.12", False), ("python:3.12@sha256:" + "a" * 64, True)):
        told = subprocess.run(["sh", "-c", guard], env={"BASE": base}, capture_output=True, text=True)
        assert (told.returncode == 0) is accepted, told.stderr


def test_the_image_runs_as_nobody_and_says_how_it_is() -> None:
    found = instructions()
    last = found[max(place for place, (name, _) in enumerate(found) if name == "FROM") :]
    told = dict(last)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", told["USER"])
    assert [name for name, _ in last].index("USER") < [name for name, _ in last].index("ENTRYPOINT")
    assert told["STOPSIGNAL"] == "SIGTERM"
    assert "/readyz" in told["HEALTHCHECK"]
    assert told["ENTRYPOINT"] == '["sortal", "serve"]'
    assert "--anyone" not in told["CMD"]  # keys and TLS, or somebody says that they are not needed
    assert not [words for name, words in last if name == "RUN"], "the image that runs is built by copying alone"


def test_no_secret_is_baked_in_and_nothing_is_fetched_by_address() -> None:
    found = instructions()
    assert not [words for name, words in found if name in ("ARG", "ENV") and _SECRET.search(words)]
    assert "ADD" not in {name for name, _ in found}
    assert not [words for name, words in found if name == "RUN" and re.search(r"curl|wget|https?:|apt-get", words)]


def test_what_is_copied_is_there_and_what_is_private_is_not() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in ignored if line and not line.startswith("#")]

    def is_sent(path: str) -> bool:
        sent = True
        for pattern in patterns:  # the last one that fits decides; one for a folder is one for what is in it
            plain = pattern.lstrip("!")
            if fnmatch(path, plain) or path.startswith(f"{plain}/"):
                sent = pattern.startswith("!")
        return sent

    for name, words in instructions():
        if name == "COPY" and not words.startswith("--from"):
            for source in words.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert is_sent(source), source
    for private in ("runs/photos-1", ".git/config", "keys.yaml", ".venv/bin/python", "deploy/systemd/sortal.service"):
        assert not is_sent(private), private


@pytest.mark.parametrize("name", ["requirements.txt", "build-requirements.txt"])
def test_every_package_is_exact_and_has_hashes(name: str) -> None:
    text = (DOCKER / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[\w.-]+==\S+ ", line), line
        assert "--hash=sha256:" in line, line
    assert "://" not in text


def test_packages_are_those_of_the_lock_and_none_that_trains() -> None:
    image, lock = locked(DOCKER / "requirements.txt"), locked(REPOSITORY / "requirements.lock")
    for name, versions in image.items():
        assert versions <= lock[name], name
    assert not {"torch", "torchvision", "timm", "onnx", "scikit-learn", "scipy"} & set(image)
    assert not [name for name in image if name.startswith("nvidia")]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["serve"], *extras["openvino"], *extras["trace"]]
    for requirement in wanted:
        assert re.split(r"[<>=\[;]", requirement)[0].lower() in image, requirement


def build(folder: Path, digest: str) -> subprocess.CompletedProcess[str]:
    """build.sh in a copy of the tree, with an engine that only writes down what it is told."""
    target = folder / "deploy" / "docker"
    target.mkdir(parents=True, exist_ok=True)
    (target / "build.sh").write_text((DOCKER / "build.sh").read_text())
    engine = folder / "engine"
    engine.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/told"\n[ "$1" = image ] && echo "{digest}"\nexit 0\n')
    engine.chmod(0o755)
    command = ["sh", str(target / "build.sh"), "mine"]
    return subprocess.run(command, env={**os.environ, "ENGINE": str(engine)}, capture_output=True, text=True)


def test_the_base_is_looked_up_once_and_then_kept(tmp_path: Path) -> None:
    digest = "sha256:" + "b" * 64
    for _ in range(2):
        assert build(tmp_path, f"python@{digest}").returncode == 0
    base = f"python:3.12-slim-bookworm@{digest}"
    assert (tmp_path / "deploy" / "docker" / "base").read_text().strip() == base
    told = (tmp_path / "told").read_text().splitlines()
    assert [line.split()[0] for line in told] == ["pull", "image", "build", "build"]
    assert f"--build-arg BASE={base}" in told[-1]


def test_a_base_without_digest_is_not_kept(tmp_path: Path) -> None:
    told = build(tmp_path, "")
    assert told.returncode == 3
    assert "has no digest" in told.stderr
    assert not (tmp_path / "deploy" / "docker" / "base").exists()


def test_compose_keeps_everything_on_this_machine_and_takes_all_rights_away() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"sortal", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for volume in service["volumes"]:
            if volume.startswith("../"):
                source, _, mode = volume.split(":")
                assert (DOCKER / source).exists(), volume
                assert mode == "ro"
    sortal = services["sortal"]
    assert sortal["read_only"] is True
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", sortal["user"])
    assert sortal["tmpfs"]
    assert any(volume.startswith("${MODEL:?") for volume in sortal["volumes"])
