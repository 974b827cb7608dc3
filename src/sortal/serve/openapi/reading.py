"""The description as a page: every address with what it takes and answers, and the shapes below."""

from __future__ import annotations

from typing import Any

import jinja2

from sortal.serve.page.files import own


def to_read(description: dict[str, Any]) -> str:
    """HTML without scripts."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(own),
    )
    operations = [
        {"path": path, "method": method.upper(), **one}
        for path, methods in description["paths"].items()
        for method, one in methods.items()
    ]
    tags = dict.fromkeys(one["tags"][0] for one in operations)
    groups = {tag: [one for one in operations if one["tags"][0] == tag] for tag in tags}
    schemas = description["components"]["schemas"]
    return environment.get_template("docs.html.jinja").render(
        info=description["info"], groups=groups, schemas=schemas, shape=shape
    )


def shape(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """A schema in a line: pieces of text, each with the name of the shape it leads to, or none."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [(name, name)]
    if "anyOf" in schema:
        return _joined([shape(one) for one in schema["anyOf"]], " or ")
    if "enum" in schema or "const" in schema:
        return [(" | ".join(map(str, schema.get("enum", [schema.get("const")]))), "")]
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return [("list of ", ""), *shape(schema["items"])]
    if kind == "object" and "properties" in schema:
        fields = [[(f"{name}: ", ""), *shape(one)] for name, one in schema["properties"].items()]
        return [("{ ", ""), *_joined(fields, ", "), (" }", "")]
    return [(kind + _bounds(schema), "")]


def _bounds(schema: dict[str, Any]) -> str:
    ends = [f"{sign} {schema[name]}" for name, sign in (("minimum", "≥"), ("maximum", "≤")) if name in schema]
    default = [f"by default {str(schema['default']).lower()}"] if "default" in schema else []
    return "".join(f", {text}" for text in [*ends, *default])


def _joined(lines: list[list[tuple[str, str]]], between: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        found += [(between, ""), *line] if number else line
    return found
