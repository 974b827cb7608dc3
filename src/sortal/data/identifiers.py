"""Item identifiers as barcodes carry them: GS1 Application Identifiers and the common ASC MH10 Data Identifiers.

ISO/IEC 15418 lists these identifiers. It says nothing about how images are labeled: they are metadata beside a label,
which say which article, lot and piece a picture shows. Reading a barcode in a picture is not done here.

GS1 texts are read in the form for people, `(01)09506000134352(10)ABC`, and in that of a scanner: `]C1` or `]d2`, then
identifiers without brackets, a group separator (ASCII 29, also written `<GS>`) after values of no fixed length. MH10
texts are single fields (`1TLOT42`) or an ISO/IEC 15434 message (`[)>`, record separator, `06`, fields). Digits alone
are a GTIN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

GROUP_SEPARATOR, RECORD_SEPARATOR, END_OF_MESSAGE = "\x1d", "\x1e", "\x04"
GTIN_LENGTHS = (8, 12, 13, 14)

Kind = Literal["gs1", "mh10"]
Fault = Literal["unknown", "length", "characters", "check_digit", "date"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """How the value of an identifier looks. `least` = `most` where the length is fixed."""

    title: str
    least: int
    most: int
    digits: bool = False
    check: bool = False
    """The last digit is a GS1 check digit."""
    day: bool = False
    """A date YYMMDD; day 00 means the last of the month."""
    fixed: bool = False
    """Of predefined length in the GS1 sense: no separator follows."""


@dataclass(frozen=True, kw_only=True)
class Element:
    """One identifier with its value, for example code `01`, title `GTIN`."""

    code: str
    title: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with an identifier, in plain words."""

    fault: Fault
    message: str


@dataclass(frozen=True, kw_only=True)
class Identifiers:
    """What a text holds. `problems` is empty where all of it is understood and valid."""

    kind: Kind | None
    elements: tuple[Element, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def valid(self) -> bool:
        return bool(self.elements) and not self.problems

    def get(self, title: str) -> str | None:
        """The value of the first identifier of this title (`GTIN`, `lot`, `serial`, `expiry` ...)."""
        return next((element.value for element in self.elements if element.title == title), None)


GS1: dict[str, Field] = {
    "00": Field(title="SSCC", least=18, most=18, digits=True, check=True, fixed=True),
    "01": Field(title="GTIN", least=14, most=14, digits=True, check=True, fixed=True),
    "02": Field(title="content GTIN", least=14, most=14, digits=True, check=True, fixed=True),
    "10": Field(title="lot", least=1, most=20),
    "11": Field(title="production date", least=6, most=6, digits=True, day=True, fixed=True),
    "12": Field(title="due date", least=6, most=6, digits=True, day=True, fixed=True),
    "13": Field(title="packaging date", least=6, most=6, digits=True, day=True, fixed=True),
    "15": Field(title="best before", least=6, most=6, digits=True, day=True, fixed=True),
    "16": Field(title="sell by", least=6, most=6, digits=True, day=True, fixed=True),
    "17": Field(title="expiry", least=6, most=6, digits=True, day=True, fixed=True),
    "20": Field(title="variant", least=2, most=2, digits=True, fixed=True),
    "21": Field(title="serial", least=1, most=20),
    "22": Field(title="consumer variant", least=1, most=20),
    "30": Field(title="count", least=1, most=8, digits=True),
    "37": Field(title="contained count", least=1, most=8, digits=True),
    "240": Field(title="additional identifier", least=1, most=30),
    "241": Field(title="customer part", least=1, most=30),
    "250": Field(title="secondary serial", least=1, most=30),
    "251": Field(title="source entity", least=1, most=30),
    "400": Field(title="order", least=1, most=30),
    **{
        f"41{n}": Field(title=title, least=13, most=13, digits=True, check=True, fixed=True)
        for n, title in enumerate(("ship to", "bill to", "purchased from", "ship for", "location", "invoicing party"))
    },
    "422": Field(title="country of origin", least=3, most=3, digits=True),
    "7003": Field(title="expiry time", least=10, most=10, digits=True),
    "8004": Field(title="asset", least=1, most=30),
    **{f"{n}": Field(title=f"internal {n}", least=1, most=30 if n == 90 else 90) for n in range(90, 100)},
}
"""GS1 General Specifications, section 3; measures (310n to 369n, six digits) are known by pattern."""

MH10: dict[str, str] = {
    "P": "customer part",
    "1P": "supplier part",
    "Q": "quantity",
    "S": "serial",
    "1T": "lot",
    "T": "customer lot",
    "V": "supplier",
    "K": "order",
    "D": "date",
    "9D": "date code",
    "14D": "expiry",
    "16D": "production date",
    "4L": "country of origin",
    "25S": "unique item",
    "18V": "company",
}
"""The basic ones of ANSI MH10.8.2."""

_MEASURE = Field(title="measure", least=6, most=6, digits=True, fixed=True)
_CHARACTERS = re.compile(r"[!\"%&'()*+,\-./0-9:;<=>?A-Z_a-z]*")
_BRACKET = re.compile(r"\((\d{2,4})\)")
_SCANNER = re.compile(r"\](?:C1|d2|Q3|e0|J1)")
_DI = re.compile(r"(\d{0,3}[A-Z])(.+)", re.DOTALL)


def parse(text: str) -> Identifiers:
    """The identifiers in a text, of any known form; what is wrong is listed, never raised."""
    text = text.strip(" \t\r\n").replace("<GS>", GROUP_SEPARATOR)
    if text.startswith("[)>"):
        return _mh10(_message_fields(text))
    scanned = _SCANNER.match(text)
    if scanned or text.startswith(GROUP_SEPARATOR):
        return _gs1(_from_scanner(text[scanned.end() if scanned else 1 :]))
    if text.startswith("("):
        return _gs1(_from_brackets(text))
    if text.isascii() and text.isdecimal() and len(text) in GTIN_LENGTHS:
        return _gs1([("01", text.zfill(14))])
    known = _DI.fullmatch(text)
    if known and known[1] in MH10:
        return _mh10([text])
    if GROUP_SEPARATOR in text or re.match(r"01\d{14}(10|11|17|21)", text):
        return _gs1(_from_scanner(text))
    return Identifiers(
        kind=None, problems=(Problem(fault="unknown", message="not a form of identifier that is known"),)
    )


def check_digit(digits: str) -> int:
    """The GS1 check digit that belongs behind `digits` (without it): weights 3 and 1 from the right, modulo 10.

    GS1 General Specifications, section 7.9. Raises ValueError for anything but digits.
    """
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"only digits have a check digit, not {digits!r}")
    return -sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))) % 10


