"""One part of a pack: samples -> one tar, or several where it grows too large."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flava_plugin.data.budget import TooMuchDamageError, damage_message
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.raw_reading import Looked, look_at
from flava_plugin.data.shards.index_file import SUFFIX, decode_index, digest, sidecar_size
from flava_plugin.data.shards.manifest import ShardEntry
from flava_plugin.data.shards.packing_pictures import packed_picture
from flava_plugin.data.shards.packing_plan import PackPlan, tar_name
from flava_plugin.data.shards.writing import ShardFile
from flava_plugin.durable import name_file, write_text
from flava_plugin.types import Dataset


class LeftOut(NamedTuple):
    """A damaged sample that is not in the pack.

    Attributes:
        sample: Its index in the dataset.
        reason: What is wrong.
        detail: Where, and what was found.
    """

    sample: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Part:
    """A part that is done.

    Attributes:
        entries: A line of the manifest for each tar.
        left_out: The damaged samples.
    """

    entries: tuple[ShardEntry, ...]
    left_out: tuple[LeftOut, ...]


class Bench(NamedTuple):
    """What every part is made with.

    Attributes:
        dataset: Where samples are read.
        plan: What goes where.
        folder: Where tars go.
        records: Where it is noted which parts are done.
        allowed: Damaged samples that are put up with.
    """

    dataset: Dataset
    plan: PackPlan
    folder: Path
    records: Path
    allowed: int


def write_part(bench: Bench, part: int, tick: Callable[[int], object]) -> Part:
    """Write a part's tars and then its record; a function of the plan and the dataset alone.

    Args:
        bench: What it is made with.
        part: Its number.
        tick: Told of each sample.

    Returns:
        What there is now.

    Raises:
        TooMuchDamageError: This part alone has more damaged samples than are put up with.
    """
    plan = bench.plan
    entries: list[ShardEntry] = []
    left_out: list[LeftOut] = []
    tar: ShardFile | None = None
    try:
        for index in plan.indices(part).tolist():
            looked = look_at(bench.dataset, index, plan.kind, decoded=plan.decode)
            if not looked.reason:
                tar = tar or ShardFile(bench.folder / tar_name(part, len(entries)), plan.kind)
                looked = _add(tar, looked, plan)
            if looked.reason:
                left_out.append(LeftOut(index, looked.reason, looked.detail))
                if len(left_out) > bench.allowed:
                    raise TooMuchDamageError(too_much(left_out, bench.allowed))
            elif tar is not None and tar.size >= plan.shard_bytes:
                tar.finish()
                entries.append(entry_of(bench.folder, tar.tar.name))
                tar = None
            tick(1)
        if tar is not None and tar.samples:
            tar.finish()
            entries.append(entry_of(bench.folder, tar.tar.name))
            tar = None
    except OSError as error:
        name_file(error, bench.folder)
        raise
    finally:
        if tar is not None:
            tar.drop()
    done = Part(tuple(entries), tuple(left_out))
    write_record(bench.records, part, done)
    return done


def read_part(bench: Bench, part: int) -> Part | None:
    """Look up a part that was written before.

    Args:
        bench: What it was made with.
        part: Its number.

    Returns:
        The part, or None where it has no record, a tar's size or its sidecar is not as it was, or
        a sample is missing.
    """
    try:
        data = json.loads(record_path(bench.records, part).read_text("utf-8"))
        entries = tuple(
            ShardEntry(name, samples, size, bytes.fromhex(whole), bytes.fromhex(index))
            for name, samples, size, whole, index in data["tars"]
        )
        for entry in entries:
            tar = bench.folder / entry.name
            sidecar = tar.with_name(tar.name + SUFFIX)
            if tar.stat().st_size != entry.size:
                return None
            if sidecar.stat().st_size != sidecar_size(entry.samples):
                return None
            if entry_of(bench.folder, entry.name) != entry:
                return None
        left_out = tuple(LeftOut(*each) for each in data["left_out"])
        accounted = sum(entry.samples for entry in entries) + len(left_out)
        return Part(entries, left_out) if accounted == len(bench.plan.indices(part)) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def write_record(records: Path, part: int, done: Part) -> None:
    """Note that a part is done.

    Args:
        records: Folder of the records.
        part: Number of the part.
        done: What there is of it.
    """
    tars = [[e.name, e.samples, e.size, e.digest.hex(), e.index_digest.hex()] for e in done.entries]
    text = json.dumps({"tars": tars, "left_out": done.left_out}) + "\n"
    write_text(record_path(records, part), text)


def record_path(records: Path, part: int) -> Path:
    """Say where a part's record is.

    Args:
        records: Folder of the records.
        part: Number of the part.

    Returns:
        The file.
    """
    return records / f"{part:06d}.json"


def entry_of(folder: Path, name: str) -> ShardEntry:
    """Make the manifest's line of a tar that has been written.

    Args:
        folder: Where it is.
        name: Its name.

    Returns:
        The line, by its sidecar's word.
    """
    data = (folder / (name + SUFFIX)).read_bytes()
    head, _ = decode_index(data, name)
    return ShardEntry(name, head.samples, head.tar_bytes, head.tar_digest, digest(data))


def too_much(left_out: list[LeftOut], allowed: int) -> str:
    """Say that too many samples are damaged.

    Args:
        left_out: The samples.
        allowed: How many were put up with.

    Returns:
        Some lines.
    """
    examples: dict[str, str] = {}
    for each in left_out:
        examples.setdefault(each.reason, f"sample {each.sample}: {each.detail}")
    return damage_message(Counter(each.reason for each in left_out), examples, allowed)


def _add(tar: ShardFile, looked: Looked, plan: PackPlan) -> Looked:
    """Write a sample, or say what is wrong with it after all."""
    raw = looked.raw
    try:
        record = {name: plain(value) for name, value in raw.extra.items()}
        tar.add(
            f"{looked.index:09d}",
            image=packed_picture(looked, plan),
            text=raw.text if plan.kind != "image" else None,
            record=record or None,
        )
    except DamagedSampleError as error:
        return Looked(looked.index, raw, None, error.reason, f"{raw.name}: {error.detail}"[:300])
    return looked


def plain(value: Any) -> Any:
    """Turn a label into what JSON can hold.

    Args:
        value: A number, a text, or a list or array of them.

    Returns:
        The same in Python's own types.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a label is {value!r:.80}; labels are numbers, texts and lists of them")
