"""The one tree of errors that Sortal raises on purpose.

Every error says what is wrong, where, what was received and what to do about it. Which kind it is decides the exit
code of the command line (and later the HTTP status), but only at the edge: nothing here knows about either.

    SortalError
    ├── InputError            the user's input is wrong                  (exit 2)
    │   ├── RecipeError       a recipe, contract or override
    │   ├── DataError         a folder, table, archive or split of images
    │   ├── ImageError        one image; carries a short code
    │   ├── BundleError       a bundle or artifact that is damaged, altered or unknown
    │   ├── WeightsError      a weights card, file or download
    │   ├── NotFoundError     a bundle, request or version that nobody knows
    │   └── ConflictError     somebody else was first
    ├── MachineError          the machine cannot do it                   (exit 3)
    │   ├── MissingExtraError an optional package is not installed
    │   ├── OverloadError     more work than can be done in time
    │   └── DeadlineError     not done in time
    └── InternalError         Sortal broke a promise of its own          (exit 3)
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SortalError(Exception):
    """Base of all errors. `what` is one sentence; the rest complete it.

    `where` names a file, row or key; `received` is the offending value; `hint` says what to do.
    """

    def __init__(self, what: str, *, where: str | None = None, received: str | None = None, hint: str | None = None):
        super().__init__(what)
        self.what = what
        self.where = where
        self.received = received
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.received is not None:
            lines.append(f"  received: {self.received}")
        if self.hint is not None:
            lines.append(f"  to do:    {self.hint}")
        return "\n".join(lines)


class InputError(SortalError):
    """The user's input is wrong; nothing was written."""


class RecipeError(InputError):
    """A recipe, contract or `key=value` override is not valid."""


class DataError(InputError):
    """A source of images, its labels or its splits cannot be used."""


class ImageError(InputError):
    """One image cannot be used.

    `code` is one of `IMAGE_ERROR_CODES`, the vocabulary of findings, server answers and tests.
    """

    def __init__(self, code: str, what: str, *, where: str | None = None, received: str | None = None):
        super().__init__(what, where=where, received=received)
        self.code = code


IMAGE_ERROR_CODES: dict[str, str] = {
    "missing": "there is no such file",
    "not_a_file": "a folder, FIFO, socket or device, never opened",
    "permission": "the file may not be read",
    "empty": "zero bytes",
    "too_large": "more bytes than allowed",
    "not_an_image": "no image format recognises the bytes",
    "format_not_allowed": "an image format that Sortal does not open",
    "too_many_pixels": "the header declares more pixels than allowed",
    "truncated": "the data ends early",
    "corrupt": "the data is damaged",
    "unsupported_mode": "pixels that cannot become the declared channels and depth (float, HDR, ...)",
}


class BundleError(InputError):
    """A bundle or artifact is damaged, altered, incomplete or of an unknown format."""


class WeightsError(InputError):
    """Weights cannot be found, fetched, verified or loaded into the architecture."""


class NotFoundError(InputError):
    """What was named is not there: a bundle of a workspace, a request, a version."""


class ConflictError(InputError):
    """What was asked rests on a state that has changed meanwhile, or contradicts what is stored."""


class MachineError(SortalError):
    """The machine cannot do what was asked: disk full, no permission, missing program."""


class MissingExtraError(MachineError):
    """An optional package is not installed; the hint names the extra to install."""

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"this needs the package {package!r}, which is not installed",
            hint=f'pip install "sortal[{extra}]"',
        )


class OverloadError(MachineError):
    """More is asked than can be done in time; `retry_after_s` says when it is worth asking again."""

    def __init__(self, what: str, *, retry_after_s: float = 1.0, received: str | None = None):
        super().__init__(what, received=received, hint=f"ask again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class DeadlineError(MachineError):
    """It was not done in the time it was given."""


class InternalError(SortalError):
    """Sortal broke a promise of its own: a bug, please report it."""


def plain(message: str) -> str:
    """What a check of ours says, without the words that pydantic puts before it."""
    return message.removeprefix("Value error, ")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The hint that belongs to an unknown name: the closest known ones, or all of them when few, or None."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    if names and len(names) <= 20:
        return "known: " + ", ".join(names)
    return None
