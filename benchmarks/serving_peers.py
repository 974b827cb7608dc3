"""CPU a request, latency and memory of `sortal serve` and of other servers, from the same graph, on one machine.

    python benchmarks/serving_peers.py --peers FOLDER [--quick] [--work FOLDER] [--only sortal,mosec] [--prepare numpy]

MobileNetV3-small with random weights, JPEG files of 500 x 375 in, the five likeliest classes out, two workers of one
thread each, eight clients. All servers run at once and are asked in turns; those whose turn it is not are stopped
(SIGSTOP), so that their idle loops take nothing from others. CPU is that of all processes of a server. Then each is
asked at random moments (open loop, Poisson) at 70 % of the rate that it reached, and at one rate that is the same for
all. Last, the share of CPU that is the network's own, for MobileNetV3-small and for ResNet-18 in int8.

Peers are in `benchmarks/peers/serving_*.py`; each says what its environment holds. FOLDER has one environment a peer,
and those that are missing are left out:

    python -m venv FOLDER/fastapi && FOLDER/fastapi/bin/pip install fastapi "uvicorn[standard]" python-multipart torch
        torchvision onnxruntime                               likewise FOLDER/litserve, bentoml, mosec, torchserve

They prepare images with torchvision, as their examples do; with `--prepare numpy` all but TorchServe do the same by
hand in Pillow and NumPy, which is the least that one can write.

3.5 minutes on two idle cores, the export of the networks (made once, kept in --work) not included; --quick 1 minute.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from serving_load import (
    closed_loop,
    cpu_s,
    form,
    free_port,
    memory_mib,
    open_loop,
    photographs,
    post,
    running,
    spread,
    tree,
    wait_until_answered,
)

from sortal.core.preprocess import PreprocessSpec

SPEC = PreprocessSpec(
    size=(224, 224),
    resize="crop",
    crop=0.875,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""As torchvision and all peers prepare images."""
NETWORK, QUANTIZED = "mobilenetv3_small_100", "resnet18"
CLIENTS = 8
GOALS = {
    "fastapi": 0.70,
    "litserve": 0.55,
    "litserve batched": 0.55,
    "bentoml": 0.45,
    "mosec": 0.65,
    "torchserve": 0.42,
}
"""Sortal's CPU a request over theirs, at most."""
SHARES = {NETWORK: 0.38, QUANTIZED: 0.65}
"""The network's CPU over the request's, at least."""
LOAD = 0.7
HERE = Path(__file__).parent / "peers"


@dataclass(kw_only=True)
class Contender:
    """A server, how it is asked, and what was measured."""

    name: str
    command: list[str]
    requests: list[bytes]
    port: int
    process: subprocess.Popen[bytes] | None = None
    cpu_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    own: Any = None
    """Its open loop at LOAD of its own capacity."""
    same: Any = None
    """At the rate that is the same for all."""
    memory: float = 0.0
    failed: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path(".peers"))
    parser.add_argument("--work", type=Path, default=Path(".serving"))
    parser.add_argument("--only", default="", help="names of servers, with commas")
    parser.add_argument("--prepare", choices=("torchvision", "numpy"), default="torchvision")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    turns, count, seconds = (2, 100, 3.0) if asked.quick else (4, 300, 5.0)
    bundle = exported(NETWORK, asked.work)
    found = contenders(bundle, asked.peers, asked.work)
    if asked.only:
        found = [one for one in found if one.name in asked.only.split(",")]
    with ExitStack() as stack:
        found = [one for one in found if starts(one, stack, asked.work, bundle, asked.prepare)]
        measure(found, turns, count, seconds)
        table(found, turns, count, seconds, asked.prepare)
    shares(asked.work, asked.quick)


def exported(name: str, work: Path) -> Path:
    """The bundle of a network with random weights; made in a process of its own, since that takes PyTorch."""
    path = work / name
    if not path.is_dir() or (name == QUANTIZED and not int8_at(work).is_file()):
        subprocess.run([sys.executable, __file__, "--make", name, str(work)], check=True, stdout=sys.stderr)
    return path


def int8_at(work: Path) -> Path:
    return work / f"{QUANTIZED}-int8" / "model.onnx"


def make(name: str, work: Path) -> None:
    import throughput

    from sortal.export.publish import stamp

    bundle = throughput.bundle_of(name, work, SPEC)
    if name == QUANTIZED:
        target = int8_at(work)
        target.parent.mkdir(parents=True, exist_ok=True)
        throughput.int8_of(bundle.path / "artifacts" / "onnx" / "model.onnx", target)
        stamp(target, bundle)


