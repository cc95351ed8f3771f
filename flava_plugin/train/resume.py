"""Where a run goes on: the newest checkpoint that is whole, as all ranks agree."""

from __future__ import annotations

import logging
from pathlib import Path

from flava_plugin.train import run_folder
from flava_plugin.train.checkpoint import Checkpoint, damaged, read, steps_in
from flava_plugin.train.world import World

logger = logging.getLogger(__name__)


def newest_of_all(run_dir: Path, world: World) -> Checkpoint | None:
    """Find the newest checkpoint that every rank finds whole; ranks share the reading.

    Args:
        run_dir: The run folder; every rank sees the same one.
        world: All ranks take part.

    Returns:
        The same checkpoint on every rank, None where there is none.

    Raises:
        ValueError: There are checkpoints, and every one is damaged.
    """
    root = run_dir / "checkpoints"
    faults: list[str] = []
    for step in world.from_first(sorted(steps_in(root), reverse=True)):
        found, fault = None, ""
        try:
            found = read(root / f"{step:08d}", share=(world.rank, world.size))
        except ValueError as error:
            fault = str(error)
            logger.warning("%s; trying the one before it", error)
        if not world.any_over_ranks(bool(fault)):
            return found
        if not world.from_first((root / f"{step:08d}").is_dir()):
            return newest_of_all(run_dir, world)  # pruned meanwhile by a run that has newer ones
        faults.append(fault or f"{root / f'{step:08d}'} is damaged; another rank's log says how")
    if faults:
        raise ValueError(damaged(run_dir, faults))
    return None


def take_over(
    run_dir: Path, world: World, found: Checkpoint | None
) -> tuple[str, Checkpoint | None]:
    """Claim the run folder; from then on an earlier attempt that still runs saves nothing.

    Args:
        run_dir: The run folder.
        world: All ranks take part.
        found: What ``newest_of_all`` found before.

    Returns:
        The token of this attempt, the same on every rank, and the newest checkpoint: the earlier
        attempt may have saved, and deleted what was found, until it lost its claim.
    """
    token = world.from_first(run_folder.claim(run_dir) if world.rank == 0 else "")
    newest = world.from_first(max(steps_in(run_dir / "checkpoints"), default=0))
    if newest > (found.step if found else 0):
        found = newest_of_all(run_dir, world)
    return token, found
