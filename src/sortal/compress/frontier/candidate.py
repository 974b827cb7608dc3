"""A candidate of the frontier on disk: its bundle, what it answers about the validation images, and what it took.

    candidates/96px-int8/candidate.json bundle/ answers.npz      made
    candidates/96px-cut50-float32/candidate.json                 could not be made, and why

A folder is put in place as a whole, so that whatever lies there is finished and can be used by the next command.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sortal.compress.frontier.wish import Wish
from sortal.compress.images import Prepared
from sortal.core.bundle import Bundle, open_bundle
from sortal.core.canonical import parse, pretty
from sortal.core.errors import BundleError
from sortal.core.predictions import Predictions
from sortal.runtime.locate import locate

CANDIDATE, ANSWERS, BUNDLE = "candidate.json", "answers.npz", "bundle"
_KEPT = ("index", "probabilities", "abstained")


class Record(BaseModel):
    """`candidate.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    side: int
    cut: float
    precision: Literal["float32", "int8"]
    key: str
    """Digest of everything that the result depends on."""
    seconds: float = Field(ge=0.0)
    """What making it took."""
    artifact: str = ""
    """What answers: `onnx`, `onnx-int8`, `openvino-int8`; empty where it could not be made."""
    engine: str = ""
    refused: str = ""
    """Why it could not be made; empty where it was."""
    notes: tuple[str, ...] = ()
    """What was found while it was made."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A finished candidate, or one that could not be made."""

    record: Record
    folder: Path
    origin: Path
    """The bundle that stands here: the run's own, or the one in `folder`."""

    @property
    def wish(self) -> Wish:
        """What it is."""
        return Wish(side=self.record.side, cut=self.record.cut, precision=self.record.precision)

    @property
    def made(self) -> bool:
        """Whether there is anything to answer with."""
        return not self.record.refused

    @property
    def artifact(self) -> Path:
        """The folder of what answers."""
        return self.origin / "artifacts" / self.record.artifact

    @property
    def model(self) -> Path:
        """The file that answers."""
        return locate(self.artifact).model

    def bundle(self) -> Bundle:
        """Its bundle, opened."""
        return open_bundle(self.origin)

    def answers(self, truth: Prepared) -> Predictions:
        """What it said about the validation images. Raises BundleError where the file is damaged."""
        bundle, path = self.bundle(), self.folder / ANSWERS
        try:
            with np.load(path, allow_pickle=False) as stored:
                index, probabilities, abstained = (stored[name] for name in _KEPT)
        except (OSError, ValueError, KeyError) as error:
            hint = f"remove {self.folder}, and it is made again"
            raise BundleError(f"answers that cannot be read: {error}", where=str(path), hint=hint) from error
        return Predictions(
            names=truth.names,
            labels=bundle.labels,
            bundle_id=bundle.id,
            index=index,
            probabilities=probabilities,
            abstained=abstained,
            errors={},
        )


def write_answers(folder: Path, answers: Predictions) -> None:
    """`answers.npz`."""
    with (folder / ANSWERS).open("wb") as file:
        np.savez(file, **{name: getattr(answers, name) for name in _KEPT})


def write_record(folder: Path, record: Record) -> None:
    """`candidate.json`, the last file of a candidate."""
    (folder / CANDIDATE).write_bytes(pretty(record.model_dump(mode="json")).encode())


def read_candidate(folder: Path, origin: Path, key: str) -> Candidate | None:
    """The candidate that lies in `folder`, None where there is none or it was made of something else."""
    path = folder / CANDIDATE
    if not path.is_file():
        return None
    try:
        data: Any = parse(path.read_bytes(), where=str(path))
        record = Record.model_validate(data)
    except (ValidationError, ValueError):
        return None
    if record.key != key:
        return None
    own = folder / BUNDLE
    return Candidate(record=record, folder=folder, origin=own if own.is_dir() else origin)
