"""The processes that train one network together: who this one is, and the few things they tell each other.

Started by `torchrun --nproc-per-node N -m sortal train …`: data parallel, every process holds the whole network and
works on its part of each batch, and gradients are averaged (torch's DistributedDataParallel). NCCL on CUDA devices,
Gloo on CPUs. Process 0 alone writes files and speaks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from sortal.core.errors import MachineError


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process among `size`. Alone, every exchange gives back what it was given."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True in the process that writes."""
        return self.rank == 0

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
        """Sums over the processes."""
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
    """The team that torchrun started, or this process alone. Raises MachineError when the others cannot be reached."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield SOLO
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    try:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    except (RuntimeError, ValueError) as error:
        raise MachineError(f"the other training processes cannot be reached: {error}", where="torchrun") from error
    try:
        yield Team(rank=distributed.get_rank(), size=size)
    finally:
        distributed.destroy_process_group()
