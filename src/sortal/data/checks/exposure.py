"""Exposure: images so dark or so light that little can be seen in them.

An image is dark where all but its brightest 1 % of pixels stay below a limit, and light where all but its darkest 5 %
lie above one: a bright lamp in a night picture does not save it, nor does a speck of dust on a white one.
"""

from __future__ import annotations

from sortal.data.checks.flagged import Fault, joined, low_outcome, percent
from sortal.data.checks.material import Material, Outcome

_DARK = Fault(
    code="dark",
    many="are dark: 99 % of their pixels are close to black",
    all="most images of this set are dark; only those that are far darker than usual are listed",
    hint="take them again with more light, or keep them if the camera will see such images",
)
_LIGHT = Fault(
    code="light",
    many="are overexposed: 95 % of their pixels are close to white",
    all="most images of this set are nearly white; only those that are far whiter than usual are listed",
    hint="take them again with less light, or keep them if the camera will see such images",
)


def check(material: Material) -> Outcome:
    """Findings and issues `dark` and `light`, darkest and lightest first; the value is the level that was judged."""
    frame, limits = material.survey.frame, material.limits
    dark, light = frame["dark"].to_numpy(), frame["light"].to_numpy()
    return joined(
        low_outcome(material, _DARK, dark, limits.dark, lambda found: "99 % below " + percent(found)),
        low_outcome(material, _LIGHT, 1 - light, 1 - limits.light, lambda found: "95 % above " + percent(1 - found)),
    )
