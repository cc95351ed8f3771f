"""Members of a tar -> one row for each sample, with what is wrong with it.

A sample's members stand together and share a key: the path up to the first dot of its last part,
as WebDataset has it. A name met twice begins a new sample.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

from flava_plugin.data.damage import Reason
from flava_plugin.data.shards.index_file import (
    CONCERNS,
    FLAGS,
    RECORD_IS_CLASS,
    ROW,
    Row,
    first_reason,
)
from flava_plugin.data.shards.picture_formats import EXTENSIONS, NEEDED, format_of
from flava_plugin.data.shards.tar_headers import BLOCK
from flava_plugin.data.shards.tar_members import Fault, Member, Passed, Seekable, members
from flava_plugin.types import Modality

TEXTS = ("txt", "caption", "text")
"""Ends of names that say a member is a text; the first of a sample counts."""

LARGEST_TEXT = 64 << 20
"""Bytes of a text or record; what is larger is none."""

MOST_NAMED = 20
"""Faults of a tar, and members passed over, that are kept with their names; all are counted."""

_LARGEST = (1 << 32) - 1
_CHUNK = 1 << 20


class SampleFault(NamedTuple):
    """A damaged sample.

    Attributes:
        row: Its row in the index.
        reason: What is wrong.
        detail: The member, and what was found.
    """

    row: int
    reason: Reason
    detail: str


@dataclass
class Grouped:
    """The samples of a tar.

    Attributes:
        rows: Packed rows.
        faults: The first damaged samples, by name.
        counts: All damaged samples, by reason.
        passed: The first members that belong to no sample, by name, and why.
        passed_over: How many there are.
    """

    rows: bytearray = field(default_factory=bytearray)
    faults: list[SampleFault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    passed_over: int = 0


@dataclass
class _Sample:
    """A sample whose members are being met."""

    key: str | None
    names: set[str] = field(default_factory=set)
    strangers: list[str] = field(default_factory=list)
    image: tuple[int, int, int, int] | None = None  # block, size, format, crc
    text: tuple[int, bytes] | None = None
    record: tuple[int, bytes] | None = None
    record_is_class: bool = False
    flags: int = 0
    details: dict[Reason, str] = field(default_factory=dict)

    def blame(self, reason: Reason, detail: str) -> None:
        self.flags |= FLAGS[reason]
        self.details.setdefault(reason, detail)

    def lacks(self, kind: Modality) -> bool:
        has_text = self.text is not None or (self.record is not None and not self.record_is_class)
        return (kind != "text" and self.image is None) or (kind != "image" and not has_text)


def group_members(file: Seekable, size: int, kind: Modality, caption_key: str) -> Grouped:
    """Read a tar through and make its rows.

    Args:
        file: The tar.
        size: Its length in bytes.
        kind: What a sample has to hold.
        caption_key: Key of the caption in the record of a sample without a text member.

    Returns:
        Rows and faults. A place where the tar itself is damaged is a row of its own, or flags the
        sample that it cut in two.
    """
    grouped = Grouped()
    sample: _Sample | None = None

    def finish() -> None:
        if sample is not None:
            _finish(grouped, sample, kind, caption_key)

    for found in members(file, size):
        if isinstance(found, Passed):
            _pass(grouped, found.name, found.what)
            continue
        if isinstance(found, Fault):
            key = split_name(found.name)[0] if found.name else None
            same = sample is not None and (
                sample.key == key if key is not None else sample.lacks(kind)
            )
            if not same:
                finish()
                sample = _Sample(key)
            assert sample is not None
            sample.blame(found.reason, found.detail)
            continue
        key, extension = split_name(found.name)
        if not key or not extension:
            _pass(grouped, found.name, "no member of a sample")
            continue
        if sample is None or sample.key != key or found.name in sample.names:
            finish()
            sample = _Sample(key)
        sample.names.add(found.name)
        _take(sample, found, extension, file)
    finish()
    return grouped


def split_name(name: str) -> tuple[str, str]:
    """Cut a member's name into the sample's key and the extension.

    Args:
        name: As the tar has it.

    Returns:
        The path up to the first dot of its last part, and what is behind, in lower case; two empty
        texts for hidden files and files without an extension.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem and dot else ("", "")