def contenders(bundle: Path, peers: Path, work: Path) -> list[Contender]:
    """Sortal, and every peer whose environment is there."""
    images = photographs()
    found = [sortal("sortal", bundle, [post("/predict", image) for image in images])]
    found.append(sortal("sortal, forms", bundle, [form("/predict", "file", image) for image in images]))
    forms = [form("/predict", "file", image) for image in images]
    litserve = [form("/predict", "request", image) for image in images]
    bodies = {"litserve": litserve, "litserve batched": litserve}
    bodies |= {"bentoml": [form("/predict", "image", image) for image in images]}
    bodies |= {"mosec": [post("/inference", image) for image in images]}
    bodies |= {"torchserve": [post("/predictions/net", image) for image in images]}
    for name in GOALS:
        folder, port = peers.absolute() / name.partition(" ")[0], free_port()
        if not (folder / "bin" / "python").exists():
            print(f"{name}: no environment at {folder}", file=sys.stderr)
            continue
        command = command_of(name, folder / "bin", port, work)
        found.append(Contender(name=name, command=command, requests=bodies.get(name, forms), port=port))
    return found


def sortal(name: str, model: Path, requests: list[bytes], *settings: str) -> Contender:
    port = free_port()
    command = [sys.executable, "-m", "sortal", "serve", str(model), f"port={port}", "workers=2", "grpc_port=null"]
    return Contender(name=name, command=[*command, *settings], requests=requests, port=port)


def command_of(name: str, programs: Path, port: int, work: Path) -> list[str]:
    python, own = str(programs / "python"), str(HERE / f"serving_{name.partition(' ')[0]}.py")
    if name == "fastapi":
        place = ["--app-dir", str(HERE), "--host", "127.0.0.1", "--port", str(port)]
        return [python, "-m", "uvicorn", "serving_fastapi:app", "--workers", "2", *place]
    if name == "bentoml":
        place = ["--working-dir", str(HERE), "--host", "127.0.0.1", "--port", str(port)]
        return [str(programs / "bentoml"), "serve", "serving_bentoml:Classifier", *place]
    if name == "mosec":
        return [python, own, "--address", "127.0.0.1", "--port", str(port)]
    if name == "torchserve":
        return torchserve(programs, own, port, work.absolute() / "torchserve")
    return [python, own, str(port)]


def torchserve(programs: Path, handler: str, port: int, store: Path) -> list[str]:
    """Its archive and its configuration, made anew."""
    store.mkdir(parents=True, exist_ok=True)
    archiver = [str(programs / "torch-model-archiver"), "--model-name", "net", "--version", "1", "--handler", handler]
    subprocess.run([*archiver, "--export-path", str(store), "--force"], check=True, stdout=subprocess.DEVNULL)
    (store / ".model_server.pid").unlink(missing_ok=True)  # of a server that was killed
    places = {"inference": port, "management": free_port(), "metrics": free_port()}
    lines = [f"{name}_address=http://127.0.0.1:{number}" for name, number in places.items()]
    lines += ["default_workers_per_model=2", "disable_token_authorization=true", "enable_model_api=true"]
    (store / "config.properties").write_text("\n".join(lines) + "\n")
    command = [str(programs / "torchserve"), "--start", "--foreground", "--ncs", "--model-store", str(store)]
    return [*command, "--models", "net=net.mar", "--ts-config", str(store / "config.properties")]


def starts(one: Contender, stack: ExitStack, work: Path, bundle: Path, prepare: str) -> bool:
    """Start it and leave it stopped; False where it cannot be started."""
    environment = {
        "SERVING_MODEL": str((bundle / "artifacts" / "onnx" / "model.onnx").absolute()),
        "PATH": f"{Path(one.command[0]).parent}:{os.environ['PATH']}",
        "SERVING_PREPARE": prepare,
        "OMP_NUM_THREADS": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "LITSERVE_BATCH": "8" if "batched" in one.name else "1",
        "TS_DISABLE_TOKEN_AUTHORIZATION": "true",
        "TMPDIR": str(work.absolute() / "torchserve") if one.name == "torchserve" else tempfile.gettempdir(),
        "LOG_LOCATION": str(work.absolute() / "torchserve"),
        "METRICS_LOCATION": str(work.absolute() / "torchserve"),
    }
    log = work / f"{one.name}.log"
    one.process = stack.enter_context(running(one.command, log, **environment))
    stack.callback(continued, one.process.pid)
    try:
        took_s = wait_until_answered(one.process, one.port, one.requests[0])
    except SystemExit as error:
        print(f"{one.name}: {error}, {log}", file=sys.stderr)
        return False
    print(f"{one.name}: answers after {took_s:.1f} s", file=sys.stderr)
    asyncio.run(closed_loop(one.port, one.requests, clients=CLIENTS, count=64))
    stopped(one.process.pid)
    return True


