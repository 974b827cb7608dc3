"""Two processes on one machine (Gloo): what they tell each other, their gradients, and who speaks of a failure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gratings import recipe
from nursery import kill_resume
from sortal.core.preprocess import PreprocessSpec
from sortal.core.progress import Silent
from sortal.data.table import ImageTable
from sortal.train.augment import AUGMENTATIONS, ClassFacts
from sortal.train.devices import synchronized_norms, team_notes
from sortal.train.loader import TrainLoader
from sortal.train.sampling import make_sampler
from sortal.train.store import prepared
from sortal.train.team import SOLO, Team

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    pytest.importorskip("posix")
    made = kill_resume.Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


PAIR = """
import sys; sys.path.insert(0, {tests!r})
import json
from pathlib import Path
import numpy as np, torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from sortal.train.team import team_of_environment, claim_failure
from sortal.core.errors import MachineError
found = {{}}
with team_of_environment() as team:
{body}
    Path(f"{{team.rank}}.json").write_text(json.dumps(found))
"""


def pair(nursery: object, where: Path, body: str) -> list[dict]:  # type: ignore[type-arg]
    """What two processes put into `found`."""
    code = PAIR.format(tests=str(TESTS), body=textwrap.indent(textwrap.dedent(body), "    "))
    done = nursery.run(where, ranks=2, code=code)  # type: ignore[attr-defined]
    assert done.code == 0, done.err
    return [json.loads((where / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_what_processes_tell_each_other(nursery: object, tmp_path: Path) -> None:
    body = """
    found["backend"] = team.backend
    found["told"] = team.tell({"name": "köln", "step": 3} if team.leads else None)
    found["none"] = team.tell(None)
    found["any"] = [team.any(team.rank == 1), team.any(False)]
    found["share"] = [team.share(5).start, team.share(5).stop]
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)[team.share(5)]
    found["gathered"] = team.gather(rows, 5).tolist()
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(team.rank + 1.0); norm.num_batches_tracked.fill_(team.rank + 7)
    team.align(norm)
    found["aligned"] = [norm.running_mean.tolist(), int(norm.num_batches_tracked)]
    weight = nn.Parameter(torch.zeros(2)); weight.grad = torch.tensor([1.0, 2.0]) * (team.rank + 1)
    team.average_gradients([weight, nn.Parameter(torch.zeros(1))])
    found["averaged"] = weight.grad.tolist()
    """
    zero, one = pair(nursery, tmp_path, body)
    shares = zero.pop("share"), one.pop("share")
    assert shares == ([0, 2], [2, 5])
    assert zero == one
    assert zero == {
        "backend": "gloo",
        "told": {"name": "köln", "step": 3},
        "none": None,
        "any": [True, False],
        "gathered": [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]],
        "aligned": [[1.0, 1.0], 7],
        "averaged": [1.5, 3.0],
    }
    assert SOLO.tell(3) == 3
    assert SOLO.backend == "none"


def test_gradients_of_two_processes_are_those_of_one_on_the_joined_batch(nursery: object, tmp_path: Path) -> None:
    """An odd batch, so that the processes have unequal parts, and micro-steps that are added up."""
    body = """
    from gratings import SOURCE
    from sortal.models.backbones import create
    from sortal.train.criterion import Wrapped
    from sortal.train.losses import cross_entropy
    from sortal.train.randomness import generator
    from sortal.train.team import SOLO
    def gradients(who):
        network = create(SOURCE, classes=3, size=(16, 16)); network.freeze_statistics(); network.train()
        forward = Wrapped(who, compiled=False)
        for step in range(2):
            images = torch.from_numpy(generator(0, "step", index=step).random((7, 3, 16, 16), dtype="float32"))
            labels = torch.arange(7) % 3
            part = who.share(7)
            weight = (part.stop - part.start) * who.size / 7
            (logits, *_), _ = forward(network)(images[part])
            (cross_entropy(logits, labels[part]) * weight / 2).backward()
        return {name: p.grad for name, p in network.named_parameters()}
    joined, shared = gradients(SOLO), gradients(team)
    found["names"] = sorted(shared)
    found["largest"] = max(float(g.abs().max()) for g in joined.values())
    found["difference"] = max(float((joined[n] - shared[n]).abs().max()) for n in joined)
    """
    zero, one = pair(nursery, tmp_path, body)
    assert zero == one
    assert zero["largest"] > 1e-3
    assert zero["difference"] < 1e-6
    assert not any(name.startswith("module.") for name in zero["names"])


def test_the_first_that_fails_tells_and_the_other_knows_why_it_ends(nursery: object, tmp_path: Path) -> None:
    code = """
