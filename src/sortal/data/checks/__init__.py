"""Checks of a data set, one file each: `name -> module` with a function `check(material) -> Outcome`.

A check looks at what one pass over the images has found (`data.survey`) and at feature arrays that it is handed; it
opens no image and computes no feature. The order here is the order of the page.
"""

from __future__ import annotations

from sortal.core.registry import Registry

CHECKS = Registry(
    kind="check",
    group="sortal.checks",
    table={
        "readable": "sortal.data.checks.readable",
        "leaks": "sortal.data.checks.leaks",
        "labels": "sortal.data.checks.labels",
        "duplicates": "sortal.data.checks.duplicates",
        "shortcuts": "sortal.data.checks.shortcuts",
        "bursts": "sortal.data.checks.bursts",
        "groups": "sortal.data.checks.groups",
        "balance": "sortal.data.checks.balance",
        "drift": "sortal.data.checks.drift",
        "outliers": "sortal.data.checks.outliers",
        "exposure": "sortal.data.checks.exposure",
        "blur": "sortal.data.checks.blur",
        "information": "sortal.data.checks.information",
        "shape": "sortal.data.checks.shape",
        "storage": "sortal.data.checks.storage",
        "annotators": "sortal.data.checks.annotators",
        "privacy": "sortal.data.checks.privacy",
    },
)
