"""Accumulated steps: a batch of each kind in one optimiser step.

Within a kind its sources take turns by their shares, as exact quotas; between kinds shares say
nothing here. A round is read as one turn for each kind, by the same workers, and put together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from flava_plugin.data.mixture_run import fixed_mixture
from flava_plugin.data.steps import Step, Turn
from flava_plugin.sections_data import SourceSection
from flava_plugin.types import Modality


class Rounds:
    """Which sources feed an accumulated step.

    Args:
        sources: The recipe's ``data.sources``; every one has a share.
        seed: Seed of the run.
    """

    def __init__(self, sources: Mapping[str, SourceSection], seed: int) -> None:
        shares: dict[Modality, dict[str, float]] = {}
        for name, source in sources.items():
            shares.setdefault(source.modality, {})[name] = source.share or 0.0
        self.mixtures = {kind: fixed_mixture(own, seed) for kind, own in shares.items()}

    def __len__(self) -> int:
        """Batches of a step."""
        return len(self.mixtures)

    def turns(self, step: int) -> Iterator[Turn]:
        """Tell what a step reads.

        Args:
            step: Its number, counted from 0.

        Yields:
            Turn: One for each kind, in the order in which the recipe names them first.
        """
        for mixture in self.mixtures.values():
            source = mixture.source_at(step)
            yield Turn(step, source, mixture.steps_before(step, source))


def joined(parts: Sequence[Step]) -> Step:
    """Put the batches of an accumulated step together.

    Args:
        parts: One of each kind.

    Returns:
        A step of all; what could not be read and what happened while reading is that of all, and
        the epoch that of the source which is the furthest.
    """
    incidents: Counter[str] = Counter()
    for part in parts:
        incidents.update(part.incidents)
    return Step(
        step=parts[0].step,
        source="+".join(part.source for part in parts),
        modality=parts[0].modality,
        micro_batches=[batch for part in parts for batch in part.micro_batches],
        bad=[sample for part in parts for sample in part.bad],
        epoch=max(part.epoch for part in parts),
        incidents=dict(incidents),
        parts=tuple(parts),
    )
