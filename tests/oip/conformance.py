"""Does a server speak the Open Inference Protocol, version 2, as its clients need it?

    python conformance.py --http 127.0.0.1:8000 --grpc 127.0.0.1:8001 --model NAME [--json FILE]

Questions are made from the model's own metadata, so that any model of any server can be asked; nobody else should ask
it meanwhile, since requests are counted. Needs numpy and `tritonclient[http,grpc]`. Prints a table; ends with 1 where a
row fails, with 2 where the server cannot be asked at all. Rows about extensions that the server does not list are
`not offered`, and fail nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rows_clients  # noqa: F401 - each puts its rows into the table
import rows_grpc
import rows_http  # noqa: F401
from rows import ROWS, Row
from target import NotOfferedError, Target
from tritonclient.grpc import service_pb2

_ORDER = ("http", "grpc")
PASS, FAIL, NOT_OFFERED = "pass", "FAIL", "not offered"


def look(target: Target) -> None:
    """Read what the server says about itself, over HTTP where that is tested."""
    if target.http is not None:
        target.extensions = target.json("GET", "/v2")["extensions"]
        target.metadata = target.json("GET", target.path)
        if "model_configuration" in target.extensions:
            target.config = target.json("GET", f"{target.path}/config")
        return
    with rows_grpc.Stub(target) as stub:
        target.extensions = list(stub.ServerMetadata(service_pb2.ServerMetadataRequest()).extensions)
        told = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=target.model))
        if "model_configuration" in target.extensions:
            config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=target.model)).config
            target.config = {"max_batch_size": config.max_batch_size}
    target.metadata = {"versions": list(told.versions)} | {
        name: [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in tensors]
        for name, tensors in (("inputs", told.inputs), ("outputs", told.outputs))
    }


def run(target: Target, row: Row) -> dict[str, Any]:
    """One line of the table."""
    started = time.perf_counter()
    verdict, said = PASS, ""
    try:
        row.check(target)
    except NotOfferedError as reason:
        verdict, said = NOT_OFFERED, str(reason)
    except Exception as error:  # whatever a client raises is what its users would see
        verdict, said = FAIL, f"{type(error).__name__}: {error}".split("\n")[0][:300]
    seconds = round(time.perf_counter() - started, 2)
    return {"way": row.way, "title": row.title, "verdict": verdict, "said": said, "seconds": seconds}


def table(target: Target, told: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Every row that can be asked there; `told` gets each when it is done."""
    found = []
    for row in sorted(ROWS, key=lambda one: _ORDER.index(one.way) if one.way in _ORDER else len(_ORDER)):
        if all(getattr(target, way) is not None for way in row.needs):
            found.append(run(target, row))
            told(found[-1])
    return found


def shown(one: dict[str, Any]) -> None:
    """Print a row, and what is wrong below it."""
    print(f"{one['verdict']:11}  {one['way']:21}  {one['title']}")
    if one["said"]:
        print(f"{'':13}{one['said']}")


def main() -> int:
    """0 where every row that is offered passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--http", metavar="HOST:PORT")
    parser.add_argument("--grpc", metavar="HOST:PORT")
    parser.add_argument("--model", required=True)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table here")
    asked = parser.parse_args()
    if not (asked.http or asked.grpc):
        parser.error("say --http, --grpc, or both")
    target = Target(http=asked.http, grpc=asked.grpc, model=asked.model)
    try:
        look(target)
    except Exception as error:
        print(f"the server cannot be asked: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    found = table(target, shown)
    count = {verdict: sum(one["verdict"] == verdict for one in found) for verdict in (PASS, FAIL, NOT_OFFERED)}
    print(", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 1 if count[FAIL] else 0


if __name__ == "__main__":
    sys.exit(main())
