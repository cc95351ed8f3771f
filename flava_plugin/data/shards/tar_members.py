"""Which members a tar has and where their content lies, read from its headers alone.

Where a header is damaged the next sound one is looked for, so that a flipped bit costs one sample
and not the rest of the tar. Nothing is ever extracted by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from flava_plugin.data.shards.tar_headers import (
    BLOCK,
    REGULAR,
    WITHOUT_CONTENT,
    BrokenTarError,
    Header,
    checksum_holds,
    parse_header,
    parse_records,
    parse_size_record,
    readable,
)

MOST_EXTENDED = 1 << 20
"""Bytes of an extended header; beyond it is no header but an attack, or damage."""

MOST_CHAINED = 16
"""Extended headers before one member; writers make one or two."""

_CHUNK = 1 << 20
_ZERO = bytes(BLOCK)


class Seekable(Protocol):
    """What a tar is read from."""

    def seek(self, position: int, /) -> int:
        """Go to a byte."""
        ...

    def read(self, size: int, /) -> bytes:
        """Read so many bytes, fewer at the end only."""
        ...


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
        name: As the tar has it, long names resolved.
        start: Byte of the tar where its content begins, a multiple of 512.
        size: Bytes of its content, all within the tar.
    """

    name: str
    start: int
    size: int


class Passed(NamedTuple):
    """A member that is no file and is passed over: a link, a device, a file with holes.

    Attributes:
        name: As the tar has it.
        what: What it is.
    """

    name: str
    what: str


class Fault(NamedTuple):
    """A place where the tar is broken.

    Attributes:
        reason: What is wrong.
        detail: Where, and what was found.
        name: The member whose content is cut off; empty where none is known.
    """

    reason: Literal["truncated tar", "damaged tar"]
    detail: str
    name: str = ""


@dataclass
class _Extended:
    """What extended headers say about the members behind them."""

    everywhere: dict[str, bytes] = field(default_factory=dict)
    next_one: dict[str, bytes] = field(default_factory=dict)
    chained: int = 0

    def forget(self) -> None:
        self.next_one = {}
        self.chained = 0


def members(file: Seekable, size: int) -> Iterator[Member | Passed | Fault]:
    """Walk through a tar; folders are left out.

    USTAR with its prefix, GNU's long names and base-256 sizes, and PAX's ``path`` and ``size`` are
    understood. Between two results the caller may read from the file.

    Args:
        file: The tar, not compressed.
        size: Its length in bytes.

    Yields:
        Member | Passed | Fault: What it holds, in its order.
    """
    extended = _Extended()
    position = 0
    while True:
        begin, again = position, position + BLOCK
        block = _read(file, position, BLOCK)
        try:
            if len(block) < BLOCK:
                raise BrokenTarError("truncated tar", "it ends without an end mark")
            if block == _ZERO:
                begin = again = _first_not_zero(file, position, size)
                if begin >= size and not extended.chained:
                    return
                raise BrokenTarError("damaged tar", "there is something behind its end mark")
            header = parse_header(block)
            start = position + BLOCK
            if header.type in (b"x", b"g", b"L", b"K", b"X"):
                position = _extend(extended, file, header, start, size)
                continue
            found, position = _member(extended, file, header, start, size)
        except BrokenTarError as error:
            yield Fault(error.reason, f"{error.detail} (at byte {begin} of {size})")
            found, position = None, _next_header(file, again, size)
        extended.forget()
        if found is not None:
            yield found
            if isinstance(found, Fault):
                position = _next_header(file, position, size)
        if position < 0:
            return


def _read(file: Seekable, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _rounded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _extend(extended: _Extended, file: Seekable, header: Header, start: int, size: int) -> int:
    """Take up an extended header; the position behind it."""
    extended.chained += 1
    if extended.chained > MOST_CHAINED or header.size > MOST_EXTENDED:
        raise BrokenTarError("damaged tar", "extended headers without end")
    if start + header.size > size:
        raise BrokenTarError("truncated tar", "it ends within an extended header")
    content = _read(file, start, header.size)
    if header.type == b"L":
        extended.next_one["path"] = content.partition(b"\0")[0]
    elif header.type == b"g":
        extended.everywhere.update(parse_records(content))
    elif header.type != b"K":  # K is a link's long target, which nobody follows
        extended.next_one.update(parse_records(content))
    return start + _rounded(header.size)


def _member(
    extended: _Extended, file: Seekable, header: Header, start: int, size: int
) -> tuple[Member | Passed | Fault | None, int]:
    """What a header stands for, None for a folder; and the position behind it."""
    records = {**extended.everywhere, **extended.next_one}
    name = readable(records["path"]) if records.get("path") else header.name
    if header.type in WITHOUT_CONTENT or (header.type in REGULAR and name.endswith("/")):
        is_folder = header.type == b"5" or header.type in REGULAR
        return None if is_folder else Passed(name, "a link or a device"), start
    length = parse_size_record(records["size"]) if records.get("size") else header.size
    while header.type == b"S" and _continues(file, start):
        start += BLOCK
    if start + length > size:
        there = max(0, size - start)
        detail = f"{name!a} has {there} of its {length} bytes (from byte {start} of {size})"
        return Fault("truncated tar", detail, name), start
    behind = start + _rounded(length)
    if header.type not in REGULAR:
        what = "a file with holes" if header.type == b"S" else f"of the type {header.type!r}"
        return Passed(name, what), behind
    if any(key.startswith("GNU.sparse.") for key in records):
        return Passed(name, "a file with holes"), behind
    return Member(name, start, length), behind


def _continues(file: Seekable, start: int) -> bool:
    """Whether one more block of the map of an old GNU file with holes stands here.

    The first lies in the header, whose flag is at byte 482; further ones have it at byte 504.
    """
    before = _read(file, start - BLOCK, BLOCK)
    flag = 482 if before[257:262] == b"ustar" and checksum_holds(before) else 504
    return len(before) == BLOCK and before[flag] == 1


def _first_not_zero(file: Seekable, position: int, size: int) -> int:
    """The first block from here on that is not all zeros; ``size`` where all are."""
    length = 8 * BLOCK
    while position < size:
        piece = _read(file, position, length)
        length = min(2 * length, _CHUNK)
        if not piece:
            break
        zeros = len(piece) - len(piece.lstrip(b"\0"))
        if zeros < len(piece):
            return position + zeros // BLOCK * BLOCK
        position += len(piece)
    return size


def _next_header(file: Seekable, position: int, size: int) -> int:
    """The next block from here on that is a sound header; -1 where there is none."""
    length = 8 * BLOCK
    while position + BLOCK <= size:
        piece = _read(file, position, length)
        length = min(2 * length, _CHUNK)  # a tar of nothing but faults is not read again for each
        at = piece.find(b"ustar")
        while at >= 0:
            begin = at - 257
            block = piece[begin : begin + BLOCK] if begin >= 0 else b""
            if begin % BLOCK == 0 and len(block) == BLOCK and checksum_holds(block):
                return position + begin
            at = piece.find(b"ustar", at + 1)
        if len(piece) < BLOCK:
            break
        position += len(piece) // BLOCK * BLOCK
    return -1
