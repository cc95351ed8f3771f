"""The processes of a run: who this one is, and the few things they agree on together.

Every collective is called by all ranks in the same order; with one process nothing is sent and no
process group exists.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

T = TypeVar("T")

DeviceChoice = Literal["auto", "cpu", "cuda"]

LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)
"""Variables of torchrun and of ``srun``: rank, number of ranks, rank on this machine."""


@dataclass(frozen=True)
class World:
    """This process among all processes of the run.

    Attributes:
        rank: Number of this process, from 0.
        size: How many processes there are.
        local_rank: Number of this process on its machine.
        device: Where its tensors live.
    """

    rank: int
    size: int
    local_rank: int
    device: torch.device

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all ranks.

        Args:
            tensor: Any shape, the same on every rank.

        Returns:
            The sum, detached and on ``device``; the input is unchanged.
        """
        total = tensor.detach().to(self.device, copy=True)
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def any_over_ranks(self, flag: bool) -> bool:
        """Whether a flag is set on at least one rank.

        Args:
            flag: This rank's.

        Returns:
            The same answer on every rank.
        """
        if self.size == 1:
            return flag
        return bool(self.sum_over_ranks(torch.tensor(int(flag))).item())

    def from_first(self, value: T) -> T:
        """Hand rank 0's value to every rank.

        Args:
            value: This rank's; plain data.

        Returns:
            That of rank 0.
        """
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, device=self.device)
        return box[0]

    def gather_rows(self, tensor: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Put the rows of all ranks together, rank after rank.

        Gradients flow back: each rank receives, for its own rows, the sum of what all ranks ask.

        Args:
            tensor: (B, ...), B may differ between ranks.
            rows: B of every rank; None has the ranks exchange it first.

        Returns:
            (sum of B over ranks, ...), the same on every rank.
        """
        if self.size == 1:
            return tensor
        if rows is None:
            own = torch.zeros(self.size, dtype=torch.long)
            own[self.rank] = len(tensor)
            rows = self.sum_over_ranks(own).tolist()
        gather: Callable[..., Tensor] = _GatherRows.apply
        return gather(tensor, tuple(rows), self.rank)

    def require_same(self, what: str, text: str) -> None:
        """Refuse to go on unless every rank holds the same text.

        Args:
            what: What the text is, for the message.
            text: For instance the resolved recipe, or its fingerprint.

        Raises:
            ValueError: Another rank holds another text; raised on every rank.
        """
        digest = hashlib.sha256(text.encode()).digest()[:28]
        words = [int.from_bytes(digest[i : i + 4], "big") for i in range(0, len(digest), 4)]
        table = self.gather_rows(torch.tensor([words], device=self.device), [1] * self.size)
        differing = (table != table[0]).any(1).nonzero().flatten().tolist()
        if differing:
            raise ValueError(
                f"{what} of rank 0 is not that of ranks {differing}: start every process with the "
                "same recipe, overrides and package version"
            )


class _GatherRows(torch.autograd.Function):
    """All-gather of rows; backward adds up the gradients of all ranks.

    Rows are padded to the longest rank, as gloo and nccl want equal shapes.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rows: tuple[int, ...], rank: int) -> Tensor:
        ctx.first, ctx.rows = sum(rows[:rank]), rows[rank]
        longest = max(rows)
        missing = longest - len(tensor)
        own = F.pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, missing)) if missing else tensor
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in rows]
        dist.all_gather(parts, own.contiguous())
        return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.first : ctx.first + ctx.rows], None, None


