from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.evaluate.conftest import Maker

from sortal.core.errors import MachineError
from sortal.core.report import Finding, Metric, Report, Table
from sortal.evaluate.evaluation import evaluate_predictions
from sortal.evaluate.files import write_evaluation
from sortal.evaluate.pages.page import render_page
from sortal.evaluate.summary import percent

HOSTILE = "<script>alert('x')</script>"
VOID = {"input", "meta", "img", "link", "br", "path", "polyline"}


class _Balance(HTMLParser):
    """Every tag closed in order; collects addresses the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def _parse(page: str) -> _Balance:
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    return parser


def _jpeg_with_place() -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (300, 100), "red").save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_hostile_names_are_escaped_everywhere(make_predictions: Maker, tmp_path: Path) -> None:
    predictions, labels = make_predictions((HOSTILE, "{{ 7*7 }}", "a & b"), sharpness=0.5)
    report = evaluate_predictions(predictions, labels, subject=HOSTILE, positive=HOSTILE)
    page = render_page(report, {HOSTILE: _jpeg_with_place()})
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(" in page
    assert "{{ 7*7 }}" in page
    assert _parse(page).scripts == 1


def test_page_is_self_contained(make_predictions: Maker, tmp_path: Path) -> None:
    predictions, labels = make_predictions(("bolt", "nut"), sharpness=1.0)
    report = evaluate_predictions(predictions, labels, subject="parts")
    written = write_evaluation(
        report,
        predictions,
        labels,
        predictions.names,
        tmp_path,
        show=lambda rows: [np.zeros((60, 72, 3), np.uint8)] * len(rows),
    )
    page = Path(written.paths["report"]).read_text(encoding="utf-8")
    parsed = _parse(page)
    assert all(address.startswith("data:image/") for address in parsed.addresses)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_pictures_lose_their_metadata_and_stand_upright(make_predictions: Maker) -> None:
    page = render_page(Report(kind="data", subject="parts"), {"sample": _jpeg_with_place()})
    (encoded,) = set(re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page))
    data = base64.b64decode(encoded)
    assert b"SecretCamera" not in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (100, 300)
        assert not image.getexif()


def test_thumbnails_stand_beside_their_pair_only(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("bolt", "nut"), sharpness=0.5)
    report = evaluate_predictions(predictions, labels, subject="parts")
    shot = np.zeros((500, 400, 3), np.uint8)
    page = render_page(report, thumbnails={("bolt", "nut"): [shot] * 9, ("bolt", "cog"): [shot]})
    assert page.count('alt="bolt answered nut"') == 6
    assert "cog" not in page
    with Image.open(io.BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", page)[0]))) as image:
        assert max(image.size) <= 96


def test_an_unreadable_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be read"):
        render_page(Report(kind="data", subject="parts"), {"gone": tmp_path / "gone.png"})
    with pytest.raises(MachineError):
        render_page(Report(kind="data", subject="parts"), {"bad": b"no picture"})


def test_any_kind_of_report_renders() -> None:
    report = Report(
        kind="parity",
        subject="bundle → onnx",
        metrics={
            "agreement": Metric(value=1.0, n=500),
            "largest_difference": Metric(value=2.5e-6),
            "gap": Metric(value=None),
        },
        tables={
            "rows": Table(columns=("image", "same", "margin"), rows=(("a.jpg", True, 0.25), ("b.jpg", False, None)))
        },
        findings=(Finding(code="margin", severity="error", message="one decision differs", rows=("b.jpg",)),),
        provenance={"nested": {"list": [1, {"deep": True}]}},
    )
    page = render_page(report)
    _parse(page)
    assert "2.5e-06" in page
    assert "one decision differs" in page
    _parse(render_page(Report(kind="data", subject="nothing")))


def test_page_of_208_classes_is_small(make_predictions: Maker, tmp_path: Path) -> None:
    names = [f"六角螺栓 steel M{number}" for number in range(208)]
    predictions, labels = make_predictions(names, n=2080)
    report = evaluate_predictions(predictions, labels, subject="parts", embeddings=predictions.probabilities)
    write_evaluation(report, predictions, labels, predictions.names, tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 10_000_000
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(f">{name}<" in page for name in names)


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "100.0%"), (0.9996, "99.96%"), (0.99996, "99.996%"), (0.0, "0.0%"), (0.0002, "0.02%")]
)
def test_almost_all_is_never_called_all(value: float, text: str) -> None:
    assert percent(value) == text


def test_the_verdict_names_the_weakest_class_and_the_worst_mistake(make_predictions: Maker) -> None:
    predictions, labels = make_predictions(("bolt", "nut", "gear"), n=90, sharpness=9.0)
    predictions.index[labels == 2] = 0
    summary = evaluate_predictions(predictions, labels, subject="parts").body["summary"]
    assert summary[0].startswith("60 of 90 images were classified right: 66.7%.")
    assert "“gear”: 0 of its 30 images" in summary[1]
    assert "“gear” was called “bolt” 30 times" in summary[2]
