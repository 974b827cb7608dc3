"""What /metrics tells: names by the rules, counts that agree with what was asked, and an account that shows losses."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from programs import need_program
from servers import Server, Start
from sortal.serve.account import Account, Call
from sortal.serve.metrics import Metrics
from sortal.serve.telemetry.class_names import MOST, OTHERS, counted_names

UNITS = ("seconds", "bytes", "ratio", "images")
STATES = re.compile(r"sortal_(ready|workers_(ready|wanted|busy)|requests_(open|unaccounted)|events_waiting)")


def described(names: list[str], parents: list[str] | None = None) -> dict[str, Any]:
    return {"labels": names, "label_set": {"parents": parents}}


def test_names_are_those_of_prometheus_conventions(shared: Server, colors: dict[str, bytes]) -> None:
    assert shared.predict(colors["red"])[0] == 200
    families = list(text_string_to_metric_families(shared.ask("GET", "/metrics")[2].decode()))
    ours = [one for one in families if one.name.startswith("sortal_")]
    assert len(ours) > 20
    for one in ours:
        assert re.fullmatch(r"sortal_[a-z_]+", one.name), one.name
        assert one.documentation, one.name
        if one.type == "histogram":
            assert one.name.endswith(UNITS), one.name
        if one.type == "gauge" and not one.name.endswith("_info"):
            assert one.name.endswith(UNITS) or STATES.fullmatch(one.name), one.name
        if one.type == "counter":
            assert {sample.name for sample in one.samples} <= {f"{one.name}_total"}, one.name
        labels = {key for sample in one.samples for key in sample.labels}
        assert labels <= {"way", "outcome", "model", "role", "class", "le", "bundle_id", "engine", "version", "python"}


def test_promtool_has_nothing_to_say_about_them(shared: Server, colors: dict[str, bytes]) -> None:
    promtool = need_program("promtool", "prometheus")
    shared.predict(colors["red"])
    told = subprocess.run([promtool, "check", "metrics"], input=shared.ask("GET", "/metrics")[2], capture_output=True)
    assert (told.returncode, told.stderr) == (0, b"")


def test_numbers_agree_with_what_was_asked(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1", "name=colors", "images=8", "warm=false")
    for _ in range(3):
        assert server.predict(colors["red"])[0] == 200
    together = {"images": [base64.b64encode(one).decode() for one in (colors["blue"], b"nothing")]}
    assert server.predict(json.dumps(together).encode(), content_type="application/json")[0] == 200
    assert server.predict(b"nothing")[0] == 422
    assert server.predict(b"")[0] == 400
    numbers = server.numbers()
    assert numbers['sortal_requests_total{outcome="ok",way="http"}'] == 4
    assert numbers['sortal_requests_total{outcome="client_error",way="http"}'] == 2
    assert numbers['sortal_images_total{model="colors",outcome="ok",role="live"}'] == 4
    assert numbers['sortal_images_total{model="colors",outcome="unreadable",role="live"}'] == 2
    assert numbers['sortal_answers_total{class="red",model="colors",role="live"}'] == 3
    assert numbers['sortal_answers_total{class="green",model="colors",role="live"}'] == 0
    assert numbers['sortal_answers_total{class="blue",model="colors",role="live"}'] == 1
    assert numbers["sortal_answer_confidence_ratio_count"] == 4
    assert 3 < numbers["sortal_answer_confidence_ratio_sum"] <= 4
    assert numbers["sortal_batch_images_sum"] == numbers["sortal_image_queue_seconds_count"] == 6
    assert numbers["sortal_request_body_seconds_count"] == 5  # one had no image
    assert numbers["sortal_request_seconds_count"] == 6
    inside = numbers["sortal_batch_decode_seconds_sum"] + numbers["sortal_batch_network_seconds_sum"]
    assert 0 < numbers["sortal_batch_network_seconds_sum"] < inside
    assert inside < numbers["sortal_worker_busy_seconds_total"] < numbers["sortal_request_seconds_sum"]
    assert 10e6 < numbers["process_resident_memory_bytes"] < 1e9
    assert 10e6 < numbers["sortal_workers_resident_memory_bytes"] < 2e9
    assert numbers["sortal_ready"] == numbers["sortal_workers_ready"] == 1
    server.account()

    os.kill(server.workers()[0], signal.SIGKILL)
    end = time.monotonic() + 60
    while server.numbers()["sortal_worker_starts_total"] < 2 or server.numbers()["sortal_workers_ready"] < 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.numbers()["sortal_worker_deaths_total"] == 1
    server.account()


def test_a_call_that_is_forgotten_or_finished_twice_is_seen() -> None:
    lines: list[dict[str, Any]] = []
    metrics = Metrics()
    account = Account(metrics, lines.append)

    def numbers() -> tuple[float, float]:
        lines = metrics.text().decode().splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("sortal_requests_"))
        return float(found["sortal_requests_open"]), float(found["sortal_requests_unaccounted"])

    call: Call | None = account.begin("http", "a")
    assert numbers() == (1, 0)
    call = None
    assert call is None
    assert numbers() == (0, 1)
    other = account.begin("grpc", "b")
    account.finish(other, "ok", "OK")
    assert numbers() == (0, 1)
    account.finish(other, "ok", "OK")
    assert numbers() == (0, 0)  # one lost and one told twice
    assert [line["outcome"] for line in lines] == ["ok", "ok"]


@pytest.mark.parametrize(("families", "told"), [(30, "family 29"), (MOST + 1, OTHERS), (None, OTHERS)])
def test_many_classes_are_counted_by_family_or_together(families: int | None, told: str) -> None:
    names = [f"class {number}" for number in range(MOST + 1)]
    parents = None if families is None else [f"family {number % families}" for number in range(MOST + 1)]
    metrics = Metrics()
    of = metrics.of("many")
    answer = {"index": 29, "probability": 0.9, "abstained": True, "unknown": True}
    of.answered(answer, described(names, parents))
    text = metrics.text().decode()
    assert f'sortal_answers_total{{class="{told}",model="many",role="live"}} 1.0' in text
    assert text.count("sortal_answers_total{") <= MOST
    assert 'sortal_answers_abstained_total{model="many",role="live"} 1.0' in text
    assert 'sortal_answers_unknown_total{model="many",role="live"} 1.0' in text


def test_classifiers_that_follow_each_other_do_not_add_classes_without_end() -> None:
    metrics = Metrics()
    of = metrics.of("line")
    for round_ in range(5):
        of.answered(
            {"index": 0, "probability": 0.5, "abstained": False}, described([f"{round_}-{n}" for n in range(200)])
        )
    text = metrics.text().decode()
    assert text.count("sortal_answers_total{") == 401
    assert f'sortal_answers_total{{class="{OTHERS}",model="line",role="live"}} 3.0' in text


def test_as_many_classes_as_are_allowed_keep_their_names() -> None:
    names = [str(number) for number in range(MOST)]
    assert counted_names(names, ["family"] * MOST, taken=()) == names
