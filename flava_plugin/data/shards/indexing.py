"""Tars -> sidecars and a manifest: once for all, in parallel, going on where it was stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.grouping import SampleFault, group_members
from flava_plugin.data.shards.hashing_reader import HashingReader
from flava_plugin.data.shards.index_file import (
    ROW,
    ROW_DTYPE,
    SUFFIX,
    IndexHead,
    decode_index,
    digest,
    encode_index,
    first_reason,
    settings_digest,
    write_index,
)
from flava_plugin.data.shards.manifest import Manifest, ShardEntry, gather
from flava_plugin.data.spreading import Tick, spread
from flava_plugin.types import Modality


@dataclass(frozen=True)
class Indexed:
    """A tar that has been indexed.

    Attributes:
        entry: Its line of the manifest.
        counts: Damaged samples by reason.
        faults: The first of them, by name; empty where the sidecar was there already.
        passed: The first members that belong to no sample.
        passed_over: How many there are.
        kept: Whether the sidecar was there already and fits.
    """

    entry: ShardEntry
    counts: dict[str, int]
    faults: tuple[SampleFault, ...] = ()
    passed: tuple[str, ...] = ()
    passed_over: int = 0
    kept: bool = False


class _Bench(NamedTuple):
    """What every tar is indexed with."""

    folder: Path
    kind: Modality
    caption_key: str


Progress = Callable[[Indexed, int], None]
"""Told each tar when it is done, and how many there are in all."""


def index_folder(
    folder: Path,
    *,
    kind: Modality = "pair",
    caption_key: str = "caption",
    jobs: int = 1,
    progress: Progress | None = None,
) -> Manifest:
    """Write a sidecar beside every ``*.tar`` below a folder, and the manifest at its top.

    A sidecar that fits its tar's size, its time of change and these options is kept.

    Args:
        folder: The folder.
        kind: What a sample has to hold.
        caption_key: Key of the caption in a JSON record, for samples without a text member.
        jobs: Processes.
        progress: Told each tar when it is done.

    Returns:
        The manifest.

    Raises:
        ValueError: There is no tar, or one changes while it is read.
        OSError: A file cannot be read or written.
    """
    names = find_tars(folder)
    entries: list[ShardEntry] = []
    faults: dict[str, int] = {}
    for done in _index_all(folder, names, kind, caption_key, jobs):
        entries.append(done.entry)
        for reason, number in done.counts.items():
            faults[reason] = faults.get(reason, 0) + number
        if progress is not None:
            progress(done, len(names))
    manifest = gather(entries, kind=kind, caption_key=caption_key, faults=faults)
    manifest.write(folder)
    return manifest


def find_tars(folder: Path) -> list[str]:
    """List the tars below a folder.

    Args:
        folder: The folder.

    Returns:
        Their paths below it, sorted; hidden files, and those in hidden folders, are none.

    Raises:
        ValueError: There is no such folder, no tar, or a name that is no text.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give a folder of *.tar")
    found = (path for path in folder.rglob("*.tar") if path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    names = [name for name in names if not any(p.startswith(".") for p in name.split("/"))]
    for name in names:
        if "\\" in name or name != name.encode("utf-8", "replace").decode():
            raise ValueError(f"{folder}: {name!a} has a name with odd characters; rename it")
    if not names:
        packed = any(folder.rglob("*.tar.*z*"))
        hint = "; unpack the compressed ones first: they cannot be read by place" if packed else ""
        raise ValueError(f"{folder}: holds no *.tar{hint}")
    return names


def index_tar(folder: Path, name: str, kind: Modality, caption_key: str) -> Indexed:
    """Make sure that one tar has its sidecar.

    Args:
        folder: Where names start.
        name: The tar's path below it.
        kind: What a sample has to hold.
        caption_key: Key of the caption in a record.

    Returns:
        Its line, and what is wrong with it.

    Raises:
        ValueError: It changes while it is read.
    """
    tar = folder / name
    before = tar.stat()
    settings = settings_digest(kind, caption_key)
    kept = _kept(tar, name, before, kind, settings)
    if kept is not None:
        return kept
    with tar.open("rb", buffering=0) as file:
        reader = HashingReader(file)
        grouped = group_members(reader, before.st_size, kind, caption_key)
        tar_digest = reader.digest()
    after = tar.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ValueError(f"{tar}: changed while it was read; wait until it is written, run again")
    samples = len(grouped.rows) // ROW.size
    data = encode_index(grouped.rows, IndexHead(samples, before.st_size, tar_digest, settings))
    write_index(tar, data, before.st_mtime_ns)
    return Indexed(
        ShardEntry(name, samples, before.st_size, tar_digest, digest(data)),
        grouped.counts,
        tuple(grouped.faults),
        tuple(grouped.passed),
        grouped.passed_over,
    )


def _kept(
    tar: Path, name: str, status: os.stat_result, kind: Modality, settings: bytes
) -> Indexed | None:
    """What the sidecar says, where it is the tar's as it is now."""
    sidecar = tar.with_name(tar.name + SUFFIX)
    try:
        same_time = sidecar.stat().st_mtime_ns == status.st_mtime_ns
        data = sidecar.read_bytes() if same_time else b""
        head, rows = decode_index(data, str(sidecar))
    except (FileNotFoundError, DamagedSampleError):
        return None
    if head.tar_bytes != status.st_size or head.settings != settings:
        return None
    entry = ShardEntry(name, head.samples, head.tar_bytes, head.tar_digest, digest(data))
    return Indexed(entry, _counts(rows, kind), kept=True)


def _counts(rows: bytes, kind: Modality) -> dict[str, int]:
    flags, numbers = np.unique(np.frombuffer(rows, ROW_DTYPE)["flags"], return_counts=True)
    counts: dict[str, int] = {}
    for flag, number in zip(flags.tolist(), numbers.tolist(), strict=True):
        reason = first_reason(flag, kind)
        if reason is not None:
            counts[reason] = counts.get(reason, 0) + number
    return counts


def _index_all(
    folder: Path, names: Sequence[str], kind: Modality, caption_key: str, jobs: int
) -> Iterator[Indexed]:
    bench = _Bench(folder, kind, caption_key)
    return spread(_index_one, bench, names, jobs=min(jobs, len(names)), tick=lambda number: None)


def _index_one(bench: _Bench, name: str, _: Tick) -> Indexed:
    return index_tar(bench.folder, name, bench.kind, bench.caption_key)
