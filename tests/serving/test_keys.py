"""The file of keys, what a server makes of it, and how often somebody may ask."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from sortal.core.errors import ConflictError, InputError, NotFoundError
from sortal.serve.guard.access import ANY_KEY, ANYBODY, FEEDBACK, INFER
from sortal.serve.guard.keys import KeyFile, add_key, masked, read_keys, revoke_key, rotate_key, span
from sortal.serve.guard.rates import MOST_TRIES, WINDOW_S, Bucket, WrongTries, subscriber
from sortal.serve.guard.ring import Admitted, KeyRing, Refusal
from sortal.serve.guard.watch import Watched

HOME = "192.0.2.1"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def reason(ring: KeyRing, secret: str | None, address: str = HOME) -> str:
    found = ring.admit(secret, INFER, address)
    return found.reason if isinstance(found, Refusal) else ""


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sortal", "keys", *map(str, words)], capture_output=True, text=True)


def test_a_key_is_printed_once_and_its_digest_stored(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    done = command("add", file, "station-2", "--role", "infer", "--expires", "90d", "--rate", "20/s", "--burst", "5")
    assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    assert key.startswith("sortal_")
    assert len(key) == len("sortal_") + 43  # 256 bits in base64
    assert key not in file.read_text()
    [stored] = read_keys(file).keys
    assert stored.sha256 == sha256(key.encode()).hexdigest()
    assert (stored.rate, stored.burst, stored.roles) == (20.0, 5, ("infer",))
    assert stored.expires is not None
    assert stored.expires - stored.created == timedelta(days=90)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert reason(KeyRing(file), key) == ""


def test_the_command_lists_exchanges_and_revokes(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    one = command("add", file, "one").stdout.strip()
    command("add", file, "prometheus", "--role", "metrics", "--role", "feedback")
    shown = command("list", file).stdout
    assert "prometheus" in shown
    assert "metrics, feedback" in shown
    assert "sha256" not in command("list", file, "--json").stdout
    two = command("rotate", file, "one", "--overlap", "2d").stdout.strip()
    ring = KeyRing(file)
    assert (reason(ring, one), reason(ring, two)) == ("", "")
    later = KeyRing(file, now=lambda: datetime.now(UTC) + timedelta(days=3))
    assert (reason(later, one), reason(later, two)) == ("expired", "")
    assert command("revoke", file, "one").returncode == 0
    assert [reason(KeyRing(file), key) for key in (one, two)] == ["wrong key"] * 2
    assert [key["name"] for key in json.loads(command("list", file, "--json").stdout)] == ["prometheus"]
    for words, said in (
        (("add", file, "prometheus"), "sortal keys rotate"),
        (("revoke", file, "nobody"), "prometheus"),
        (("add", file, "x", "--role", "chief"), "infer"),
        (("add", file, "a/b"), "name"),
        (("add", file, "x", "--expires", "soon"), "90d"),
        (("add", file, "x", "--rate", "fast"), "20/s"),
        (("add", file), "NAME"),
        (("list", tmp_path / "none.yaml"), "no such file"),
        (("remove", file, "x"), "revoke"),
    ):
        done = command(*words)
        assert done.returncode == 2, words
        assert said in done.stderr, words
        assert "Traceback" not in done.stderr


def test_rotation_ends_and_lasts_as_long_as_before(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    first = add_key(file, "one", ("infer",), expires="30d", rate="600/m")
    second = rotate_key(file, "one", overlap="0s")
    keys = read_keys(file).keys
    assert [key.rate for key in keys] == [10.0]
    assert keys[0].expires is not None
    assert keys[0].expires - keys[0].created == timedelta(days=30)
    assert [reason(KeyRing(file), key) for key in (first, second)] == ["wrong key", ""]


def test_many_who_add_at_once_lose_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    code = "import sys;from pathlib import Path;from sortal.serve.guard.keys import add_key;"
    code += "add_key(Path(sys.argv[1]),sys.argv[2],('infer',))"

    def add(number: int) -> int:
        done = subprocess.run([sys.executable, "-c", code, str(file), f"k{number}"], capture_output=True)
        return done.returncode

    with ThreadPoolExecutor(4) as threads:
        codes = list(threads.map(add, range(8)))
    assert len(read_keys(file).keys) == codes.count(0) >= 1  # who was refused has been told so


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "a: 1",
        "keys: 3",
        "keys: [{name: a}]",
        "format: 2",
        "- 1",
        "",
        "0",
        "\x00",
        "keys: 2026-99-99",
        "keys: !!timestamp x",
        "[" * 5000,
        "keys: [{name: a, roles: [boss]}]",
    ],
)
def test_a_broken_file_keeps_the_keys_that_were_good(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.yaml"
    key = add_key(file, "one", ("infer",))
    ring, told = KeyRing(file), list[dict[str, object]]()
    watched = Watched("keys", [file], ring.load, told.append)
    file.write_text(text)
    watched.look()
    watched.look()
    assert [event["event"] for event in told] == ["keys not reloaded"]
    assert str(file) in str(told[0]["reason"])
    assert reason(ring, key) == ""
    file.unlink()
    watched.look()
    assert reason(ring, key) == ""
    other = add_key(file, "two", ("infer",))
    watched.look()
    assert told[-1] == {"event": "keys reloaded"}
    assert (reason(ring, key), reason(ring, other)) == ("wrong key", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_file_that_others_may_change_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    add_key(file, "one", ("infer",))
    file.chmod(0o620)
    with pytest.raises(InputError, match="others may change"):
        KeyRing(file)
    file.chmod(0o644)
    KeyRing(file)


def test_what_is_wrong_is_said_in_python_too(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    add_key(file, "one", ("infer",))
    with pytest.raises(ConflictError):
        add_key(file, "one", ("infer",))
    with pytest.raises(NotFoundError):
        revoke_key(file, "two")
    with pytest.raises(InputError):
        add_key(file, "three", ())
    assert span("90d") == timedelta(days=90)
    assert yaml.safe_load(file.read_text())["format"] == KeyFile().format


def test_ten_wrong_keys_from_one_address_and_it_has_to_wait(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys.yaml", Clock()
    key = add_key(file, "one", ("infer",))
    ring = KeyRing(file)
    ring._tries = WrongTries(clock=clock)
    assert [reason(ring, f"guess {number}") for number in range(MOST_TRIES)] == ["wrong key"] * MOST_TRIES
    found = ring.admit("guess", INFER, HOME)
    assert isinstance(found, Refusal)
    assert (found.reason, 0 < found.retry_after_s <= WINDOW_S) == ("too many wrong keys", True)
    assert reason(ring, "guess", "192.0.2.2") == "wrong key"
    assert reason(ring, key) == ""  # who has a key is not locked out by a neighbour who tries
    assert reason(ring, None) == "no key"  # and is no try
    clock.now_s += WINDOW_S
    assert reason(ring, "guess") == "wrong key"


def test_addresses_without_end_take_no_memory_without_end() -> None:
    tries = WrongTries(clock=Clock())
    for number in range(20_000):
        tries.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(tries) <= 4096
    assert subscriber("2001:db8:1:2::5") == subscriber("2001:db8:1:2:ffff::9") != subscriber("2001:db8:1:3::5")
    assert subscriber("::ffff:192.0.2.1") == "192.0.2.1"
    assert subscriber("fe80::1%eth0") == subscriber("fe80::2")
    assert subscriber("unix:") == "unix:"


def test_a_bucket_lets_a_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = Bucket(2.0, 5, clock=clock)
    assert [bucket.take() for _ in range(5)] == [0.0] * 5
    assert bucket.take() == pytest.approx(0.5)
    let = 0
    for _ in range(1000):
        clock.now_s += 0.01
        let += bucket.take() == 0.0
    assert let == 20  # ten seconds of two
    clock.now_s += 1e6
    assert [bucket.take() == 0.0 for _ in range(6)] == [True] * 5 + [False]
    slow = Bucket(0.1, clock=clock)
    assert slow.take() == 0.0
    assert slow.take() == pytest.approx(10.0)


def test_a_limit_that_did_not_change_is_not_given_anew_by_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    key = add_key(file, "one", ("infer",), rate="1/h", burst=1)
    ring = KeyRing(file)
    assert [reason(ring, key), reason(ring, key)] == ["", "too often"]
    add_key(file, "two", ("infer",))
    ring.load()
    assert reason(ring, key) == "too often"


def test_roles_open_what_they_name_and_no_more(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    both = add_key(file, "both", ("infer", "feedback"))
    chief = add_key(file, "chief", ("admin",))
    ring = KeyRing(file)
    for key, allowed, may in (
        (both, INFER, True),
        (both, FEEDBACK, True),
        (both, frozenset({"metrics"}), False),
        (both, frozenset(), False),
        (chief, frozenset(), True),
        (chief, FEEDBACK, True),
        ("", ANYBODY, True),
        ("", ANY_KEY, False),
    ):
        assert isinstance(ring.admit(key, allowed, HOME), Admitted) is may, (key, allowed)


def test_no_key_is_written_where_texts_go() -> None:
    key = "sortal_" + "aB3-_" * 8
    assert masked(f'{{"id": "{key}"}} and {key}!') == '{"id": "sortal_***"} and sortal_***!'
    assert masked("sortal_requests_total 3") == "sortal_requests_total 3"
