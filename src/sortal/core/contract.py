"""Contract: acceptance criteria as plain data. `evaluate` decides whether they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from sortal.core.errors import RecipeError, nearest, plain

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A proportion between 0 and 1."""
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]

CLAUSES = ("max_error", "min_coverage", "recall", "max_cost", "max_latency_ms", "max_size_mb")
"""The keys that promise something; the others say what is meant by it."""
IMAGE = "image"
_ROUNDING = 1e-9
_MAX_BYTES = 1_000_000


class Contract(BaseModel):
    """What a classifier promises. Every clause is optional; `confidence` holds for all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_error: Share | None = None
    """Share of wrong answers among the answers given."""
    min_coverage: Share | None = None
    """Share of images that are answered; the rest goes to a person."""
    recall: dict[str, Share] = {}
    """Per class: share of its images answered correctly or sent to a person."""
    costs: dict[str, dict[str, NonNegative]] = {}
    """`costs[true][answered]`: what that mistake costs, in any one unit. Pairs that are not listed cost nothing."""
    max_cost: NonNegative | None = None
    """Mean cost of an image, in the unit of `costs`; one that is left to a person costs nothing."""
    prevalence: dict[str, Share] = {}
    """Share of each class in production; classes left out share the rest in the proportions of the test data."""
    unit: str = IMAGE
    """`image`, or the name of the group column that one decision is made for."""
    max_latency_ms: Positive | None = None
    """From bytes to decision, 99th percentile, batch 1, on the machine that certifies."""
    max_size_mb: Positive | None = None
    """Files of the artifact that is deployed, in units of 1,000,000 bytes."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.max_cost is not None and not self.costs:
            raise ValueError("max_cost needs costs: costs: {crack: {ok: 50}} says what an answer `ok` to a crack costs")
        total = sum(self.prevalence.values())
        if total > 1.0 + _ROUNDING:
            raise ValueError(f"the prevalences are {total:g} together, more than 1")
        if not self.unit.strip():
            raise ValueError("unit is `image` or the name of a group column")
        return self

    @model_serializer(mode="wrap")
    def _as_first_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A clause that came later is left out where it says nothing, so that older files are written unchanged."""
        fields: dict[str, Any] = handler(self)
        if self.max_cost is None:
            del fields["max_cost"]
        return fields

    @property
    def promises(self) -> bool:
        """Whether there is any clause at all."""
        return any(getattr(self, name) not in (None, {}) for name in CLAUSES)

    def classes(self) -> list[str]:
        """Every class that is named, in order, each once."""
        costs = [name for true, answers in self.costs.items() for name in (true, *answers)]
        return list(dict.fromkeys([*self.recall, *self.prevalence, *costs]))


def load_contract(path: Path) -> Contract:
    """A contract from a YAML file. Raises RecipeError that names the file, the key and the nearest valid key."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecipeError("too large for a contract", where=str(path))
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        beside = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = nearest(path.name, beside) or "docs/contract.md says what a contract looks like"
        raise RecipeError("there is no such contract", where=str(path), hint=hint) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"cannot read this contract: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        hint = "a contract is keys and values, for example max_error: 0.01"
        raise RecipeError("this is no contract", where=str(path), received=type(data).__name__, hint=hint)
    return build_contract(data, where=str(path))


def build_contract(data: dict[str, Any], *, where: str) -> Contract:
    """A contract from plain data. Raises RecipeError as `load_contract` does."""
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        raise _explain(error, where) from error


def check_promises(contract: Contract) -> None:
    """Raises RecipeError unless the contract has a clause."""
    if not contract.promises:
        hint = f"give it one of {', '.join(CLAUSES)}; docs/contract.md explains them"
        raise RecipeError("the contract promises nothing: it has no clause", hint=hint)


def check_classes(contract: Contract, known: Sequence[str], *, where: str) -> None:
    """Raises RecipeError unless every class that the contract names is one of `known`."""
    for name in contract.classes():
        if name not in known:
            what = "the contract speaks of a class that the classifier does not know"
            raise RecipeError(what, where=where, received=name, hint=nearest(name, known))


def _explain(error: ValidationError, where: str) -> RecipeError:
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return RecipeError(f"unknown key {key!r}", where=where, hint=nearest(key, list(Contract.model_fields)))
    message = plain(first["msg"])
    received = None if not key else repr(first["input"])
    return RecipeError(f"{key}: {message}" if key else message, where=where, received=received)
