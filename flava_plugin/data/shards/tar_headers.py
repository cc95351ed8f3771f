"""The 512-byte headers of a tar, and the extended headers of PAX.

Formats: POSIX.1-1988 (USTAR), POSIX.1-2001 (PAX) and GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

from typing import Literal, NamedTuple

BLOCK = 512

REGULAR = frozenset({b"0", b"\0", b"7"})
"""A file, an old file, a contiguous file."""

WITHOUT_CONTENT = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
"""Links, devices, folders and pipes: no content follows, whatever the size field says."""


class BrokenTarError(ValueError):
    """A tar is no tar at some place.

    Args:
        reason: ``truncated tar`` or ``damaged tar``.
        detail: What was found.
    """

    def __init__(self, reason: Literal["truncated tar", "damaged tar"], detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Literal["truncated tar", "damaged tar"] = reason
        self.detail = detail


class Header(NamedTuple):
    """What a header says.

    Attributes:
        type: One byte, the member's type.
        name: The member's name; bytes that are no UTF-8 become lone surrogates.
        size: Bytes of its content.
    """

    type: bytes
    name: str
    size: int


def parse_header(block: bytes) -> Header:
    """Read a header and check its sum.

    Args:
        block: ``BLOCK`` bytes.

    Returns:
        What it says.

    Raises:
        BrokenTarError: Its sum is wrong, or its size is no number.
    """
    if not checksum_holds(block):
        raise BrokenTarError("damaged tar", "a header's checksum is wrong")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0":  # GNU tar keeps times where USTAR has the prefix
        prefix = block[345:500].partition(b"\0")[0]
        if prefix:
            name = prefix + b"/" + name
    return Header(block[156:157], readable(name), parse_number(block[124:136]))


def checksum_holds(block: bytes) -> bool:
    """Tell whether a block is a header by its sum; old tars added signed bytes up.

    Args:
        block: ``BLOCK`` bytes.

    Returns:
        Whether the sum is right.
    """
    try:
        stored = parse_number(block[148:156])
    except BrokenTarError:
        return False
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if total == stored:
        return True
    rest = block[:148] + block[156:]
    return total - 256 * sum(byte > 127 for byte in rest) == stored


def parse_number(field: bytes) -> int:
    """Read a number: octal digits, or GNU's base 256 with the first bit set.

    Args:
        field: The field's bytes.

    Returns:
        The number, not negative.

    Raises:
        BrokenTarError: It is no number.
    """
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise BrokenTarError("damaged tar", f"a negative number {field!r} in a header")
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise BrokenTarError("damaged tar", f"{field!r} is no number of a header")
    return int(digits or b"0", 8)


def parse_records(data: bytes) -> dict[str, bytes]:
    """Read the records of a PAX header: ``LENGTH KEY=VALUE`` and a line feed each.

    Args:
        data: The header's content.

    Returns:
        Value by key.

    Raises:
        BrokenTarError: A record is none.
    """
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data) and data[position]:
        space = data.find(b" ", position, position + 20)
        digits = data[position : max(space, position)]
        end = position + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        # the end lies behind the key, so that every turn of the loop moves on
        if not space + 1 < end <= len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise BrokenTarError("damaged tar", "a PAX header holds a broken record")
        records[readable(key)] = value
        position = end
    return records


def parse_size_record(value: bytes) -> int:
    """Read the size that a PAX header gives.

    Args:
        value: Decimal digits.

    Returns:
        The size.

    Raises:
        BrokenTarError: They are none.
    """
    if not value.isdigit() or len(value) > 20:
        raise BrokenTarError("damaged tar", f"a PAX header gives the size {value[:30]!r}")
    return int(value)


def readable(name: bytes) -> str:
    """Decode a name, whatever its bytes.

    Args:
        name: As the tar has it.

    Returns:
        Text; two different names never become the same.
    """
    return name.decode("utf-8", "surrogateescape")
