"""How a run tells its mixture of the losses, where shares follow them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from torch import Tensor

from flava_plugin.data.mixture_run import Mixture
from flava_plugin.data.steps import Step
from flava_plugin.train.world import World

logger = logging.getLogger(__name__)


def note(mixture: Mixture, batch: Step, losses: Mapping[str, Tensor], world: World) -> None:
    """Tell a mixture of a step that is done.

    Every rank decides for itself: losses are sums over all ranks, which every rank has to the bit.
    That the decisions are the same is checked each time, since ranks that read different kinds of
    batches would wait for each other for ever.

    Args:
        mixture: The run's; where its shares are known beforehand, nothing is done.
        batch: The step.
        losses: Of ``train_step``.
        world: All ranks take part.

    Raises:
        ValueError: Ranks decided differently.
    """
    if mixture.adaptive is None:
        return
    floats = {name: float(loss) for name, loss in losses.items()}
    decided = mixture.note(batch.step, batch.source, floats)
    if decided is not None:
        world.require_same("the mixture's shares", json.dumps(decided))
        shares = ", ".join(f"{name} {share:.1%}" for name, share in decided.shares.items())
        logger.info("from step %d on: %s", decided.first, shares)
