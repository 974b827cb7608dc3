"""What a reader is told besides the path, and what a writer answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sortal.core.report import Finding

Boxes = Literal["crops", "image", "largest"]
Images = Literal["link", "copy", "refer"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """`label` names the label column of tables (`label` means: any of its common names).

    `group` (a column or a regular expression) and `level` are applied to whatever a reader returns by
    `sortal.data.open`; a reader may look at them but does not have to. Annotated boxes become one row each (`crops`),
    grown on every side by `margin` of the box's own width or height and clipped to the image; or one row an image with
    the one class of its boxes (`image`), or with that of its largest box (`largest`).
    """

    label: str = "label"
    group: str | None = None
    level: Literal["fine", "coarse"] | None = None
    boxes: Boxes = "crops"
    margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a writer made: the file or folder to read again, how many rows it holds, and what was left out."""

    path: Path
    rows: int
    findings: tuple[Finding, ...] = ()