import time
from pathlib import Path
from sortal.core.errors import DataError, MachineError
from sortal.train.team import claim_failure, team_of_environment
try:
    with team_of_environment() as team:
        if team.rank == 0:
            raise DataError("unreadable")
        team.any(False)
except DataError:
    Path("0.txt").write_text(f"{claim_failure()}")
    while not Path("1.txt").exists():  # torchrun's store outlives all processes; here process 0 holds it
        time.sleep(0.05)
except MachineError as error:
    Path("1.txt").write_text(f"{claim_failure()} {error}")
"""
    done = nursery.run(tmp_path, ranks=2, code=code)  # type: ignore[attr-defined]
    assert done.code == 0, done.err
    assert (tmp_path / "0.txt").read_text() == "True"
    assert (tmp_path / "1.txt").read_text().startswith("False process 1: another training process ended")


@pytest.mark.parametrize("remedy", ["none", "sampler"])
def test_two_processes_draw_the_images_of_one(remedy: str, make_table: Callable[..., ImageTable]) -> None:
    table = make_table(train=11)
    spec = PreprocessSpec(size=(16, 16), resize="pad", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2))
    rows, chosen = table.split_rows("train"), recipe()
    with prepared(table, rows, spec, folder=None, threads=1, listener=Silent(), stage="train") as (images, _):
        pass
    facts = ClassFacts(names=table.labels.names, counts=np.bincount(images.labels))

    def loader(team: Team) -> TrainLoader:
        return TrainLoader(
            images=images,
            spec=spec,
            policy=AUGMENTATIONS.get("basic")(chosen.augment, spec, facts),
            section=chosen.augment,
            sampler=make_sampler(remedy, images.labels, 3, 0),
            classes=3,
            batch=9,
            seed=0,
            workers=0,
            team=team,
        )

    for epoch in (0, 3):
        whole = list(loader(SOLO).epoch(epoch))
        parts = [list(loader(Team(rank=rank, size=2)).epoch(epoch)) for rank in (0, 1)]
        assert len(whole) == len(parts[0]) == len(parts[1]) == 4
        for joined, *pieces in zip(whole, *parts, strict=True):
            assert np.array_equal(joined.samples, np.concatenate([piece.samples for piece in pieces]))
            assert np.array_equal(joined.pixels, np.concatenate([piece.pixels for piece in pieces]))
            assert sum(piece.weight for piece in pieces) == pytest.approx(2.0)


def test_notes_say_how_the_work_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Team, "backend", "gloo")
    both = " ".join(team_notes(Team(size=2), asked="dp", batch=64, frozen_statistics=False))
    said = ("it means ddp", "2 processes train together (gloo)", "of the 64 images", "not scaled", "share of a batch")
    assert all(words in both for words in said)
    assert "Batch norm" not in " ".join(team_notes(Team(size=2), asked="none", batch=64, frozen_statistics=True))
    assert team_notes(SOLO, asked="none", batch=64, frozen_statistics=False) == ()
    assert "torchrun" in team_notes(SOLO, asked="ddp", batch=64, frozen_statistics=False)[0]


def test_norms_are_synchronized_inside_and_themselves_outside() -> None:
    from timm.layers import BatchNormAct2d

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(BatchNormAct2d(4)))
    images = torch.rand(2, 3, 8, 8) - 0.5
    network.train()(images)
    network.eval()
    before, state = network(images), {name: value.clone() for name, value in network.state_dict().items()}
    kept = {id(parameter) for parameter in network.parameters()}
    with synchronized_norms(network, wanted=True):
        assert sum(isinstance(module, nn.SyncBatchNorm) for module in network.modules()) == 2
        assert {id(parameter) for parameter in network.parameters()} == kept
        assert torch.equal(network(images), before)
        network[1].running_mean.add_(1.0)
    assert [type(network[1]), type(network[2][0])] == [nn.BatchNorm2d, BatchNormAct2d]
    assert network.state_dict().keys() == state.keys()
    assert torch.equal(network[1].running_mean, state["1.running_mean"] + 1.0)
