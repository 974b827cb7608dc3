"""A workspace with nothing in it, and small bundles that differ by their decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sortal.core.bundle import Bundle, BundleContents, attach, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec
from sortal.workspace.folder import Workspace, create_workspace

Maker = Callable[..., Bundle]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with create_workspace(tmp_path / "line4") as opened:
        yield opened


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """`make(number)`: a bundle of its own for each number; `names` are its classes."""

    def made(number: int, names: tuple[str, ...] = ("nut", "Schraube", "垫圈"), *, runnable: bool = True) -> Bundle:
        path = tmp_path / f"bundle-{number}"
        contents = BundleContents(
            labels=LabelSet(names=names, aliases={"screw": names[1]}),
            preprocess=PreprocessSpec(size=(32, 48), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
            decision=DecisionSpec(temperature=1.0 + number),
            model=ModelSpec(architecture="tiny", classes=len(names), embedding=4, parameters=42, source="from scratch"),
            weights_licence="Apache-2.0",
        )
        write_bundle(path, contents)
        if runnable:
            attach(path, "artifacts/onnx", lambda folder: (folder / "model.onnx").write_bytes(b"graph" * 50))
        return open_bundle(path)

    return made
