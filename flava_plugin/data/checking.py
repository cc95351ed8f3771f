"""Reads all of a dataset and finds what is damaged: every byte, every picture, every text."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from flava_plugin.data.damage import DamagedSampleError, reason_of
from flava_plugin.data.identity import digest_of_file
from flava_plugin.data.raw_reading import Looked, look_at, misnamed
from flava_plugin.data.shards.index_file import SUFFIX, sidecar_size
from flava_plugin.data.shards.manifest import ShardEntry
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.data.spreading import spread
from flava_plugin.types import Dataset, Modality

FOUND_BEFORE = "found when it was indexed"
"""End of what ``ShardSet`` says of a sample that its index flags."""

_AT_ONCE = 1_000
"""Samples of a task where there are no shards."""


class Damage(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        sample: Its index in the dataset; None where a file as a whole is meant.
        reason: What is wrong, in words that many samples share.
        detail: Where, and what was found.
    """

    sample: int | None
    reason: str
    detail: str


@dataclass
class Findings:
    """What was read.

    Attributes:
        samples: Number of them.
        size: Bytes of their pictures and texts.
        damage: Everything that is damaged.
        misnamed: Pictures of another format than their names say; they can be read all the same.
        formats: Pictures by format.
        content: Sum of the sound samples' hashes: the same for the same pictures, texts and
            captions in any order, in any shards.
    """

    samples: int = 0
    size: int = 0
    damage: list[Damage] = field(default_factory=list)
    misnamed: list[Damage] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    content: int = 0

    def add(self, other: Findings) -> None:
        """Take up what another part of the data has shown.

        Args:
            other: It.
        """
        self.samples += other.samples
        self.size += other.size
        self.damage += other.damage
        self.misnamed += other.misnamed
        self.formats += other.formats
        self.content = (self.content + other.content) % (1 << 128)

    def counts(self) -> dict[str, int]:
        """Count what is damaged.

        Returns:
            Number by reason.
        """
        return dict(sorted(Counter(each.reason for each in self.damage).items()))


class _Bench(NamedTuple):
    dataset: Dataset
    kind: Modality
    decoded: bool


def check(
    dataset: Dataset,
    kind: Modality,
    *,
    decoded: bool = True,
    jobs: int = 1,
    tick: Callable[[int], object] = lambda number: None,
) -> Iterator[Findings]:
    """Read every sample of a dataset; of shards also every other byte.

    Args:
        dataset: The dataset.
        kind: What each sample must hold.
        decoded: Whether pictures are decoded.
        jobs: Processes.
        tick: Told of the samples that have been read.

    Yields:
        What was found, shard by shard or a thousand samples at a time, in order.

    Raises:
        StoreError: A remote store does not answer.
        OSError: A process was killed.
    """
    bench = _Bench(dataset, kind, decoded)
    if isinstance(dataset, ShardSet):
        verified = copy.copy(dataset)
        verified.verify = True
        shards = range(len(dataset.manifest))
        yield from spread(
            _check_shard, bench._replace(dataset=verified), shards, jobs=jobs, tick=tick
        )
    else:
        chunks = range(0, len(dataset), _AT_ONCE)
        yield from spread(_check_chunk, bench, chunks, jobs=jobs, tick=tick)


def content_hash(raw: RawSample) -> int:
    """Hash what a sample says, wherever it lies.

    Args:
        raw: The sample.

    Returns:
        128 bits of its picture's bytes and its text.
    """
    image = raw.image or b""
    hashed = blake2b(len(image).to_bytes(8, "little"), digest_size=16)
    hashed.update(image)
    hashed.update((raw.text or "").strip().encode("utf-8", "surrogatepass"))
    return int.from_bytes(hashed.digest(), "little")


def _check_chunk(bench: _Bench, first: int, tick: Callable[[int], object]) -> Findings:
    found = Findings()
    for index in range(first, min(first + _AT_ONCE, len(bench.dataset))):
        _take(found, look_at(bench.dataset, index, bench.kind, decoded=bench.decoded))
        tick(1)
    return found


def _check_shard(bench: _Bench, number: int, tick: Callable[[int], object]) -> Findings:
    found = Findings()
    shards = bench.dataset
    assert isinstance(shards, ShardSet), "asked before"
    begin = int(shards.shard_lengths[:number].sum())
    for index in range(begin, begin + int(shards.shard_lengths[number])):
        _take(found, look_at(shards, index, bench.kind, decoded=bench.decoded))
        tick(1)
    try:
        entry = shards.manifest.entry(number)
    except DamagedSampleError as error:
        found.damage.append(Damage(None, error.reason, error.detail))
        return found
    # what was damaged before the index was made is in its digests, and explains no difference
    named = {each.reason for each in found.damage if not each.detail.endswith(FOUND_BEFORE)}
    for damage in _check_files(shards, entry):
        # a sample that is at fault has been named; else the damage lies between samples
        if damage.reason not in named:
            found.damage.append(damage)
    return found


def _check_files(shards: ShardSet, entry: ShardEntry) -> Iterator[Damage]:
    """Compare a tar and its sidecar with their digests, whole."""
    files = (
        (entry.name, entry.size, entry.digest, "damaged tar"),
        (entry.name + SUFFIX, sidecar_size(entry.samples), entry.index_digest, "damaged index"),
    )
    for name, size, digest, reason in files:
        try:
            hashed, length = digest_of_file(shards.store.local(name, size, digest), 16)
        except (DamagedSampleError, OSError) as error:
            # a tar that is missing is said to be so; without its index it cannot be read either
            said = reason if reason == "damaged index" else reason_of(error)
            yield Damage(None, said, f"{name}: {error}")
            continue
        if hashed == digest.hex():
            continue
        if length == size:
            yield Damage(None, reason, f"{name}: its bytes are not those that were indexed")
        else:
            other = "truncated tar" if length < size else "damaged index"
            yield Damage(None, other, f"{name}: has {length} bytes, was indexed with {size}")


def _take(found: Findings, looked: Looked) -> None:
    raw = looked.raw
    found.samples += 1
    found.size += len(raw.image or b"") + len((raw.text or "").encode("utf-8", "surrogatepass"))
    if raw.image:
        found.formats[raw.extension or "unknown"] += 1
        if misnamed(raw):
            what = f"{raw.name}: holds {raw.extension or 'no known format'}"
            found.misnamed.append(Damage(looked.index, "misnamed picture", what))
    if looked.reason:
        found.damage.append(Damage(looked.index, looked.reason, looked.detail))
    else:
        found.content = (found.content + content_hash(raw)) % (1 << 128)
