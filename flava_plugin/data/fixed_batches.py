"""One batch of each kind that stays the same through a run, to measure with."""

from __future__ import annotations

from typing import cast

import numpy as np

from flava_plugin.data.collate import split
from flava_plugin.data.loader import Loader, Told
from flava_plugin.data.steps import Steps, Turn
from flava_plugin.types import Batch, Modality

MARK = 0x70726F62
"""Sets the order of these batches apart from that of training, which has the run's seed alone."""


def fixed_batches(loader: Loader) -> dict[Modality, list[Batch]]:
    """Read this rank's part of a global batch of each kind that the recipe has a source of.

    Rows, crops and masks are a function of the run's seed in an order of its own, so nothing of
    training's order is used up; that some of its samples are met is possible. Of several sources
    of a kind the one with the largest share is read, of equal ones the first.

    Args:
        loader: The run's; it is not moved on.

    Returns:
        Micro-batches by kind.

    Raises:
        OSError: The data cannot be read.
    """
    own = cast(Told, loader.reader.dataset).steps
    seed = int(np.random.SeedSequence([own.seed, MARK]).generate_state(1)[0])
    steps = Steps(
        own.section,
        own.datasets,
        own.tokenizer,
        seed=seed,
        rank=own.rank,
        size=own.size,
        patch_grid=own.patch_grid,
        with_codebook=own.with_codebook,
        masked=own.masked,
        codes=own.codes,
    )
    chosen: dict[Modality, str] = {}
    sources = own.section.sources
    for name in sorted(sources, key=lambda name: -(sources[name].share or 0)):
        chosen.setdefault(sources[name].modality, name)
    return {
        kind: [
            part
            for whole in steps[Turn(0, name, 0)].micro_batches
            for part in split(whole, loader.rows, loader.padding)
        ]
        for kind, name in chosen.items()
    }