def connect(device_choice: DeviceChoice = "auto", timeout: float = 1800.0) -> World:
    """Find out which process this is and meet the others.

    torchrun's variables come first, then SLURM's, else this is the only process. Processes that
    have parted can meet again, as long as all of them do.

    Args:
        device_choice: ``auto`` takes a GPU where there is one.
        timeout: Seconds after which a collective that a rank does not join fails.

    Returns:
        This process's place; ``disconnect`` ends it.

    Raises:
        ValueError: The variables contradict each other or lack a meeting point, or there is no
            GPU for this process.
        LostRankError: The others did not come.
    """
    rank, size, local_rank = _place(os.environ)
    device = _device(device_choice, local_rank)
    if size > 1:
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                raise ValueError(
                    f"{size} processes need {name} to meet: export MASTER_ADDR (the first node) "
                    "and MASTER_PORT (a free port), or start with torchrun; to run one process, "
                    "unset SLURM_NTASKS"
                )
        if device.type == "cuda":
            torch.cuda.set_device(device)
        patience = timedelta(seconds=timeout)
        try:
            store, *_ = next(iter(rendezvous("env://", rank, size, timeout=patience)))
            # what an earlier meeting left in the store is of ranks that have gone since
            store = PrefixStore(f"meeting {len(LEFT_GROUPS)}", store)
            dist.init_process_group(
                _backend(device), store=store, rank=rank, world_size=size, timeout=patience
            )
        except dist.DistError as error:  # a port that is taken, a process that did not start
            raise LostRankError(
                f"rank {rank} of {size} could not meet the others at {os.environ['MASTER_ADDR']}:"
                f"{os.environ['MASTER_PORT']}: {str(error).strip().splitlines()[0]}"
            ) from error
    return World(rank, size, local_rank, device)


def require_group(world: World) -> None:
    """Give a run of one process the process group that sharding libraries ask for.

    Args:
        world: This process's place; with several ranks the group is there.
    """
    if not dist.is_initialized():
        backend = _backend(world.device)
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)


def _backend(device: torch.device) -> str:
    # CPU tensors, such as what a checkpoint gathers, go through gloo beside a GPU too.
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


class LostRankError(RuntimeError):
    """Another process of the run died or does not answer."""


def _from_peers(error: RuntimeError) -> bool:
    """Whether a collective failed; gloo's errors have no class but name its source files."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


@contextmanager
def lost_ranks_named(world: World) -> Iterator[None]:
    """Say in one line that a collective failed, whose own errors speak of sockets and buffers.

    Args:
        world: This process's place.

    Raises:
        LostRankError: In place of what gloo or NCCL raise.
    """
    try:
        yield
    except RuntimeError as error:
        if world.size == 1 or isinstance(error, LostRankError) or not _from_peers(error):
            raise
        text = str(error).strip().splitlines()[-1]
        raise LostRankError(
            f"rank {world.rank} of {world.size}: another rank died, hangs or is too slow ({text}); "
            "its log says more. The last checkpoint stands: start the run again to go on. A rank "
            "that is only slow may need a larger sharding.timeout"
        ) from error


def disconnect() -> None:
    """Leave the process group, if there is one.

    The group's object stays referenced until the process ends. Otherwise DDP's reducer may be the
    last to hold it, and its destructor waits for gloo's thread with Python's lock held, while that
    thread may be waiting for the lock to drop its last tensor: a deadlock after the last step.
    """
    if dist.is_available() and dist.is_initialized():
        LEFT_GROUPS.append(dist.group.WORLD)
        dist.destroy_process_group()


LEFT_GROUPS: list[Any] = []
"""Process groups that this process has left."""


def _place(environment: Mapping[str, str]) -> tuple[int, int, int]:
    for names in LAUNCHERS:
        if all(name in environment for name in names[:2]):
            try:
                rank, size = (int(environment[name]) for name in names[:2])
                local_rank = int(environment.get(names[2], "0"))
            except ValueError as error:
                raise ValueError(f"{', '.join(names)} must be whole numbers: {error}") from error
            if not 0 <= rank < size:
                raise ValueError(f"{names[0]}={rank} is not below {names[1]}={size}")
            return rank, size, local_rank
    return 0, 1, 0


def _device(choice: DeviceChoice, local_rank: int) -> torch.device:
    if choice == "cpu" or (choice == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("device: 'cuda', but torch sees no GPU; use device=cpu or device=auto")
    visible = torch.cuda.device_count()
    if visible == 1:  # a scheduler that gives each task its own GPU numbers it 0 in every task
        return torch.device("cuda", 0)
    if local_rank >= visible:
        raise ValueError(
            f"process {local_rank} of this machine has no GPU of its own: {visible} are visible; "
            "start at most one process for each GPU"
        )
    return torch.device("cuda", local_rank)
