"""Everything of ``flava data curate`` between its words and its table."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.keyed_files import KeyedFile
from flava_plugin.data.curation.matches import Matching
from flava_plugin.data.curation.parts import Parts
from flava_plugin.data.curation.phrases import Phrases, read_entries
from flava_plugin.data.curation.record import RECORD, SELECTION, write_record
from flava_plugin.data.curation.scan import Scan
from flava_plugin.data.curation.sections import BalanceStep, CurationPlan
from flava_plugin.data.curation.select import select
from flava_plugin.data.curation.table import Table
from flava_plugin.data.curation.work import PartWork, do_parts
from flava_plugin.data.shards.selection import Selection, write_selection
from flava_plugin.data.spreading import Tick

if TYPE_CHECKING:  # it imports torch, which a scan does without
    from flava_plugin.data.curation.scoring import RunScores

Told = Callable[[str, int], Tick]
"""Asked for each kind of work, and the number of parts: who is told of these."""


@dataclass(frozen=True)
class Curation:
    """A source, a plan and where things are put.

    Attributes:
        parts: The source.
        source: What names it in the record.
        plan: The plan.
        out: Folder of the selection and its record.
        tables: Folder of the tables.
        runs: Works of scoring by a run, by the name of the score.
        jobs: Processes.
    """

    parts: Parts
    source: str
    plan: CurationPlan
    out: Path
    tables: Path
    runs: Mapping[str, RunScores]
    jobs: int = 1

    def carry_out(self, told: Told) -> dict[str, Any]:
        """Scan what is not scanned, take the steps, write the selection and its record.

        Args:
            told: Who is told how far it is.

        Returns:
            The record.

        Raises:
            ValueError: The plan does not fit the source.
            OSError: Something cannot be read or written.
        """
        lists = {
            place: read_entries(step.metadata)
            for place, step in enumerate(self.plan.steps)
            if isinstance(step, BalanceStep)
        }
        wanted = [section.record for section in self.plan.scores.values() if section.record]
        scan = Scan(
            self.parts,
            self.tables,
            tuple(dict.fromkeys(wanted)),
            self.plan.key,
            self.plan.needs_pictures,
        )
        self._do("scan", scan, self.jobs, told)
        matchings: dict[int, Matching] = {}
        for place, (entries, _) in lists.items():
            step = self.plan.steps[place]
            assert isinstance(step, BalanceStep), "lists are those of balance"
            phrases = Phrases(entries, ignore_case=step.ignore_case)
            matchings[place] = Matching(self.parts, scan.files, self.tables, phrases)
            self._do("match", matchings[place], self.jobs, told)
        for name, work in self.runs.items():
            self._do(f"score {name}", work, 1, told)
        scores, origins = self._scores(scan)
        kept, steps = select(self.plan, Table(self.parts, scan.files, scores), matchings)
        for place, (entries, dropped) in lists.items():
            steps[place + 1]["metadata_lines"] = {"entries": len(entries), **dropped}
            steps[place + 1]["metadata_digest"] = matchings[place].files.folder.name
        return self._write(kept, steps, origins)

    def _do(self, name: str, work: PartWork, jobs: int, told: Told) -> None:
        do_parts(work, len(self.parts), jobs, told(name, len(self.parts)))

    def _scores(self, scan: Scan) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
        scores: dict[str, NDArray[np.float32]] = {}
        origins: dict[str, Any] = {}
        table = Table(self.parts, scan.files, {})
        for name, section in self.plan.scores.items():
            origins[name] = section.model_dump(mode="json", exclude_none=True)
            if section.record is not None:
                scores[name] = table.column(f"score.{section.record}")
            elif section.file is not None:
                file = KeyedFile(section.file, section.key, section.column or name)
                values, found, report = file.values_of(table.column("key"))
                scores[name] = np.where(found, values, np.float32(np.nan))
                origins[name] |= {"digest": file.digest, **report}
            else:
                scores[name] = self.runs[name].all()
                origins[name]["weights"] = self.runs[name].files.folder.name
        return scores, origins

    def _write(
        self, kept: NDArray[np.bool_], steps: list[dict[str, Any]], origins: dict[str, Any]
    ) -> dict[str, Any]:
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / SELECTION
        indices = map(self.parts.indices, range(len(self.parts)))
        write_selection(path, self.parts.manifest, (kept[i.start : i.stop] for i in indices))
        record = {
            "selection": Selection(path, self.parts.manifest).fingerprint,
            "source": self.source,
            "manifest": self.parts.manifest.fingerprint,
            "samples": len(kept),
            "kept": int(kept.sum()),
            "seed": self.plan.seed,
            "scores": origins,
            "steps": steps,
            "plan": self.plan.model_dump(mode="json"),
            "versions": {name: version(name) for name in ("flava-plugin", "numpy", "pillow")}
            | {"python": platform.python_version()},
        }
        write_record(self.out, record)
        return record


def refuse_other(out: Path, plan: CurationPlan, parts: Parts) -> None:
    """Refuse to write over a selection that was made otherwise.

    Args:
        out: The folder.
        plan: What is to be done.
        parts: With what.

    Raises:
        ValueError: The folder holds a record of another plan or source.
    """
    path = out / RECORD
    if not path.is_file():
        return
    try:
        record = json.loads(path.read_text("utf-8"))
        same = record["plan"] == plan.model_dump(mode="json")
        same = same and record["manifest"] == parts.manifest.fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise ValueError(
            f"{out}: holds a selection of another plan or source; name another --out (with "
            f"--tables {out}/tables nothing is scanned again), or say --replace"
        )
