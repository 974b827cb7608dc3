"""What the page of a frontier says and draws: order, verdicts, the target's limits, warnings about the choice."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sortal.compress.frontier.candidate import Candidate, Record
from sortal.compress.frontier.explore import Explored
from sortal.compress.frontier.measured import Measured, target_misses
from sortal.compress.frontier.picture import draw_frontier, spans
from sortal.compress.frontier.report import Frontier, frontier_report
from sortal.compress.frontier.wish import Wish
from sortal.compress.images import Prepared
from sortal.compress.judge import Price
from sortal.compress.pricing import Budget
from sortal.core.contract import Contract
from sortal.core.labels import LabelSet
from sortal.core.report import Metric
from sortal.evaluate.latency import Latency
from sortal.evaluate.pages.page import render_page
from sortal.evaluate.pages.view import is_share

LABELS = LabelSet(names=("划痕", "hex-bolt-m8-steel-seen-from-above-with-a-long-name", "O-ring"))


def latency(ms: float) -> Latency:
    return Latency(
        p50_ms=ms, p95_ms=ms, p99_ms=ms, p99_lower_ms=ms, p99_upper_ms=ms, mean_ms=ms, images_per_s=1000 / ms, n=300,
        batch=1, confidence=0.95, threads=1, engine="onnxruntime", precision="float32", machine="m", end_to_end=True,
    )  # fmt: skip


def record(wish: Wish, refused: str = "") -> Candidate:
    made = Record(
        side=wish.side, cut=wish.cut, precision=wish.precision, key="k", seconds=3.0, artifact="onnx", refused=refused
    )
    return Candidate(record=made, folder=Path("none"), origin=Path("none"))


def measured(
    wish: Wish, accuracy: float, ms: float, mb: float, *, objection: str = "", p99: float | None = None
) -> Measured:
    share = Metric(value=accuracy, low=accuracy - 0.01, high=min(1.0, accuracy + 0.01), n=600)
    drop = 100 * (0.97 - accuracy)
    cost = Price(
        accuracy=share,
        accuracy_drop=Metric(value=drop, low=drop - 0.6, high=drop + 0.7, n=600),
        macro_drop=Metric(value=drop, low=drop - 0.6, high=drop + 0.7, n=600),
        flips=np.arange(round(10 * abs(drop))),
        expected_flips=0.01,
        moved=0.02,
        recalls=(np.array([0.9, 1.0, np.nan]), np.array([accuracy - 0.1, 1.0, np.nan])),
        broken=(),
    )
    return Measured(
        candidate=record(wish),
        price=cost,
        error=0.3,
        size_bytes=round(1e6 * mb),
        artifact_bytes=round(1e6 * mb),
        engine="openvino" if wish.precision == "int8" else "onnxruntime",
        ms=ms,
        ratio=Metric(value=ms / 10, low=ms / 11, high=ms / 9, n=60),
        latency=None if p99 is None else latency(p99),
        objection=objection,
        steady=drop + 0.3 <= 0.5,
        original=wish == Wish(side=128),
    )


def frontier(*tried: Measured, contract: Contract | None = None, explored: Explored | None = None) -> Frontier:
    names = tuple(f"{n}.jpg" for n in range(600))
    labels = np.arange(600) % 2
    truth = Prepared(pixels=np.zeros((0, 1, 1, 3), np.uint8), labels=labels, names=names, groups=None)
    ground = SimpleNamespace(
        truth=truth,
        bundle=SimpleNamespace(labels=LABELS, id="b" * 64),
        table=SimpleNamespace(source="parts", content_digest="d" * 64),
        notes=(),
        remade=True,
    )
    explored = explored or Explored(candidates=[one.candidate for one in tried])
    budget = Budget(max_drop=0.5, contract=contract)
    return Frontier(ground=ground, explored=explored, measured=tried, budget=budget)  # type: ignore[arg-type]


def many() -> list[Measured]:
    tried = [measured(Wish(side=128), 0.97, 10.0, 9.4, p99=21.0)]
    for place, side in enumerate((128, 112, 96)):
        lost = 0.002 * place
        if side != 128:
            tried.append(measured(Wish(side=side), 0.97 - lost, 10 - 2 * place, 9.4, p99=20 - 3.0 * place))
        small = Wish(side=side, precision="int8")
        tried.append(measured(small, 0.969 - lost, 4 - place / 2, 2.6, p99=9 - place))
        for cut in (0.25, 0.5):
            less = 0.006 * cut + lost
            why = "loses 0.70 points, more than 0.5" if less > 0.005 else ""
            left = 1 - 0.6 * cut
            tried.append(measured(Wish(side=side, cut=cut), 0.97 - less, 8 * left, 9.4 * left, objection=why, p99=15.0))
            whole = Wish(side=side, cut=cut, precision="int8")
            tried.append(measured(whole, 0.969 - less, 3 * left, 2.6 * left, objection=why, p99=7.0))
    return tried


def test_many_candidates_in_order_with_verdicts_and_a_picture(tmp_path: Path) -> None:
    tried = many()
    explored = Explored(candidates=[one.candidate for one in tried])
    explored.candidates.append(record(Wish(side=80, precision="int8"), refused="int8: not faster than float32"))
    explored.skipped.append((Wish(side=80, cut=0.5), "would take about 6 min, and 2 s were left"))
    contract = Contract(max_size_mb=3.0, max_latency_ms=10.0)
    found = frontier(*tried, contract=contract, explored=explored)
    report = frontier_report(found, "parts-1")
    table = report.tables["candidates"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert len(rows) == len(tried) + 2
    assert rows[0]["verdict"] == "the original"
    assert [row["verdict"] for row in rows].count("taken") == 1
    taken = next(row for row in rows if row["verdict"] == "taken")
    good = [one.size_bytes for one in tried[1:] if not one.objection and one.steady]
    assert 1e6 * taken["size_mb"] <= 1.05 * min(good)
    assert rows[-2]["verdict"] == "int8: not faster than float32"
    assert rows[-1]["verdict"].startswith("not tried")
    assert {finding.code for finding in report.findings} >= {"chosen_among_many", "not_tried", "judged_alike"}
    assert f"{len(tried)} networks" in next(f.message for f in report.findings if f.code == "chosen_among_many")
    target = report.tables["target"].rows
    assert [(row[0], row[4]) for row in target[:2]] == [("max_size_mb", "missed"), ("max_latency_ms", "missed")]
    assert [(row[0], row[4]) for row in target[2:]] == [("max_size_mb", "kept"), ("max_latency_ms", "kept")]
    picture = draw_frontier(found, report, tmp_path / "frontier.png")
    with Image.open(picture) as image:
        assert image.width > 1_000
    page = render_page(report, {"accuracy, time and size": picture})
    assert "划痕" in page
    (tmp_path / "page.html").write_text(page, encoding="utf-8")


def test_what_is_drawn_is_inside_the_picture() -> None:
    row = {"size_mb": 2.767, "accuracy": 0.978, "accuracy_low": 0.88, "accuracy_high": 0.996, "verdict": "taken"}
    other = {"size_mb": 2.767, "accuracy": 0.667, "accuracy_low": 0.52, "accuracy_high": 0.786}
    other |= {"verdict": "the original"}
    for least in (-33.0, 60.0, 40.0):  # a budget of 100 points leaves no accuracy that would be too low
        (left, right), (low, high) = spans([row, other], "size_mb", least)
        assert left == 0 < 2.767 < 0.9 * right
        assert -2 <= low < 52 < 99.6 < high <= 104
        assert low < least or least < 0
    assert spans([], "size_mb", 50.0) == ((0.0, 1.15), (44.0, 104.0))


def test_columns_that_a_page_shows_as_percentages_hold_shares() -> None:
    report = frontier_report(frontier(*many()), "parts-1")
    for name, table in report.tables.items():
        for column, values in zip(table.columns, zip(*table.rows, strict=True), strict=True):
            numbers = [value for value in values if isinstance(value, float)]
            assert not is_share(column) or all(-1 <= value <= 1 for value in numbers), (name, column)


def test_where_nothing_fits_the_network_stays() -> None:
    own, small = measured(Wish(side=128), 0.97, 10.0, 9.4), measured(Wish(side=96), 0.9, 5.0, 9.4, objection="loses 7")
    report = frontier_report(frontier(own, small), "parts-1")
    assert report.body["verdict"] == "refused"
    assert report.body["shipped"] == []
    assert report.findings[0].code == "none_fits"
    assert "stays as it is" in report.body["summary"][0]
    assert report.tables.keys() == {"candidates"}


def test_an_interruption_is_told() -> None:
    own = measured(Wish(side=128), 0.97, 10.0, 9.4)
    explored = Explored(candidates=[own.candidate], interrupted=True)
    report = frontier_report(frontier(own, explored=explored), "parts-1")
    assert "interrupted" in [finding.code for finding in report.findings]


@pytest.mark.parametrize(
    ("size_bytes", "ms", "words"),
    [(2_000_000, 5.0, []), (4_000_000, 5.0, ["4.00 MB"]), (4_000_000, 25.0, ["4.00 MB", "25.0 ms"])],
)
def test_limits_of_the_target(size_bytes: int, ms: float, words: list[str]) -> None:
    said = target_misses(Contract(max_size_mb=3.0, max_latency_ms=10.0), size_bytes, latency(ms))
    assert bool(said) == bool(words)
    for word in words:
        assert word in said
    assert target_misses(None, size_bytes, None) == ""
