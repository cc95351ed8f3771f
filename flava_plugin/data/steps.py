"""A step number -> what one rank computes in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch.utils import data as torch_data

from flava_plugin.data.captions import Captions
from flava_plugin.data.codes import Codes
from flava_plugin.data.collate import UnequalRowsError, collate, pixel_scale
from flava_plugin.data.look import Look
from flava_plugin.data.order import Row
from flava_plugin.data.ordering import order_of
from flava_plugin.data.reading import BadSample, read
from flava_plugin.data.tokenizer import Tokenizer
from flava_plugin.data.transforms import Item, prepare
from flava_plugin.data.whole_pictures import refuse_moving
from flava_plugin.sections_data import DataSection
from flava_plugin.types import Batch, Dataset, Modality


class Turn(NamedTuple):
    """Whose turn a step is: all that reading it needs to know of the mixture.

    Attributes:
        step: Its number, counted from 0.
        source: Which source feeds it.
        before: How many steps of this source come before.
    """

    step: int
    source: str
    before: int


@dataclass(frozen=True)
class Step:
    """What one rank computes in one optimiser step.

    Attributes:
        step: Its number, counted from 0.
        source: Which source it reads.
        modality: What its batches hold.
        micro_batches: The rank's rows, cut into micro-batches.
        bad: The samples that could not be read.
        epoch: Epochs of the source that were over when the step began.
        incidents: What happened while its files were fetched, counted: requests that failed, stood
            still or brought wrong bytes, and were made again.
        parts: Of an accumulated step those it is made of, one of each kind; else none.
    """

    step: int
    source: str
    modality: Modality
    micro_batches: list[Batch]
    bad: list[BadSample]
    epoch: int = 0
    incidents: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[Step, ...] = ()

    @property
    def kind(self) -> str:
        """What its batches hold, of an accumulated step all: ``pair+image+text``."""
        return "+".join(part.modality for part in self.parts or (self,))


class Steps(torch_data.Dataset[Step]):
    """One rank's part of every step, a pure function of whose turn it is.

    A step's rows come as one batch and are cut by the training process (``collate.split``): each
    tensor that a worker hands over is an open file on both sides, and where many micro-batches run
    into the system's limit (1,024 as a rule), torch's workers do not fail but wait for ever.

    Args:
        section: What is read, and how.
        datasets: A dataset for each source.
        tokenizer: The tokenizer.
        seed: Seed of the run.
        rank: This rank.
        size: Number of ranks.
        patch_grid: Patches of a side of the image.
        with_codebook: Whether the codebook's pictures are wanted.
        masked: Whether anything is hidden.
        codes: Codes by source, of those that have some.
    """

    def __init__(
        self,
        section: DataSection,
        datasets: Mapping[str, Dataset],
        tokenizer: Tokenizer,
        *,
        seed: int,
        rank: int,
        size: int,
        patch_grid: int,
        with_codebook: bool,
        masked: bool,
        codes: Mapping[str, Codes] | None = None,
    ) -> None:
        refuse_moving(section.image, datasets)
        self.section = section
        self.datasets = datasets
        self.tokenizer = tokenizer
        self.seed = seed
        self.rank = rank
        self.size = size
        self.patch_grid = patch_grid
        self.with_codebook = with_codebook
        self.masked = masked
        self.codes = codes or {}
        self.orders = {
            name: order_of(
                name,
                datasets[name],
                source,
                seed=seed,
                global_batch=section.global_batch,
                matching=section.matching,
            )
            for name, source in section.sources.items()
        }

    def __getitem__(self, turn: Turn) -> Step:
        """Read a step.

        Args:
            turn: Its number, source and place among the source's steps.

        Returns:
            The rank's part, as one batch.
        """
        step, source, before = turn
        order = self.orders[source]
        dataset = self.datasets[source]
        if hasattr(dataset, "expect") and (soon := order.shards_soon(before, self.rank, self.size)):
            dataset.expect(soon)
        modality = self.section.sources[source].modality
        rows = order.rows(before, self.rank, self.size)
        if order.buckets:
            rows = by_length(rows, dataset)
        items, bad = self._items(rows, source, modality)
        try:
            whole = collate(
                items,
                modality,
                pad_id=self.tokenizer.pad_id,
                pixels=pixel_scale(self.section.image, self._sees_codebook(source)),
                count_all=order.counts_all(before),
            )
        except UnequalRowsError as error:
            named = " and ".join(f"sample {rows[row].key.index}" for row in error.rows)
            raise ValueError(f"data.sources.{source}: {error} ({named})") from error
        incidents = dataset.take_incidents() if hasattr(dataset, "take_incidents") else {}
        return Step(step, source, modality, [whole], bad, order.epoch(before), incidents)

    def _sees_codebook(self, source: str) -> bool:
        """Whether the codebook's pictures of a source are wanted."""
        return self.with_codebook and source not in self.codes

    def _items(
        self, rows: list[Row], source: str, modality: Modality
    ) -> tuple[list[Item], list[BadSample]]:
        items: dict[int, Item] = {}
        bad: list[BadSample] = []
        dataset = self.datasets[source]
        captions = Captions(dataset, source)
        # negatives last, so that most captions they try have been read by then; by index, so that
        # what lies in one shard is read together
        for place in sorted(range(len(rows)), key=lambda n: (rows[n].negative, rows[n].key.index)):
            row = rows[place]
            look = Look(self.section.image, row.key, self.seed, self._sees_codebook(source))
            codes = self.codes.get(source)
            sample, faults = read(dataset, row.key, modality, self.seed, look, codes)
            bad += faults
            if not faults:
                captions.known[row.key.index] = sample.text
            items[place] = prepare(
                sample,
                row.key,
                image=self.section.image,
                text=self.section.text,
                masking=self.section.masking,
                tokenizer=self.tokenizer,
                modality=modality,
                seed=self.seed,
                caption=captions.wrong_for(sample, row) if row.negative else None,
                patch_grid=self.patch_grid,
                with_codebook=self._sees_codebook(source),
                masked=self.masked,
            )
        return [items[place] for place in range(len(rows))], bad


def by_length(rows: list[Row], dataset: Dataset) -> list[Row]:
    """Sort a rank's rows, so that its micro-batches need less padding still.

    Args:
        rows: Rows of a global batch.
        dataset: Theirs, with ``text_sizes``.

    Returns:
        The same rows, short texts first.
    """
    sizes = dataset.text_sizes(np.array([row.key.index for row in rows]))  # type: ignore[attr-defined]
    return [rows[place] for place in np.argsort(sizes, kind="stable").tolist()]


def micro_batch_rows(section: DataSection, size: int) -> int:
    """Count the rows of a micro-batch.

    Args:
        section: Its ``global_batch`` and ``per_gpu_batch``.
        size: Number of ranks.

    Returns:
        The rows.

    Raises:
        ValueError: The global batch does not come out even.
    """
    rows, whole = section.per_gpu_batch, section.global_batch
    part = size * (rows or 1)
    if whole % part:
        per_rank = f"per_gpu_batch {rows} on " if rows else ""
        near = sorted({max(1, whole // part) * part, (whole // part + 1) * part})
        raise ValueError(
            f"data.global_batch: {whole} is not a multiple of {part} ({per_rank}{size} ranks); "
            f"take {' or '.join(map(str, near))}, or change "
            + ("data.per_gpu_batch or the number of ranks" if rows else "the number of ranks")
        )
    return rows or whole // size
