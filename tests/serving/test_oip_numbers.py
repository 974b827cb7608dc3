"""Long lists of numbers in JSON: read as a parser of JSON reads them, and in pieces, so that others are answered."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servers import Server, Start
from sortal.core.errors import InputError
from sortal.serve.oip.numbers import take_out_lists
from sortal.serve.oip.tensors import read_request

SHAPE = (40, 16, 16, 3)
MARKS = b'[],0123456789 .-eE"{}:\\tnN'


def values(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def body(data: Any, shape: tuple[int, ...] = SHAPE, **how: Any) -> bytes:
    item = {"name": "image", "datatype": "UINT8", "shape": list(shape), "data": data, "parameters": {"a": "]}\\"}}
    return json.dumps({"id": '[1]"\\', "inputs": [item]}, **how).encode()


def as_a_parser_does(text: bytes) -> np.ndarray | None:
    """The numbers; None where Python's JSON and NumPy find none of the datatype and shape."""
    try:
        data = json.loads(text)["inputs"][0]["data"]
        found = np.asarray(data)
        cast = found.astype(np.uint8)
    except (ValueError, OverflowError, TypeError, KeyError, IndexError):
        return None
    fits = found.dtype.kind in "biuf" and found.size == np.prod(SHAPE) and np.array_equal(cast, found)
    return cast.reshape(SHAPE) if fits else None


def as_we_do(text: bytes) -> np.ndarray | None:
    try:
        return read_request(text, None).tensors.get("image")
    except InputError:
        return None


@pytest.mark.parametrize("how", [{}, {"separators": (",", ":")}, {"indent": 1}, {"sort_keys": True}])
@pytest.mark.parametrize("shape", [(-1,), (40, -1), SHAPE, (1, 1, 40, 16, 16, 3), (-1, 1)])
def test_lists_nested_or_flat_are_the_numbers_that_were_written(shape: tuple[int, ...], how: dict[str, Any]) -> None:
    text = body(values().reshape(shape).tolist(), **how)
    rest, lists = take_out_lists(text)
    assert len(rest) < 1000 < 64 * 1024 < len(text)
    assert len(lists) == 1
    found = read_request(text, None)
    assert found.name == '[1]"\\'
    assert np.array_equal(found.tensors["image"], values())


@pytest.mark.parametrize("shape", [(-1,), (40, 16, 16, 3)])
def test_a_byte_that_is_another_has_the_verdict_of_a_parser(shape: tuple[int, ...]) -> None:
    text = body(values().reshape(shape).tolist(), indent=None if shape == (-1,) else 0)
    random, verdicts = np.random.default_rng(1), list[bool]()
    for _ in range(250):
        changed = bytearray(text)
        for place in random.integers(0, len(text), random.integers(1, 3)):
            changed[place] = MARKS[random.integers(len(MARKS))]
        expected, found = as_a_parser_does(bytes(changed)), as_we_do(bytes(changed))
        verdicts.append(found is not None)
        assert (expected is None) == (found is None), changed
        assert expected is None or found is None or np.array_equal(expected, found)
    assert 10 < sum(verdicts) < 240


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"], [", b", ["),
        (b"], [", b"] ["),
        (b"], [", b"]], ["),
        (b"], [", b"], [[7], "),
        (b"[[[[", b"[[[["[:3]),
        (b"[[[[", b"7, [[[["),
        (b"[[[[", b"[7[[["),
        (b"]]]]", b"]]7]]"),
        (b"]]]]", b"]]]],"),
        (b"]]]]", b"]]]]]"),
        (b"]]]]", b"]]], [7]]"),
        (b"]]]]", b"], [1, 2]]]]"),
        (b"]]]]", b"]]]"),
        (b"]]]]", b"]]]] 7"),
    ],
)
def test_brackets_in_the_wrong_place_are_no_numbers(before: bytes, after: bytes) -> None:
    text = body(values().tolist())
    assert text.count(before) >= 1
    changed = text.replace(before, after, 1)
    assert as_a_parser_does(changed) is None
    assert as_we_do(changed) is None


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "null", '"1"', "{}", "1e400", "256", "-1", "0.5", "1 2", "01", ""])
def test_one_odd_number_among_many_is_refused(odd: str) -> None:
    numbers = [str(one) for one in values().reshape(-1)]
    numbers[20_000] = odd
    text = body([]).replace(b"[]", f"[{','.join(numbers)}]".encode())
    with pytest.raises(InputError):
        read_request(text, None)


def test_a_client_cannot_name_a_list_itself() -> None:
    text = body(values().reshape(-1).tolist())
    [name] = take_out_lists(text)[1]
    assert name not in take_out_lists(text)[1]
    assert as_we_do(body(name)) is None


@pytest.mark.parametrize("piece", [b'"\\"', b'"', b"\\", b'","', b"[", b'{"a":[', b":[", b'":', b" "])
def test_what_is_large_and_no_list_of_numbers_is_refused(piece: bytes) -> None:
    for start in (b"", b'{"inputs": [{"data": ', b'{"a'):
        with pytest.raises(InputError):
            read_request(start + piece * (3_000_000 // len(piece)), None)


def test_json_beside_the_numbers_has_a_limit_that_names_the_way_out() -> None:
    with pytest.raises(InputError, match="256 kB") as refused:
        read_request(body("x" * 300_000), None)
    assert "binary_data_size" in str(refused.value)


def test_no_more_than_a_piece_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python's JSON is given holds the interpreter until it is read."""
    sizes, loads = list[int](), json.loads

    def noted(text: bytes, **how: Any) -> Any:
        sizes.append(len(text))
        return loads(text, **how)

    shape = (2000, 16, 16, 3)
    text = body(values(shape).tolist(), shape)
    monkeypatch.setattr(json, "loads", noted)
    assert np.array_equal(read_request(text, None).tensors["image"], values(shape))
    assert len(text) > 7_000_000
    assert max(sizes) < 64 * 1024


def test_others_are_answered_while_a_large_body_is_read(start: Start, bundles: tuple[Path, Path]) -> None:
    server = start(bundles[0], "workers=1", "name=one", "warm=false")
    shape = (4000, 16, 16, 3)
    text = body(values(shape).tolist(), shape)
    told: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: told.append(_answer(server, text)))
    asking.start()
    alive = 0
    while not told:
        assert server.ask("GET", "/livez")[0] == 200
        alive += not told
    asking.join()
    assert told[0][0] == 400
    assert b"a request brings 1 to 64 images" in told[0][1]
    assert alive >= 20
    status, answer = _index(server, text)
    assert status == 413
    assert b"64 kB at most" in answer
    server.account()


def _answer(server: Server, text: bytes) -> tuple[int, bytes]:
    status, _, answer = server.ask("POST", "/v2/models/one/infer", text)
    return status, answer


def _index(server: Server, text: bytes) -> tuple[int, bytes]:
    status, _, answer = server.ask("POST", "/v2/repository/index", text)
    return status, answer
