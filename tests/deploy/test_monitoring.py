"""Dashboard, scrape configuration and alert rules: they name what a server tells, and every alert fires and ends."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from programs import need_program
from servers import Server

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
_METRIC = re.compile(r"\b(?:sortal|process)_[a-z_]+\b")


def panels() -> list[dict[str, Any]]:
    board = json.loads((DEPLOY / "grafana" / "sortal.json").read_text(encoding="utf-8"))
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def dashboard() -> Iterator[tuple[str, str]]:
    """(title of a panel, expression) of each."""
    for panel in panels():
        assert panel["targets"], panel["title"]
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_metric_that_is_drawn_or_watched_is_told(server: Server, red: bytes) -> None:
    assert server.predict(red)[0] == 200
    text = server.ask("GET", "/metrics")[2].decode()
    told = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    labels = set(re.findall(r'[{,]([a-z_]+)="', text))
    used = list(dashboard()) + [(rule["alert"], rule["expr"]) for rule in rules()]
    assert len(used) > 40
    for title, expression in used:
        for name in _METRIC.findall(expression):
            assert name in told, f"{title}: {name}"
        for matchers in re.findall(r"\{([^}]*)\}", expression):
            for label in re.findall(r"([a-z_]+)[=!]", matchers):
                assert label in labels | {"job", "instance"}, f"{title}: {label}"


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_expressions_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    promtool = need_program("promtool", "prometheus")
    plain = [re.sub(r"\$__rate_interval", "1m", expression).replace("$", "") for _, expression in dashboard()]
    written = [{"record": f"panel:number_{number}", "expr": expression} for number, expression in enumerate(plain)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": written}]}))
    told = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_every_alert_fires_after_its_time_and_ends() -> None:
    promtool = need_program("promtool", "prometheus")
    told = subprocess.run(
        [promtool, "test", "rules", "alerts.test.yaml"], cwd=PROMETHEUS, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout + told.stderr
    cases = yaml.safe_load((PROMETHEUS / "alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    fires = {check["alertname"] for check in checks if check.get("exp_alerts")}
    assert fires == {rule["alert"] for rule in rules()}
    for name in fires:  # silent before, fires, silent after
        assert [bool(check.get("exp_alerts")) for check in checks if check["alertname"] == name].count(False) >= 2, name


def test_every_alert_says_how_bad_it_is_and_what_happened() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"]["summary"]
        assert "instance" in rule["annotations"]["summary"] or "model" in rule["annotations"]["summary"]


@pytest.mark.parametrize(
    ("program", "package", "words"),
    [
        ("promtool", "prometheus", ["check", "config", "prometheus.yaml"]),
        ("amtool", "prometheus-alertmanager", ["check-config", "alertmanager.yaml"]),
    ],
)
def test_configurations_are_valid(program: str, package: str, words: list[str]) -> None:
    told = subprocess.run([need_program(program, package), *words], cwd=PROMETHEUS, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
