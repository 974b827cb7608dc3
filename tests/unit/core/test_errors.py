"""Errors: one tree, and a text that says what, where, what was received and what to do."""

from __future__ import annotations

import pytest

from sortal.core import errors
from sortal.core.errors import (
    BundleError,
    DataError,
    ImageError,
    InputError,
    InternalError,
    MachineError,
    MissingExtraError,
    RecipeError,
    SortalError,
    WeightsError,
    nearest,
)


def test_every_error_belongs_to_one_branch() -> None:
    branches = (InputError, MachineError, InternalError)
    leaves = (RecipeError, DataError, ImageError, BundleError, WeightsError, MissingExtraError, *branches)
    for leaf in leaves:
        assert sum(issubclass(leaf, branch) for branch in branches) == 1
    assert all(issubclass(leaf, SortalError) for leaf in leaves)


def test_the_text_is_complete() -> None:
    error = InputError("too small", where="a.jpg", received="1x1", hint="use larger images")
    assert str(error) == "a.jpg: too small\n  received: 1x1\n  to do:    use larger images"
    assert str(InputError("too small")) == "too small"


def test_a_missing_extra_says_what_to_type() -> None:
    assert 'pip install "sortal[train]"' in str(MissingExtraError("torch", "train"))


def test_image_errors_carry_a_known_code() -> None:
    assert ImageError("empty", "zero bytes", where="a").code in errors.IMAGE_ERROR_CODES


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("ephocs", ["epochs", "batch", "lr"], "did you mean epochs?"),
        ("zzz", ["a", "b"], "known: a, b"),
        ("zzz", [str(number) for number in range(50)], None),
        ("zzz", [], None),
    ],
)
def test_hints_name_what_is_near(name: str, known: list[str], hint: str | None) -> None:
    assert nearest(name, known) == hint
