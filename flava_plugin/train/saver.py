"""Saves a run while it goes on: a step waits for the copy to host memory, not for the disk.

A thread writes what was copied. No collective may run in it, for the training's own go on
meanwhile; what the ranks have to tell each other travels with the flags that the loop sums at every
step boundary. Until a checkpoint has its final name the one before it is the newest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from flava_plugin.sections import CheckpointSection
from flava_plugin.train import run_folder, saving
from flava_plugin.train.ema import Ema
from flava_plugin.train.pieces import by_parameter
from flava_plugin.train.sharding import Strategy
from flava_plugin.train.sharding.whole import gather
from flava_plugin.train.world import World

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pending:
    """A save that is under way.

    Attributes:
        step: Optimiser steps done.
        state: For ``state.json``; only rank 0's is written.
        best: Whether it is the best checkpoint so far.
        work: What this rank's thread does; None where it has nothing to do.
    """

    step: int
    state: Mapping[str, Any]
    best: bool
    work: Future[Any] | None


class Saver:
    """Writes checkpoints in the background; used as a context, whose end waits for the disk.

    Args:
        run_dir: The run folder.
        section: The recipe's ``checkpoint``.
        world: Every rank calls every method but ``flags`` at the same time.
        token: The attempt's token, the same on every rank.
        global_batch: Rows of a step, for ``summary.json``.
    """

    def __init__(
        self,
        run_dir: Path,
        section: CheckpointSection,
        world: World,
        token: str,
        global_batch: int,
    ) -> None:
        self._run_dir = run_dir
        self._section = section
        self._world = world
        self._token = token
        self._global_batch = global_batch
        self._pool = ThreadPoolExecutor(1, "save")
        self._pending: Pending | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)  # what rank 0 writes alone is finished even after an error

    def save(
        self,
        strategy: Strategy,
        step: int,
        state: Mapping[str, Any],
        *,
        best: bool = False,
        ema: Ema | None = None,
    ) -> None:
        """Copy the run's state and start writing it.

        Args:
            strategy: Holds weights and optimiser.
            step: Optimiser steps done.
            state: Plain data for ``state.json``, with the run's ``seconds``.
            best: Whether this is the best checkpoint so far.
            ema: The average of the weights, to be saved beside them.
        """
        if self._pending is not None:
            if self._world.rank == 0 and self._pending.work and not self._pending.work.done():
                logger.warning(
                    "step %d: waiting for the save of step %d; checkpoint.every is shorter than "
                    "a save takes",
                    step,
                    self._pending.step,
                )
            self.finish()
        sharded = self._section.format == "sharded"
        model, optim = strategy.pieces(spread=sharded)
        kinds = {"model": model, "optim": optim}
        if ema is not None:
            kinds["ema"] = ema.pieces(spread=sharded)
        work: Future[Any] | None = None
        if sharded:
            part = (self._world.rank, self._world.size)
            work = self._pool.submit(
                saving.save_part, self._run_dir, step, kinds, part, token=self._token
            )
        else:
            whole = {kind: gather(pieces, self._world) for kind, pieces in kinds.items()}
            if self._world.rank == 0:
                work = self._pool.submit(self._write_whole, step, whole, state, best)
        self._pending = Pending(step, state, best, work)

    def flags(self) -> Tensor:
        """What this rank has to say, to be summed over ranks and given to ``settle``.

        Returns:
            (2,) float: whether its write failed, and whether it is done.
        """
        work = self._pending.work if self._pending else None
        done = work is None or work.done()
        failed = work is not None and done and work.exception() is not None
        return torch.tensor([float(failed), float(done)])

    def settle(self, flags: Tensor) -> None:
        """Act on what all ranks say: stop the run on a failure, publish what is whole.

        Args:
            flags: Sum of every rank's ``flags``.

        Raises:
            OSError: Some rank could not write; raised on every rank.
            LostClaimError: Another process has claimed the run folder since.
        """
        failed, done = flags.tolist()
        pending = self._pending
        if pending is None or (not failed and done < self._world.size):
            return
        self._pending = None
        error: BaseException | None = None
        if pending.work is not None and pending.work.done():
            error = pending.work.exception()
        if not failed and self._section.format == "sharded":
            error = self._publish(pending)
            failed = self._world.any_over_ranks(error is not None)
        if failed:  # nobody goes on
            raise error or OSError(f"another rank could not save step {pending.step}; see its log")

    def finish(self) -> None:
        """Wait until the last save is on the disk, on every rank."""
        if self._pending is None:
            return
        if self._pending.work is not None:
            self._pending.work.exception()  # waits
        self.settle(self._world.sum_over_ranks(self.flags()).cpu())

    def _write_whole(
        self,
        step: int,
        whole: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Any],
        best: bool,
    ) -> None:
        saving.save(
            self._run_dir,
            step,
            whole["model"],
            by_parameter(whole["optim"]),
            state,
            token=self._token,
            keep=self._section.keep,
            best=best,
            ema=whole.get("ema"),
        )
        self._summarise(step, state)

    def _publish(self, pending: Pending) -> BaseException | None:
        """Give parts that are all written their name; what went wrong on rank 0."""
        assert pending.work is not None, "every rank writes a part"
        every: list[Any] = [pending.work.result()]
        if self._world.size > 1:
            every = [None] * self._world.size
            dist.all_gather_object(every, pending.work.result())
        if self._world.rank:
            return None
        try:
            saving.publish(
                self._run_dir,
                pending.step,
                {name: finger for files in every for name, finger in files.items()},
                pending.state,
                token=self._token,
                keep=self._section.keep,
                best=pending.best,
                parts=self._world.size,
            )
            self._summarise(pending.step, pending.state)
        except (OSError, run_folder.LostClaimError) as error:
            return error
        return None

    def _summarise(self, step: int, state: Mapping[str, Any]) -> None:
        samples = step * self._global_batch
        run_folder.summarise(self._run_dir, step, float(state["seconds"]), samples)
