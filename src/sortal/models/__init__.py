"""Networks and where their weights come from.

`BACKBONES` is the table of Sortal's own small networks; every architecture of timm is known beside it by its timm name.
A member is called as `member(in_chans=3, **arguments)` and returns a module that maps (N, in_chans, H, W) to the pair
(embedding (N, D), feature map (N, F, h, w)). Other packages add members through the entry-point group
`sortal.backbones`.
"""

from __future__ import annotations

from sortal.core.registry import Registry

BACKBONES = Registry(
    kind="architecture",
    group="sortal.backbones",
    table={
        "lenet5": "sortal.models.lenet:lenet5",
        "sortal_quick": "sortal.models.quick:sortal_quick",
        "sortal_small": "sortal.models.small:sortal_small",
        "sortal_tiny": "sortal.models.small:sortal_tiny",
    },
)
