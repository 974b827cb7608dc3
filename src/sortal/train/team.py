"""The processes that train one network together: who this one is, and the few things they tell each other.

Started by `torchrun --nproc-per-node N -m sortal train …`: data parallel, every process holds the whole network and
works on its part of each batch, and gradients are averaged (torch's DistributedDataParallel). NCCL on CUDA devices,
Gloo on CPUs. Process 0 alone writes files and speaks; when one fails, the first to fail says why and the others end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn

from sortal.core.errors import MachineError, SortalError
from sortal.core.team import leading, team_size

_PATIENCE = timedelta(hours=12)
"""How long others wait for process 0, which evaluates and writes alone. One that died is noticed at once."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process among `size`. Alone, every exchange gives back what it was given."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True in the process that writes."""
        return self.rank == 0

    @property
    def backend(self) -> str:
        """`nccl`, `gloo`, or `none` alone."""
        return "none" if self.size == 1 else str(distributed.get_backend())

    def tell(self, value: Any) -> Any:
        """What process 0 has, in every process; anything that JSON can hold."""
        if self.size == 1:
            return value
        text = np.frombuffer(json.dumps(value).encode(), np.uint8) if self.leads else np.zeros(0, np.uint8)
        length = int(self.add(torch.tensor([float(len(text))], dtype=torch.float64))[0])
        letters = torch.zeros(length, dtype=torch.float64)
        if self.leads:
            letters = torch.from_numpy(text.astype(np.float64))
        return json.loads(self.add(letters).numpy().astype(np.uint8).tobytes())

    def any(self, flag: bool) -> bool:  # noqa: FBT001 (a value, not an option)
        """True when any process says so."""
        return bool(self.add(torch.tensor([float(flag)]))[0] > 0)

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over the processes; `values` may be overwritten."""
        if self.size == 1:
            return values
        sent = values.to(device()) if distributed.get_backend() == "nccl" else values
        distributed.all_reduce(sent)
        return sent.to(values.device)

    def share(self, count: int) -> slice:
        """Which of `count` things in a row are this process's."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def gather(self, rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """All `count` rows (count, K), of which this process has those of `share(count)`."""
        if self.size == 1:
            return rows
        whole = torch.zeros(count, rows.shape[1])
        whole[self.share(count)] = torch.from_numpy(rows)
        return np.asarray(self.add(whole).numpy())

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Of parameters that no wrapper takes care of: the mean over the processes, in every one."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = self.add(parameter.grad) / self.size

    def align(self, network: nn.Module) -> None:
        """Give every process the buffers of process 0: each has followed its own part of the batches."""
        if self.size > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            distributed.barrier()


SOLO = Team()


def device() -> torch.device:
    """Where this process trains: its CUDA device where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextmanager
def team_of_environment() -> Iterator[Team]:
    """The team that torchrun started, or this process alone.

    Raises MachineError when the others cannot be reached or when one of them ended.
    """
    if team_size() == 1:
        yield SOLO
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    try:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise MachineError(f"the other training processes cannot be reached: {error}", where="torchrun") from error
    try:
        yield Team(rank=distributed.get_rank(), size=team_size())
    except RuntimeError as error:
        if _lost(error):
            raise MachineError(
                "another training process ended",
                where=f"process {distributed.get_rank()}",
                hint="look at what that one said, or start again with --debug-dist and look into its dist-<rank>.log",
            ) from error
        claim_failure()
        raise
    except BaseException:
        claim_failure()  # before the others notice that this process is gone
        raise
    finally:
        distributed.destroy_process_group()


def claim_failure() -> bool:
    """True in the first process of a team that asks, which then tells of the failure; always true alone.

    The store is torchrun's own, so it outlives the process.
    """
    if team_size() == 1:
        return True
    return _first_to_ask()


@lru_cache(maxsize=1)  # asked before the team breaks up, and again where errors are printed
def _first_to_ask() -> bool:
    try:
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=5)
        )
        return bool(store.add(f"sortal/failures/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1) == 1)
    except (RuntimeError, KeyError, ValueError):
        return leading()


def _lost(error: RuntimeError) -> bool:
    """Whether this is what Gloo or NCCL raise when another process is gone."""
    said = str(error).lower()
    signs = ("connection closed by peer", "connection reset", "broken pipe", "socket", "nccl", "gloo")
    return not isinstance(error, SortalError) and any(sign in said for sign in signs)
