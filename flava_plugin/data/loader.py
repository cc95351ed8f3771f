"""The steps of a run, read ahead by worker processes that have no say in what is read.

Whose turn a step is goes to the worker with its number. Where shares follow the losses, nothing is
read ahead past the next decision: workers finish their interval and wait, and the first step of the
next one is read while training waits for it. With shares known beforehand nobody ever waits.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch.utils import data as torch_data
from torch.utils.data import DataLoader

from flava_plugin.data.codes import Codes
from flava_plugin.data.collate import Padding, split
from flava_plugin.data.damage import StoreError
from flava_plugin.data.mixture_run import Mixture
from flava_plugin.data.ordering import footprint
from flava_plugin.data.reading import UnreadableDataError
from flava_plugin.data.rounds import Rounds, joined
from flava_plugin.data.steps import Step, Steps, Turn, micro_batch_rows
from flava_plugin.data.tokenizer import Tokenizer
from flava_plugin.sections_data import DataSection
from flava_plugin.types import Dataset

logger = logging.getLogger(__name__)


class Turns:
    """Whose turn the steps of an interval are; what a loader's reader asks for one after the other.

    Args:
        mixture: Which source feeds a step.
        first: First step.
        last: One past the last step of the run.
        rounds: What an accumulated step reads; None where a step reads one source.
    """

    def __init__(
        self, mixture: Mixture, first: int, last: int, rounds: Rounds | None = None
    ) -> None:
        self.mixture = mixture
        self.rounds = rounds
        self.first = first
        self.last = last
        self.begin(first)

    def begin(self, first: int) -> int:
        """Go on with an interval: as far as the mixture is decided.

        Args:
            first: Its first step.

        Returns:
            One past its last step.

        Raises:
            RuntimeError: Nobody has told the mixture of the steps before (``Mixture.note``).
        """
        until = self.mixture.known_until
        until = self.last if until is None else min(self.last, until)
        if first < self.last and until <= first:
            raise RuntimeError(f"which source feeds step {first} is not decided: note each step")
        self.span = range(first, until)
        return until

    def __len__(self) -> int:
        """Turns of the interval."""
        return len(self.span) * (len(self.rounds) if self.rounds else 1)

    def __iter__(self) -> Iterator[Turn]:
        """Tell whose turn it is, step by step."""
        if self.rounds:
            yield from chain.from_iterable(map(self.rounds.turns, self.span))
            return
        for step in self.span:
            source = self.mixture.source_at(step)
            yield Turn(step, source, self.mixture.steps_before(step, source))


class Loader:
    """A rank's steps, in order.

    Args:
        reader: Reads the steps of an interval as one batch each.
        turns: Its intervals.
        rows: Rows of a micro-batch.
        padding: How the texts of a micro-batch are padded.
    """

    def __init__(
        self, reader: DataLoader[Step | Exception], turns: Turns, rows: int, padding: Padding
    ) -> None:
        self.reader = reader
        self.turns = turns
        self.rows = rows
        self.padding = padding

    def __len__(self) -> int:
        """Number of steps."""
        return self.turns.last - self.turns.first

    def __iter__(self) -> Iterator[Step]:
        """Read the steps; an interval begins when its first step is asked for."""
        done = self.turns.first
        while done < self.turns.last:
            done = self.turns.begin(done)
            rounds, parts = self.turns.rounds, list[Step]()
            for step in self.reader:
                if isinstance(step, Exception):
                    raise step
                cut = (split(whole, self.rows, self.padding) for whole in step.micro_batches)
                parts.append(replace(step, micro_batches=[part for each in cut for part in each]))
                if rounds is None or len(parts) == len(rounds):
                    yield joined(parts) if rounds else parts[0]
                    parts = []


class Told(torch_data.Dataset[Step | Exception]):
    """Steps, or the error that ends the run, as it is.

    What a worker raises reaches the training process as an error whose text is the worker's
    traceback, which buries the one line that helps.

    Args:
        steps: What is read.
    """

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __getitem__(self, turn: Turn) -> Step | Exception:
        """Read a step.

        Args:
            turn: Whose turn it is.

        Returns:
            The step, or why it cannot be read; mistakes in code are raised.
        """
        try:
            return self.steps[turn]
        except (OSError, StoreError, UnreadableDataError) as error:
            return error


def load_steps(
    section: DataSection,
    mixture: Mixture,
    datasets: Mapping[str, Dataset],
    tokenizer: Tokenizer,
    *,
    seed: int,
    first: int,
    last: int,
    rank: int = 0,
    size: int = 1,
    patch_grid: int,
    with_codebook: bool,
    masked: bool = True,
    text_multiple: int = 1,
    codes: Mapping[str, Codes] | None = None,
    accumulated: bool = False,
) -> Loader:
    """Load a rank's part of the steps ``first`` to ``last - 1``, in order.

    What a step holds does not depend on ``first`` nor on the number of workers; nor does the
    global batch on the number of ranks.

    Args:
        section: What is read, and how.
        mixture: How sources take turns. One that follows the losses wants to be told of each step
            (``Mixture.note``) before the next is asked for.
        datasets: A dataset for each source.
        tokenizer: The tokenizer.
        seed: Seed of the run.
        first: First step.
        last: One past the last step.
        rank: This rank.
        size: Number of ranks.
        patch_grid: Patches of a side of the image.
        with_codebook: Whether the codebook's pictures are wanted.
        masked: Whether anything is hidden (fine-tuning hides nothing).
        text_multiple: Texts are padded to a multiple of it, or to the longest that is allowed.
        codes: The codebook's targets by source, of those that have some (``open_codes``).
        accumulated: Whether a step has a batch of each kind (``rounds.py``).

    Returns:
        The steps, each cut into micro-batches of ``per_gpu_batch`` rows.

    Raises:
        ValueError: The batch does not come out even, a dataset is missing, empty or no dataset, or
            more patches are to be hidden than there are.
    """
    check_sources(section, datasets, patch_grid if masked else None)
    steps = Steps(
        section,
        datasets,
        tokenizer,
        seed=seed,
        rank=rank,
        size=size,
        patch_grid=patch_grid,
        with_codebook=with_codebook,
        masked=masked,
        codes=codes if with_codebook else None,
    )
    for name, order in steps.orders.items():
        if rank == 0 and (line := footprint(order, datasets[name], size)):
            logger.info(line)
    parallel: dict[str, Any] = {}
    if section.workers:
        parallel = {"prefetch_factor": section.prefetch, "persistent_workers": True}
    turns = Turns(mixture, first, last, Rounds(section.sources, seed) if accumulated else None)
    reader = DataLoader(
        Told(steps),
        batch_size=None,
        sampler=turns,
        num_workers=section.workers,
        worker_init_fn=start_worker,
        # of its own, since the loader would draw its workers' seeds from the global one
        generator=torch.Generator().manual_seed(0),
        **parallel,
    )
    longest = {"pair": section.text.pair_length, "text": section.text.text_length}
    padding = Padding(tokenizer.pad_id, text_multiple, longest)
    return Loader(reader, turns, micro_batch_rows(section, size), padding)


def check_sources(
    section: DataSection, datasets: Mapping[str, Dataset], patch_grid: int | None
) -> None:
    """Refuse what no step could be made of.

    Args:
        section: What is read.
        datasets: A dataset for each source.
        patch_grid: Patches of a side of the image, or None where none is hidden.

    Raises:
        ValueError: See ``load_steps``.
    """
    for name in section.sources:
        if name not in datasets:
            raise ValueError(f"data.sources.{name}: no dataset was built for it")
        if not isinstance(datasets[name], Dataset):
            raise ValueError(
                f"data.sources.{name}.dataset: {type(datasets[name]).__name__} has no __len__ and "
                "read(index); a dataset is read by index, and one that only iterates cannot be "
                "resumed exactly"
            )
    pictures = any(source.modality != "text" for source in section.sources.values())
    if patch_grid is not None and pictures and section.masking.patch_count > patch_grid**2:
        raise ValueError(
            f"data.masking.patch_count: {section.masking.patch_count} patches cannot be hidden in "
            f"an image of {patch_grid} x {patch_grid}; lower it to at most {patch_grid**2}"
        )


def start_worker(worker: int) -> None:
    """Prepare a reading process.

    It computes on one thread, and leaves interrupts and a cluster's signals to the training
    process, which saves at the next step and needs its workers until then.

    Args:
        worker: Its number; nothing depends on it.
    """
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):  # Windows has the first only
            signal.signal(getattr(signal, name), signal.SIG_IGN)
