"""The one pass over a source: a table of facts for each part, which all judging is done from."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flava_plugin.data.curation.facts import FACTS, Facts, facts_of, key_of_name, scores_of
from flava_plugin.data.curation.part_files import PartFiles
from flava_plugin.data.curation.parts import Parts
from flava_plugin.data.damage import DamagedSampleError, raise_of_the_machine, reason_of
from flava_plugin.data.decoding import FAILURES, warn_of_bombs
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.types import Sample


@dataclass(frozen=True)
class Scan:
    """The work of scanning a source.

    Attributes:
        parts: The source.
        folder: Of all tables.
        scores: Keys of the samples' JSON records, or of their labels, that hold scores.
        key: Key of the record that names a sample in files of scores; None takes the name of its
            file up to the first dot.
        pictures: Whether pictures are decoded.
    """

    parts: Parts
    folder: Path
    scores: tuple[str, ...] = ()
    key: str | None = None
    pictures: bool = True

    @property
    def files(self) -> PartFiles:
        """Where its tables are."""
        of = (sorted(self.scores), self.key, self.pictures, getattr(self.parts.dataset, "kind", ""))
        caption = getattr(self.parts.dataset, "caption_key", None)
        return PartFiles(self.folder, "scan", json.dumps([*of, caption]))

    def todo(self) -> list[int]:
        """List the parts without a table.

        Returns:
            Their numbers.
        """
        files = self.files
        return [p for p in range(len(self.parts)) if not files.has(p, self.parts.content(p))]

    def do(self, part: int, /) -> None:
        """Scan a part.

        Args:
            part: Its number.
        """
        indices = self.parts.indices(part)
        table = np.zeros(len(indices), [(name, kind) for name, kind in FACTS.items()])
        scores = np.full((len(indices), len(self.scores)), np.nan, np.float32)
        reasons: dict[str, str] = {}
        texts: list[bytes] = []
        with warnings.catch_warnings():
            warn_of_bombs(None)
            for row, index in enumerate(indices):
                text = name = ""
                try:
                    sample, name = self._read(index)
                    text = sample.text or ""
                    facts = facts_of(sample, self._key(sample, name), pictures=self.pictures)
                    scores[row] = scores_of(sample.extra, self.scores)
                except FAILURES as error:
                    raise_of_the_machine(error)
                    reason = reason_of(error)
                    place = f"sample {index}: "
                    place += f"{name}: " if name and name not in str(error) else ""
                    reasons.setdefault(reason, f"{place}{error}")
                    facts = Facts(fault=1 + list(reasons).index(reason))
                table[row] = facts
                texts.append(text.encode("utf-8", "replace"))
        columns = {name: table[name] for name in FACTS}
        columns |= {f"score.{name}": scores[:, n] for n, name in enumerate(self.scores)}
        columns["texts"] = np.frombuffer(b"".join(texts), np.uint8)
        columns["text_ends"] = np.cumsum([len(text) for text in texts], dtype=np.uint32)
        self.files.write(part, self.parts.content(part), columns, {"faults": list(reasons.items())})

    def _key(self, sample: Sample | RawSample, name: str) -> str:
        if self.key is None:
            return key_of_name(name)
        value = sample.extra.get(self.key)
        if not isinstance(value, str | int) or value == "":
            raise DamagedSampleError("broken record", f"{self.key!r} is {value!r:.80}, no key")
        return str(value)

    def _read(self, index: int) -> tuple[Sample | RawSample, str]:
        dataset: Any = self.parts.dataset
        wanted = [*self.scores, *([self.key] if self.key else [])]
        if isinstance(dataset, ShardSet) and wanted:
            raw = _with_labels(dataset, index, wanted)
            return raw, raw.name
        if hasattr(dataset, "read_raw"):
            raw = dataset.read_raw(index)
            return raw, raw.name
        return dataset.read(index), str(index)


def _with_labels(shards: ShardSet, index: int, wanted: Sequence[str]) -> RawSample:
    """A sample with those of the labels that its record has: a score may be missing."""

    def read(labels: Sequence[str]) -> RawSample:
        view = copy.copy(shards)  # shares the open tars
        view.labels = tuple(labels)
        return view.read_raw(index)

    try:
        return read(wanted)
    except DamagedSampleError as error:
        if error.reason != "broken record":
            raise
    raw = read(())
    found: dict[str, Any] = dict(raw.extra)
    for name in wanted:
        try:
            found |= read((name,)).extra
        except DamagedSampleError:
            continue
    return RawSample(raw.image, raw.extension, raw.text, found, raw.name)


def reasons_of(notes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Read what was wrong in a part.

    Args:
        notes: Of its table.

    Returns:
        Reason and first example; place n belongs to ``fault`` n + 1.
    """
    return [(str(reason), str(example)) for reason, example in notes["faults"]]
