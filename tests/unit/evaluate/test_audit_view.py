"""Which images stand for an issue, what is said beside them, and what the page of an audit promises."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from sortal.core.labels import LabelSet
from sortal.core.report import Finding, Metric, Report
from sortal.data.checks.material import ISSUES, issues
from sortal.data.table import ImageTable, build_table
from sortal.evaluate.pages.audit import render_audit
from sortal.evaluate.pages.audit_view import (
    ISSUES_EACH,
    SET_SIZE,
    SETS,
    SINGLES,
    AuditView,
    MapView,
    audit_view,
    class_bars,
    pick,
)

HOSTILE = "</script><img src=x onerror=alert(1)>"
CHINESE = "六角螺栓"


def _table(rows: list[tuple[str, int, str | None]], classes: tuple[str, ...]) -> ImageTable:
    frame = pl.DataFrame(rows, schema={"uri": pl.String, "label": pl.Int64, "split": pl.String}, orient="row")
    return build_table(frame, labels=LabelSet(names=classes), source="photos", root=None)


def _view(
    table: ImageTable, found: pl.DataFrame, thumbnails: dict[str, str] | None = None, plane: MapView | None = None
) -> tuple[Report, AuditView]:
    report = Report(
        kind="audit",
        subject=HOSTILE,
        metrics={"images": Metric(value=len(table))},
        findings=(Finding(code="label_errors", severity="warning", message=HOSTILE, rows=(HOSTILE,)),),
        body={
            "actions": [{"text": HOSTILE, "command": f"sortal fix '{HOSTILE}'", "value": 1.0}],
            "headline": ["images"],
        },
    )
    picked = pick(found)
    return report, audit_view(report, found, picked, table, thumbnails or {}, plane)


class _Parsed(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings = 0
        self.data = ""
        self._reading = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.headings += tag == "h1"
        self._reading = tag == "script" and given.get("type") == "application/json"
        if tag == "img":
            self.images.append(given)

    def handle_data(self, data: str) -> None:
        if self._reading:
            self.data += data
            self._reading = False


def test_pairs_told_from_both_sides_are_one_set() -> None:
    found = pl.concat(
        [
            issues("conflicting_labels", "error", ["a", "c"], other=["b", "d"], score=[0.9, 0.8]),
            issues("conflicting_labels", "error", ["b", "d"], other=["a", "c"], score=[0.9, 0.8]),
        ]
    )
    (picked,) = pick(found)
    assert picked.kind == "sets"
    assert picked.images == 4
    assert sorted(sorted(item.names) for item in picked.items) == [["a", "b"], ["c", "d"]]


def test_images_compared_with_one_image_are_one_set_of_limited_size() -> None:
    names = [f"copy-{number}" for number in range(SET_SIZE + 4)]
    (picked,) = pick(issues("exact_duplicates", "warning", names, other=["original"] * len(names)))
    (item,) = picked.items
    assert item.names == ("original", *names[: SET_SIZE - 1])
    assert item.more == 5


def test_sections_are_limited_and_say_how_many_there_are() -> None:
    many = pl.concat(
        [
            issues("dark", "warning", [f"{number}.jpg" for number in range(500)]),
            issues("near_duplicates", "warning", [f"n{n}" for n in range(500)], other=[f"o{n}" for n in range(500)]),
        ]
    )
    dark, near = pick(many)
    assert (dark.images, len(dark.items)) == (500, SINGLES)
    assert (near.images, len(near.items)) == (500, SETS)


def test_suspects_show_given_suggested_and_confidence() -> None:
    table = _table([("a.jpg", 0, "train"), ("b.jpg", 1, "val")], (CHINESE, "nut"))
    found = issues("label_error", "warning", ["a.jpg"], score=[0.934], do="relabel", to=["nut"])
    report, view = _view(table, found)
    (section,) = view.sections
    assert section.items[0].lines == [("given", CHINESE), ("suggested", "nut"), ("confidence", "93%")]
    assert section.items[0].images[0].split == "train"
    assert view.anchors == {"label_errors": "issue-label_error"}
    assert CHINESE in render_audit(report, view, pictures=True)


def test_bars_add_up_and_the_largest_class_is_first() -> None:
    table = _table(
        [("a", 1, "train"), ("b", 1, "train"), ("c", 1, "test"), ("d", 0, None), ("e", -1, None)], ("x", "y")
    )
    first, second = class_bars(table)
    assert (first.name, first.total, first.parts) == ("y", 3, [("train", 2, 66.67), ("test", 1, 33.33)])
    assert (second.name, second.parts) == ("x", [("no split", 1, 33.33)])


def test_hostile_names_are_text_everywhere() -> None:
    table = _table([(HOSTILE, 0, "train")], (HOSTILE,))
    found = issues("dark", "warning", [HOSTILE], value=[HOSTILE], other=None)
    plane = MapView(title="map", help="", data={"x": [1], "name": [HOSTILE]}, sheets=[], points=1)
    report, view = _view(table, found, plane=plane)
    page = render_audit(report, view, pictures=True)
    assert "<img src=x" not in page
    parsed = _Parsed(page)
    data = json.loads(parsed.data)
    assert data["issues"]["name"] == [HOSTILE]
    assert data["map"]["name"] == [HOSTILE]
    assert parsed.headings == 1


def test_nothing_is_loaded_from_outside_and_every_link_leads_somewhere() -> None:
    table = _table([("a.jpg", 0, "train"), ("b.jpg", 0, "val")], ("x",))
    found = pl.concat(
        [
            issues("label_error", "warning", ["a.jpg"], score=[0.9], do="relabel", to=["y"]),
            issues("exact_duplicates", "warning", ["b.jpg"], other=["a.jpg"]),
        ]
    )
    report, view = _view(table, found, {"a.jpg": "data:image/jpeg;base64,AAAA"})
    page = render_audit(report, view, pictures=True)
    parsed = _Parsed(page)
    assert {address for address in parsed.addresses if not address.startswith(("data:image/", "#"))} == set()
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert not re.search(r"https?://|url\(\s*['\"]?(?!\$)", page.replace("http://www.w3.org", ""))
    assert "default-src 'none'" in page
    assert all(image["alt"] for image in parsed.images)
    assert len(parsed.images) == 2


def test_without_pictures_there_are_only_names() -> None:
    table = _table([("a.jpg", 0, None)], ("x",))
    report, view = _view(table, issues("dark", "warning", ["a.jpg"]))
    page = render_audit(report, view, pictures=False)
    assert _Parsed(page).images == []
    assert "a.jpg" in page
    assert "no picture" not in page


def test_the_list_of_issues_is_limited_by_code_and_says_so() -> None:
    names = [f"{number}.jpg" for number in range(ISSUES_EACH + 10)]
    found = pl.concat([issues("dark", "warning", names), issues("light", "warning", names[:3])])
    _, view = _view(_table([], ("x",)), found)
    assert (view.issues_in_all, view.issues_shown) == (ISSUES_EACH + 13, ISSUES_EACH + 3)
    assert len(view.issues["name"]) == ISSUES_EACH + 3


@pytest.mark.parametrize("classes", [0, 1500])
def test_no_issue_no_class_and_very_many_classes(classes: int) -> None:
    names = tuple(f"class {number}" for number in range(classes))
    table = _table([(f"{number}.jpg", number, None) for number in range(classes)], names)
    report, view = _view(table, pl.DataFrame(schema=ISSUES))
    page = render_audit(report, view, pictures=True)
    assert len(view.bars) == min(classes, 1000)
    assert view.left_out_classes == max(0, classes - 1000)
    assert ("All issues" in page) is False
    assert len(page) < 1_000_000
    assert np.isfinite([width for bar in view.bars for _, _, width in bar.parts]).all()