def stopped(root: int) -> None:
    tell(root, signal.SIGSTOP)


def continued(root: int) -> None:
    tell(root, signal.SIGCONT)


def tell(root: int, number: int) -> None:
    for pid in tree(root):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def turn(one: Contender) -> Iterator[int]:
    """Its process id, while it runs and all others do not."""
    assert one.process is not None
    continued(one.process.pid)
    try:
        yield one.process.pid
    finally:
        stopped(one.process.pid)


def measure(found: Sequence[Contender], turns: int, count: int, seconds: float) -> None:
    """All in turns."""
    for _ in range(turns):
        for one in found:
            with turn(one) as root:
                asyncio.run(closed_loop(one.port, one.requests, clients=CLIENTS, count=2 * CLIENTS))
                before = cpu_s(root)
                tally = asyncio.run(closed_loop(one.port, one.requests, clients=CLIENTS, count=count))
                one.cpu_ms.append(1e3 * (cpu_s(root) - before) / max(len(tally.good), 1))
                one.rates.append(tally.rate)
                one.failed += len(tally.answers) - len(tally.good)
    slowest = min(statistics.median(one.rates) for one in found)
    for one in found:
        with turn(one) as root:
            rate = LOAD * statistics.median(one.rates)
            one.own = asyncio.run(open_loop(one.port, one.requests, rate=rate, seconds=seconds))
            one.same = asyncio.run(open_loop(one.port, one.requests, rate=LOAD * slowest, seconds=seconds))
            one.memory = memory_mib(root)


def table(found: Sequence[Contender], turns: int, count: int, seconds: float, prepare: str) -> None:
    print(f"\npeers prepare with {prepare}; {turns} turns of {count} requests, {CLIENTS} clients;", end=" ")
    print(f"open loops of {seconds:g} s; median (range)\n")
    print(
        "| server | CPU ms a request | Sortal over it (goal) | requests/s | p50, p99 ms at 70 % of its own capacity "
        "| p50, p99 ms at the same rate | PSS MiB | not 200 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    first = found[0]
    for one in found:
        ratios = [own / its for own, its in zip(first.cpu_ms, one.cpu_ms, strict=True)]
        goal = f" (≤ {GOALS[one.name]:.2f})" if one.name in GOALS else ""
        own, same = (
            f"{tally.quantile_ms(0.5):.1f}, {tally.quantile_ms(0.99):.1f} ({len(tally.good) / tally.seconds:.0f}/s)"
            for tally in (one.own, one.same)
        )
        print(
            f"| {one.name} | {spread(one.cpu_ms)} | {spread(ratios)}{goal} | {spread(one.rates, 0)} | {own} | {same} "
            f"| {one.memory:.0f} | {one.failed} |"
        )


def shares(work: Path, quick: bool) -> None:  # noqa: FBT001
    """The network's share of a request's CPU, and start, memory and idling of the same servers."""
    turns, count = (2, 60) if quick else (4, 200)
    images = [post("/predict", image) for image in photographs()]
    exported(QUANTIZED, work)
    print("\n| network | CPU ms of the network | CPU ms a request | share (goal) |\n|---|---|---|---|")
    for name, model in ((NETWORK, work / NETWORK), (QUANTIZED, int8_at(work).parent)):
        server = sortal(name, model, images, "engine=onnxruntime")
        file = model / "model.onnx" if name == QUANTIZED else model / "artifacts" / "onnx" / "model.onnx"
        network = direct(file)
        with running(server.command, work / f"{name}.log") as process:
            wait_until_answered(process, server.port, images[0])
            asyncio.run(closed_loop(server.port, images, clients=CLIENTS, count=64))
            alone, whole = [], []
            for _ in range(turns):
                before = cpu_s(process.pid)
                tally = asyncio.run(closed_loop(server.port, images, clients=CLIENTS, count=count))
                whole.append(1e3 * (cpu_s(process.pid) - before) / max(len(tally.good), 1))
                alone.append(network(count // 4))
        parts = [100 * one / all_ for one, all_ in zip(alone, whole, strict=True)]
        what = f"{name}, int8" if name == QUANTIZED else name
        goal = f"≥ {100 * SHARES[name]:.0f} %"
        print(f"| {what} | {spread(alone)} | {spread(whole)} | {spread(parts, 0)} % ({goal}) |", flush=True)


def direct(graph: Path) -> Any:
    """`run(count)`: CPU milliseconds of one image of the network alone, in ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    session.run(["logits"], {"image": image})

    def run(count: int) -> float:
        started_s = time.process_time()
        for _ in range(count):
            session.run(["logits"], {"image": image})
        return 1e3 * (time.process_time() - started_s) / count

    return run


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