def is_unsafe(name: str) -> bool:
    """Tell whether a name would point out of a folder, on any system.

    Args:
        name: As the tar has it.

    Returns:
        Whether it is absolute, climbs with ``..``, or holds a NUL, a backslash or a drive.
    """
    return (
        name.startswith("/")
        or "\0" in name
        or "\\" in name
        or name[1:2] == ":"
        or ".." in name.split("/")
    )


def _pass(grouped: Grouped, name: str, why: str) -> None:
    grouped.passed_over += 1
    if len(grouped.passed) < MOST_NAMED:
        grouped.passed.append(f"{name!a}: {why}")


def _take(sample: _Sample, member: Member, extension: str, file: Seekable) -> None:
    name, start, size = member
    if is_unsafe(name):
        sample.blame("unsafe name", f"{name!a}")
    block = start // BLOCK
    if size > _LARGEST or block > _LARGEST:
        sample.blame("damaged tar", f"{name!a} has {size} bytes at byte {start}: too far")
    elif extension in EXTENSIONS:
        if sample.image is None:
            head, crc = _head_and_crc(file, start, size)
            sample.image = (block, size, format_of(head), crc)
            if not format_of(head):
                sample.blame("wrong extension", f"{name!a} begins with {head!r}")
    elif extension in (*TEXTS, "json", "cls"):
        if size > LARGEST_TEXT:
            sample.blame("damaged tar", f"{name!a} has {size} bytes: no text")
            return
        file.seek(start)
        content = (block, file.read(size))
        if extension in TEXTS:
            sample.text = sample.text or content
        elif extension == "json" or sample.record is None:
            sample.record = content
            sample.record_is_class = extension == "cls"
    else:
        sample.strangers.append(name)


def _head_and_crc(file: Seekable, start: int, size: int) -> tuple[bytes, int]:
    file.seek(start)
    head, crc = b"", 0
    while size > 0:
        piece = file.read(min(size, _CHUNK))
        if not piece:
            break
        head = head or piece[:NEEDED]
        crc = zlib.crc32(piece, crc)
        size -= len(piece)
    return head, crc


def _finish(grouped: Grouped, sample: _Sample, kind: Modality, caption_key: str) -> None:
    block, size, number, crc = sample.image or (0, 0, 0, 0)
    text_block, text = sample.text or (0, b"")
    record_block, record = sample.record or (0, b"")
    caption: bytes | None = text if sample.text else None
    if caption is None and record and not sample.record_is_class and kind != "image":
        caption = _caption(sample, record, caption_key)
    _judge(sample, kind, caption)
    row = Row(
        image_block=block,
        image_size=size,
        text_block=text_block,
        text_size=len(caption or b""),
        record_block=record_block,
        record_size=len(record),
        flags=sample.flags & CONCERNS[kind],
        format=number,
        spare=RECORD_IS_CLASS * sample.record_is_class,
        crc=zlib.crc32(record, zlib.crc32(text, crc)),
    )
    reason = first_reason(sample.flags, kind)
    if reason is not None:
        grouped.counts[reason] = grouped.counts.get(reason, 0) + 1
        if len(grouped.faults) < MOST_NAMED:
            place = len(grouped.rows) // ROW.size
            grouped.faults.append(SampleFault(place, reason, sample.details[reason]))
    grouped.rows += ROW.pack(*row)


def _caption(sample: _Sample, record: bytes, key: str) -> bytes | None:
    try:
        found = json.loads(record)
        text = found.get(key) if isinstance(found, dict) else None
        return text.encode() if isinstance(text, str) else None
    except (ValueError, RecursionError) as error:
        sample.blame("broken record", f"{sample.key!a}: {error}")
        return None


def _judge(sample: _Sample, kind: Modality, caption: bytes | None) -> None:
    """Flag what a sample lacks."""
    known = sample.image is not None or sample.text is not None or sample.record is not None
    cut = bool(sample.flags)
    if sample.image is None and kind != "text":
        sample.blame("no picture", f"{sample.key!a}")
    if caption is None and kind != "image":
        sample.blame("no text", f"{sample.key!a}")
    if sample.strangers and not cut and (sample.image is None or not known):
        sample.blame("wrong extension", f"{sample.strangers[0]!a}: the key ends at the first dot")
    if caption is None:
        return
    try:
        if not caption.decode().strip():
            sample.blame("empty text", f"{sample.key!a}")
    except UnicodeDecodeError as error:
        sample.blame("text is not UTF-8", f"{sample.key!a}: {error}")
