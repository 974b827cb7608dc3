"""The plan of a repair: a file that a person can read and edit, YAML or inside an audit's report.

An entry says what is done to one image (`quarantine`, `drop`, `relabel`) or to whole classes (`merge`, `rename`), why,
how sure that is, and whether it is to be applied. Nothing is ever deleted: `quarantine` and `drop` differ in reason.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError

from sortal.core.canonical import parse
from sortal.core.errors import DataError, MachineError, nearest
from sortal.core.publish import publish_file
from sortal.data.files import shown

BY_HAND = "by_hand"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_HEAD = """\
# A plan of repair. Set `apply` to true or false, take entries out, add your own:
#   - {{do: quarantine, image: cat/1.jpg}}                 out of the data set, kept in .sortal/quarantine
#   - {{do: relabel, image: cat/2.jpg, from: cat, to: dog}}
#   - {{do: merge, classes: [cat, kitten], to: cat}}
#   - {{do: rename, from: cat, to: feline}}
# Look:  sortal fix {source} --plan THIS_FILE
# Do it: sortal fix {source} --plan THIS_FILE --apply
# Undo:  sortal fix --undo {source} --apply
"""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class _Entry(_Model):
    code: StrictStr = BY_HAND
    """The issue behind it, or `by_hand`."""
    why: StrictStr = ""
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    apply: StrictBool = True


class _OfImage(_Entry):
    image: Annotated[StrictStr, Field(min_length=1)]
    """The row's name, as the audit lists it."""
    digest: Annotated[StrictStr | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    """SHA-256 of the content that was judged; None is not checked."""


class Quarantine(_OfImage):
    """Take an image out of the data set and keep it aside."""

    do: Literal["quarantine"] = "quarantine"


class Drop(_OfImage):
    """The same for an image that nothing is wrong with but that is not wanted, such as a copy."""

    do: Literal["drop"] = "drop"


class Relabel(_OfImage):
    """Give an image another class."""

    do: Literal["relabel"] = "relabel"
    was: Annotated[StrictStr, Field(alias="from", min_length=1)]
    to: Annotated[StrictStr, Field(min_length=1)]


class Merge(_Entry):
    """Make one class of several; `to` is one of them, another class, or a new name."""

    do: Literal["merge"] = "merge"
    classes: Annotated[tuple[StrictStr, ...], Field(min_length=1)]
    to: Annotated[StrictStr, Field(min_length=1)]


class Rename(_Entry):
    """Give a class a name that no other class has."""

    do: Literal["rename"] = "rename"
    was: Annotated[StrictStr, Field(alias="from", min_length=1)]
    to: Annotated[StrictStr, Field(min_length=1)]


OfImage = Quarantine | Drop | Relabel
OfClass = Merge | Rename
Action = Annotated[Quarantine | Drop | Relabel | Merge | Rename, Field(discriminator="do")]


class Plan(_Model):
    """The whole file. `source` is the data set as it was named, the digests are those of the images then."""

    format: Literal[1] = 1
    source: StrictStr
    listing_digest: StrictStr | None = None
    content_digest: StrictStr | None = None
    new_classes: tuple[StrictStr, ...] = ()
    """Classes that no image has yet and that `relabel` may use; without this a misspelt class is an error."""
    actions: tuple[Action, ...] = ()

    def content(self) -> dict[str, Any]:
        """JSON values, as `audit.json` holds them in `body["plan"]`."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """The file that people edit, with a few lines at its top that say how."""
        data = self.content()
        actions = [_readable(entry) for entry in data.pop("actions")]
        text = _HEAD.format(source=shown(shlex.quote(self.source))) + _dump(data)
        if not actions:
            return text + "actions: []\n"
        return text + "actions:\n" + "".join(_listed(entry) for entry in actions)


@dataclass(frozen=True, kw_only=True)
class Located:
    """A plan and where its entries stand, for messages. `lines` is empty where they are not known."""

    plan: Plan
    where: str
    lines: tuple[int, ...] = ()

    def entry(self, number: int) -> str:
        """`entry 4 (line 27)`, counted from 1."""
        return f"entry {number + 1}" + (f" (line {self.lines[number]})" if number < len(self.lines) else "")

    def applied(self) -> Iterator[tuple[int, Quarantine | Drop | Relabel | Merge | Rename]]:
        """The entries that are to be applied, with their numbers from 0."""
        return ((number, action) for number, action in enumerate(self.plan.actions) if action.apply)


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan as YAML. Raises MachineError when the machine refuses."""
    publish_file(path, plan.to_yaml().encode("utf-8", "backslashreplace"))


def load_plan(path: Path) -> Located:
    """A plan from YAML, from JSON, or out of the report of an audit. Raises DataError that names the entry."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("a plan is UTF-8 text", where=str(path)) from error
    except OSError as error:
        raise MachineError(f"cannot read this plan: {error.strerror}", where=str(path)) from error
    data, lines = _of_json(text, path) if path.suffix.lower() == ".json" else _of_yaml(text, path)
    if not isinstance(data, dict):
        raise DataError("not a plan: expected keys and values", where=str(path), received=type(data).__name__)
    try:
        return Located(plan=Plan.model_validate(data), where=str(path), lines=tuple(lines))
    except ValidationError as error:
        raise _explained(error, path, lines) from error


def _of_json(text: str, path: Path) -> tuple[Any, list[int]]:
    data = parse(text, where=str(path))
    if isinstance(data, dict) and "kind" in data:
        body = data.get("body")
        if not isinstance(body, dict) or "plan" not in body:
            hint = "the plan is in the audit.json of `sortal audit`"
            raise DataError("this report holds no plan", where=str(path), received=f"kind {data['kind']}", hint=hint)
        data = body["plan"]
    return data, []


def _of_yaml(text: str, path: Path) -> tuple[Any, list[int]]:
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        _refuse_repeated(node, path)
        return loader.construct_document(node), _lines(node)
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"not valid YAML: {error}", where=str(path)) from error
    finally:
        loader.dispose()


def _actions(node: yaml.Node) -> list[yaml.Node]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    found = next((value for key, value in pairs if key.value == "actions"), None)
    return found.value if isinstance(found, yaml.SequenceNode) else []


def _lines(node: yaml.Node) -> list[int]:
    return [entry.start_mark.line + 1 for entry in _actions(node)]


def _refuse_repeated(node: yaml.Node, path: Path) -> None:
    """YAML itself would silently take the last of two equal keys."""
    for mapping in (node, *_actions(node)):
        if not isinstance(mapping, yaml.MappingNode):
            continue
        keys = [str(key.value) for key, _ in mapping.value]
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            line = mapping.start_mark.line + 1
            raise DataError(f"the key {twice!r} is given twice", where=f"{path}, line {line}")


def _explained(error: ValidationError, path: Path, lines: list[int]) -> DataError:
    first = error.errors()[0]
    loc = list(first["loc"])
    where = str(path)
    if loc[:1] == ["actions"] and len(loc) > 1 and isinstance(loc[1], int):
        number = loc[1]
        where += f", entry {number + 1}" + (f" (line {lines[number]})" if number < len(lines) else "")
        loc = loc[3:]  # behind the name of the kind
    key = ".".join(map(str, loc))
    hint = None
    if first["type"] == "extra_forbidden":
        return DataError(f"unknown key {key!r}", where=where, hint=nearest(key, _keys(first["loc"])))
    if first["type"] == "string_type":
        hint = "put it in quotes"
    if first["type"].startswith("union_tag"):
        given = first["input"].get("do") if isinstance(first["input"], dict) else first["input"]
        close = nearest(str(given), _KINDS) or ""
        hint = (f"{close} " if close.startswith("did you") else "") + f"one of {', '.join(_KINDS)}"
        message = "`do` is missing" if given is None else "`do` names no action"
        return DataError(message, where=where, received=repr(given or first["input"])[:120], hint=hint)
    message = f"{key}: {first['msg']}" if key else first["msg"]
    return DataError(message, where=where, received=repr(first["input"])[:120], hint=hint)


def _keys(loc: tuple[int | str, ...]) -> list[str]:
    model = _KINDS.get(str(loc[2]), Plan) if len(loc) > 2 else Plan
    return [field.alias or name for name, field in model.model_fields.items()]


_FIRST = ("do", "image", "classes", "from", "to", "apply", "code", "why", "confidence", "digest")


def _readable(entry: dict[str, Any]) -> dict[str, Any]:
    """What matters to a person first; what says nothing left out."""
    return {key: entry[key] for key in _FIRST if key in entry and entry[key] not in (None, "")}


def _listed(entry: dict[str, Any]) -> str:
    first, *rest = _dump(entry).splitlines()
    return f"- {first}\n" + "".join(f"  {line}\n" for line in rest)


def _dump(data: dict[str, Any]) -> str:
    text: str = yaml.dump(data, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=10_000)
    return text


_KINDS: dict[str, type[BaseModel]] = {
    "quarantine": Quarantine,
    "drop": Drop,
    "relabel": Relabel,
    "merge": Merge,
    "rename": Rename,
}