def as_date(value: str, *, year: int) -> date:
    """The day that YYMMDD means, seen from `year`: within 50 years of it; day 00 is the last of the month.

    GS1 General Specifications, section 7.12. Raises ValueError for no date.
    """
    if not re.fullmatch(r"\d{6}", value, re.ASCII):
        raise ValueError(f"a date has six digits YYMMDD, not {value!r}")
    short, month, day = int(value[:2]), int(value[2:4]), int(value[4:])
    difference = short - year % 100
    century = year - year % 100 + (-100 if difference >= 51 else 100 if difference <= -50 else 0)
    if day:
        return date(century + short, month, day)
    after = date(century + short + month // 12, month % 12 + 1, 1) if 1 <= month <= 12 else date(1, month, 1)
    return date.fromordinal(after.toordinal() - 1)


def _gs1(pairs: list[tuple[str, str]]) -> Identifiers:
    elements, problems = [], []
    for code, value in pairs:
        field = _field(code)
        if field is None:
            problems.append(Problem(fault="unknown", message=f"no Application Identifier starts like this: {code!r}"))
            continue
        elements.append(Element(code=code, title=field.title, value=value))
        problems += _problems(code, field, value)
    if not pairs:
        problems.append(Problem(fault="unknown", message="there is no Application Identifier"))
    return Identifiers(kind="gs1", elements=tuple(elements), problems=tuple(problems))


def _field(code: str) -> Field | None:
    return GS1.get(code) or (_MEASURE if re.fullmatch(r"3[1-6]\d{2}", code) else None)


def _problems(code: str, field: Field, value: str) -> Iterator[Problem]:
    name = f"({code}) {field.title} {value!r}"
    if not field.least <= len(value) <= field.most:
        wanted = f"{field.most}" if field.least == field.most else f"{field.least} to {field.most}"
        yield Problem(fault="length", message=f"{name}: {len(value)} characters where {wanted} belong")
        return
    if field.digits and not (value.isascii() and value.isdecimal()):
        yield Problem(fault="characters", message=f"{name}: only digits belong here")
        return
    if not _CHARACTERS.fullmatch(value):
        yield Problem(fault="characters", message=f"{name}: a character that GS1 does not allow")
    if field.check and check_digit(value[:-1]) != int(value[-1]):
        right = check_digit(value[:-1])
        yield Problem(fault="check_digit", message=f"{name}: the check digit is {value[-1]}, it should be {right}")
    if field.day:
        try:
            as_date(value, year=2000)
        except ValueError:
            yield Problem(fault="date", message=f"{name}: there is no such day")


def _from_brackets(text: str) -> list[tuple[str, str]]:
    """Brackets may be part of a value, so one counts as the start of an identifier only where it holds a known one."""
    starts = [found for found in _BRACKET.finditer(text) if found.start() == 0 or _field(found[1])]
    if not starts or starts[0].start():
        return [(text[:8], "")]
    ends = [found.start() for found in starts[1:]] + [len(text)]
    return [(found[1], text[found.end() : end]) for found, end in zip(starts, ends, strict=True)]


def _from_scanner(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    while text := text.lstrip(GROUP_SEPARATOR):
        code = next((text[:n] for n in (2, 3, 4) if len(text) >= n and _field(text[:n])), None)
        if code is None:
            return [*pairs, (text[:4], "")]
        field, rest = _field(code), text[len(code) :]
        end = rest.find(GROUP_SEPARATOR) if GROUP_SEPARATOR in rest else len(rest)
        if field is not None and field.fixed:
            end = min(end, field.most)
        pairs.append((code, rest[:end]))
        text = rest[end:]
    return pairs


def _message_fields(text: str) -> list[str]:
    """Fields of format 06 of an ISO/IEC 15434 message."""
    body = text[3:].replace("<RS>", RECORD_SEPARATOR).replace("<EOT>", END_OF_MESSAGE).strip(END_OF_MESSAGE)
    records = [record for record in body.split(RECORD_SEPARATOR) if record]
    return [
        field for record in records if record.startswith("06") for field in record[2:].split(GROUP_SEPARATOR) if field
    ]


def _mh10(fields: list[str]) -> Identifiers:
    elements, problems = [], []
    for field in fields:
        found = _DI.fullmatch(field)
        if found is None or found[1] not in MH10:
            message = f"{field[:12]!r} starts with no Data Identifier that is known"
            problems.append(Problem(fault="unknown", message=message))
            continue
        elements.append(Element(code=found[1], title=MH10[found[1]], value=found[2]))
    if not fields:
        problems.append(Problem(fault="unknown", message="a message without a record of format 06"))
    return Identifiers(kind="mh10", elements=tuple(elements), problems=tuple(problems))
