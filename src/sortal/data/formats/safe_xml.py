"""XML from strangers: elements, attributes and text, nothing else.

A document type declaration is refused as soon as it begins, so there are no entities of any kind (the way into files,
networks and "billion laughs"); nesting and length are limited.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from sortal.core.errors import DataError

MAX_BYTES = 1 << 30
MAX_DEPTH = 64


def parse_xml(data: bytes, where: str) -> Element:
    """The root element. Raises DataError that names `where` for what is no XML, too deep, or has a DTD."""
    if len(data) > MAX_BYTES:
        raise DataError("an XML file of more than a gigabyte", where=where)
    builder, depth = TreeBuilder(), 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise DataError(f"elements nested deeper than {MAX_DEPTH}", where=where)
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*_ignored: object) -> None:
        raise DataError("a document type declaration (DTD), which may hold entities, is refused", where=where)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(f"not valid XML: {error}", where=where) from error
    return builder.close()


def text_of(element: Element, name: str) -> str | None:
    """The text of the first child called `name`, without white space around it; None where there is none."""
    text = element.findtext(name)
    return text.strip() or None if text is not None else None


def is_xml_text(text: str) -> bool:
    """Whether XML 1.0 can hold this text: it has no control characters and no lone surrogates."""
    return all(
        char in "\t\n\r" or " " <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char >= "\U00010000"
        for char in text
    )
