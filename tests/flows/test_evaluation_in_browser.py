"""The page of an evaluation in a real browser: cells, classes, bins and rows lead to their images."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from tests.browser import document

from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.predictions import predictions_from_logits
from sortal.evaluate.evaluation import evaluate_predictions
from sortal.evaluate.files import write_evaluation
from sortal.evaluate.trust.reliability import reliability, reliability_table

NAMES = ("hex nut", "螺栓 </script>", "washer & co", "O-ring/seal")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 answers about 4 classes; of the first class 12 of 100 are called the second."""
    generator = np.random.Generator(np.random.Philox(key=1))
    labels = np.arange(400) % 4
    wanted = labels.copy()
    wanted[:48:4] = 1
    logits = generator.normal(size=(400, 4)).astype(np.float32) * 0.1
    logits[np.arange(400), wanted] += generator.uniform(1, 6, 400)
    predictions = predictions_from_logits(
        logits,
        names=[f"shelf/{row:03d}.jpg" for row in range(400)],
        labels=LabelSet(names=NAMES),
        decision=DecisionSpec(),
        bundle_id="",
    )
    right = predictions.index == labels
    report = evaluate_predictions(predictions, labels, subject="parts")
    tables = {**report.tables, "reliability": reliability_table(reliability(predictions.probability, right))}
    folder = tmp_path_factory.mktemp("page")
    write_evaluation(
        report.model_copy(update={"tables": tables}),
        predictions,
        labels,
        predictions.names,
        folder,
        show=lambda rows: [np.full((40, 72, 3), 90, np.uint8) for _ in rows],
    )
    return folder / "report.html"


def result(text: str) -> Any:
    """What the steps returned."""
    error = re.search(r'<body[^>]* data-error="([^"]*)"', text)
    assert error is None, error and html.unescape(error.group(1))
    found = re.search(r'<body[^>]* data-result="([^"]*)"', text)
    assert found is not None
    return json.loads(html.unescape(found.group(1)))


SEEN = """({
  title: document.getElementById('shown-title').textContent,
  images: document.querySelectorAll('#shown-list li').length,
  pictures: document.querySelectorAll('#shown-list img').length,
  hidden: panel.hidden,
})"""


def test_a_click_on_a_cell_shows_its_images_and_names_it_in_the_address(page: Path, tmp_path: Path) -> None:
    steps = f"""
      const box = canvas.getBoundingClientRect(), spot = [place[0], place[1]];
      const clientX = box.left + view.left + (spot[1] + .5) * view.cell;
      const clientY = box.top + view.top + (spot[0] + .5) * view.cell;
      canvas.setPointerCapture = () => {{}};
      for (const kind of ['pointerdown', 'pointerup'])
        canvas.dispatchEvent(new PointerEvent(kind, {{clientX, clientY, pointerId: 1, bubbles: true}}));
      return {{...{SEEN}, address: location.hash}};"""
    found = result(document(page, tmp_path, steps=steps))
    assert found["title"] == "hex nut answered 螺栓 </script>: 12 of 100 (12%)"
    assert (found["images"], found["pictures"], found["hidden"]) == (12, 12, False)
    assert found["address"] == f"#cell=hex%20nut/{quote(NAMES[1], safe='')}"


def test_an_address_opens_its_cell_and_its_class(page: Path, tmp_path: Path) -> None:
    cell = f"#cell={quote(NAMES[0])}/{quote(NAMES[1], safe='')}"
    found = result(document(page, tmp_path, address=cell, steps=f"return {SEEN}"))
    assert found["images"] == 12
    found = result(document(page, tmp_path, address=f"#class={quote(NAMES[3], safe='')}", steps=f"return {SEEN}"))
    assert found["title"] == NAMES[3]
    assert found["images"] == 60  # of 100, then a button for more


def test_keys_move_in_the_matrix_and_enter_opens_a_cell(page: Path, tmp_path: Path) -> None:
    steps = f"""
      for (const key of ['ArrowRight', 'ArrowLeft', 'ArrowDown', 'ArrowUp', 'Enter'])
        canvas.dispatchEvent(new KeyboardEvent('keydown', {{key, cancelable: true}}));
      return {SEEN}"""
    found = result(document(page, tmp_path, steps=steps))
    assert found["title"].startswith(f"{NAMES[0]}: 88 of 100 right")


def test_rows_of_tables_and_bins_of_the_curve_lead_to_images(page: Path, tmp_path: Path) -> None:
    steps = f"""
      const seen = [];
      document.querySelector('table[data-name=confused_pairs] tbody tr').click(); seen.push({SEEN});
      document.querySelector('table[data-name=per_class] tbody tr').click(); seen.push({SEEN});
      document.querySelector('#reliability .hit').dispatchEvent(new MouseEvent('click')); seen.push({SEEN});
      return seen;"""
    pair, own, bin_ = result(document(page, tmp_path, steps=steps))
    assert pair["images"] == 12
    assert own["title"] in NAMES
    assert bin_["images"] > 0
    assert "stated" in bin_["title"]


def test_orders_zoom_and_search(page: Path, tmp_path: Path) -> None:
    steps = """
      const before = view.cell; document.getElementById('matrix-in').click(); const zoomed = view.cell > before;
      document.getElementById('matrix-fit').click(); const whole = view.cell === before;
      const orders = [...choice.options].map((option) => option.value);
      choice.value = 'weakest'; choice.dispatchEvent(new Event('change')); const first = classes[order[0]];
      find.value = 'washer & co'; find.dispatchEvent(new Event('change'));
      return {zoomed, whole, orders, first, found: document.getElementById('shown-title').textContent};"""
    found = result(document(page, tmp_path, steps=steps))
    assert found["zoomed"]
    assert found["whole"]
    assert found["orders"] == ["as trained", "confusions", "weakest", "images", "name"]
    assert found["first"] == "hex nut"
    assert found["found"] == "washer & co"


def test_a_narrow_window_holds_the_whole_page(page: Path, tmp_path: Path) -> None:
    steps = "return [document.documentElement.scrollWidth, innerWidth, canvas.clientWidth]"
    wide, inner, drawn = result(document(page, tmp_path, steps=steps, width=500))
    assert wide <= inner
    assert 0 < drawn <= inner
