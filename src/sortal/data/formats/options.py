"""What a reader is told besides the path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """`label` names the label column of tables (`label` means: any of its common names).

    `group` (a column or a regular expression) and `level` are applied to whatever a reader returns by
    `sortal.data.open`; a reader may look at them but does not have to.
    """

    label: str = "label"
    group: str | None = None
    level: Literal["fine", "coarse"] | None = None
