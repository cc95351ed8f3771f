"""What a run learns about its data: which it is, what cannot be read, how fetching goes."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from flava_plugin import durable
from flava_plugin.data.bad_samples import BadSamples
from flava_plugin.data.identity import fingerprint
from flava_plugin.data.reading import BadSample
from flava_plugin.data.steps import Step
from flava_plugin.sections_data import DataSection
from flava_plugin.train.run_folder import LostClaimError, keep_claim
from flava_plugin.train.world import World
from flava_plugin.types import Dataset

logger = logging.getLogger(__name__)


class DataLog:
    """Counts over all ranks and starts of a run.

    Args:
        section: The recipe's ``data``.
        datasets: A dataset for each source.
        world: This rank's place.
    """

    def __init__(self, section: DataSection, datasets: Mapping[str, Dataset], world: World) -> None:
        self.section = section
        self.datasets = datasets
        self.world = world
        self.bad = BadSamples(section.bad_samples, section.bad_share)
        self.incidents: Counter[str] = Counter()
        # met by this process when it opened the datasets; workers read on and count their own
        self._opening: Counter[str] = Counter()
        for each in datasets.values():
            if hasattr(each, "take_incidents"):
                self._opening.update(each.take_incidents())

    def flags(self, step: Step) -> Tensor:
        """Tell the other ranks whether this one has something to note.

        Args:
            step: What this rank has read.

        Returns:
            (2,) samples that could not be read, and incidents; to be summed over ranks.
        """
        incidents = sum(step.incidents.values()) + self._opening.total()
        return torch.tensor([float(len(step.bad)), float(incidents)])

    def note(self, step: Step, flags: Tensor) -> None:
        """Count what all ranks have met in a step.

        Args:
            step: What this rank has read.
            flags: (2,) sums over ranks of ``flags``.

        Raises:
            UnreadableDataError: More samples cannot be read than the recipe puts up with.
        """
        if not flags.any():
            return
        own = (step.bad, dict(self._opening + Counter(step.incidents)))
        self._opening.clear()
        records: list[tuple[list[BadSample], dict[str, int]]] = [own] * self.world.size
        if self.world.size > 1:
            dist.all_gather_object(records, own)
        for _, incidents in records:
            self.incidents.update(incidents)
        rows = (step.step + 1) * self.section.global_batch * max(1, len(step.parts))
        self.bad.add([each for bad, _ in records for each in bad], rows)

    def figures(self, step: Step) -> dict[str, int]:
        """Give what a line of ``metrics.jsonl`` says of the data.

        Args:
            step: The step.

        Returns:
            ``epoch`` of the step's source, counted from 0; ``bad_samples`` and ``incidents`` so
            far, where there are any.
        """
        counted = {"bad_samples": len(self.bad), "incidents": self.incidents.total()}
        return {"epoch": step.epoch, **{name: n for name, n in counted.items() if n}}

    def write_if_claimed(self, run_dir: Path, token: str) -> None:
        """Write ``data.json``, unless the run folder has become another process's.

        Args:
            run_dir: The run folder.
            token: This process's claim.
        """
        with suppress(LostClaimError):
            keep_claim(run_dir, token)
            self.write(run_dir)

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps.

        Returns:
            Plain lists and strings, for JSON.
        """
        return {
            "sources": {name: self._mark(name) for name in self.datasets},
            "bad_samples": self.bad.state(),
            "incidents": dict(self.incidents),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a checkpoint's counts.

        Args:
            state: What ``state`` gave.

        Raises:
            ValueError: A source holds other data than it did, so that the order of its samples
                would be another one.
        """
        changed = [
            f"data.sources.{name}.dataset: has changed since the checkpoint was written "
            f"({state['sources'].get(name)} then, {self._mark(name)} now); bring the old files "
            "back, or set another run_dir to start anew (init.run takes the weights along)"
            for name in self.datasets
            if state["sources"].get(name) != self._mark(name)
        ]
        if changed:
            raise ValueError("\n".join(changed))
        self.bad.load_state(state["bad_samples"])
        self.incidents = Counter(state["incidents"])

    def _mark(self, name: str) -> str:
        """A source's fingerprint; of a dataset without one, where it is, lest another be taken."""
        dataset = self.datasets[name]
        place = self.section.sources[name].dataset.options.get("path")
        said = fingerprint(dataset)
        return said if hasattr(dataset, "fingerprint") or not place else f"{said} of {place}"

    def write(self, run_dir: Path) -> None:
        """Write ``data.json``: what each source held, what could not be read, how fetching went.

        Args:
            run_dir: The run folder.
        """
        sources = {}
        for name, each in self.datasets.items():
            sources[name] = {
                "dataset": self.section.sources[name].dataset.type,
                "samples": len(each),
                "fingerprint": fingerprint(each),
            }
            if hasattr(each, "coverage"):
                sources[name]["coverage"] = each.coverage
        found = {
            "sources": sources,
            "bad_samples": self.bad.counts(),
            "incidents": dict(self.incidents),
        }
        durable.write_text(run_dir / "data.json", json.dumps(found, indent=2) + "\n")
