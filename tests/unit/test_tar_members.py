"""Headers of every writer of tars, and of nobody."""

from __future__ import annotations

import io
import tarfile
import time
from typing import Any

import pytest

from flava_plugin.data.shards.tar_members import Fault, Member, Passed, members
from tests.unit.shard_trees import END, extended, header, octal, padded, picture, record, tar_bytes

LAYOUTS = {
    "ustar": tarfile.USTAR_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}
PLAIN = [("a.jpg", picture()), ("sub/a.txt", b"x" * 512), ("empty.txt", b""), ("b.txt", b"y" * 513)]
PREFIXED = [("d" * 80 + "/" + "e" * 60 + ".jpg", b"in the prefix")]
LONG = [("f" * 300 + ".txt", b"long"), ("g/" * 200 + "h.txt", b"deep"), ("bäume/ö.txt", b"utf-8")]


def walk(data: bytes) -> list[Any]:
    return list(members(io.BytesIO(data), len(data)))


def contents(data: bytes) -> list[tuple[str, bytes]]:
    found = walk(data)
    assert all(isinstance(each, Member) for each in found), found
    return [(name, data[start : start + size]) for name, start, size in found]


def faults(data: bytes) -> list[tuple[str, str]]:
    return [(each.reason, each.name) for each in walk(data) if isinstance(each, Fault)]


def names(data: bytes) -> list[str]:
    return [each.name for each in walk(data) if isinstance(each, Member)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_members_are_those_of_tarfile(layout: str) -> None:
    wanted = PLAIN + PREFIXED + (LONG if layout != "ustar" else [])
    data = tar_bytes(wanted, LAYOUTS[layout])
    assert contents(data) == wanted
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        theirs = [(info.name, info.offset_data, info.size) for info in tar if info.isreg()]
    assert [tuple(each) for each in walk(data)] == theirs


def test_a_tar_without_members_holds_nothing() -> None:
    assert walk(END) == []
    assert walk(bytes(512)) == []  # one zero block is an end mark, as GNU tar has it
    assert walk(bytes(10240)) == []


def test_numbers_in_base_256() -> None:
    size = b"\x80" + (5).to_bytes(11, "big")
    assert contents(header(b"a.txt", size) + padded(b"hello") + END) == [("a.txt", b"hello")]
    negative = header(b"a.txt", b"\xff" * 12) + padded(b"hello") + END
    assert faults(negative) == [("damaged tar", "")]


def test_sizes_with_spaces_and_old_headers() -> None:
    assert contents(header(b"a.txt", b"          5 ") + padded(b"hello") + END)
    v7 = header(b"a.txt", octal(5), kind=b"\0", magic=b"")
    assert contents(v7 + padded(b"hello") + END) == [("a.txt", b"hello")]


def test_a_sum_of_signed_bytes() -> None:
    block = bytearray(header("ä.txt".encode(), octal(2)))
    signed = sum(byte - 256 * (byte > 127) for byte in block[:148] + block[156:]) + 256
    block[148:156] = b"%06o\0 " % signed
    assert contents(bytes(block) + padded(b"hi") + END) == [("ä.txt", b"hi")]


def test_pax_gives_path_and_size() -> None:
    both = extended(record("path", "long/" * 40 + "a.txt") + record("size", "5"))
    data = both + header(b"short", octal(0)) + padded(b"hello") + header(b"b.txt", octal(0)) + END
    assert contents(data) == [("long/" * 40 + "a.txt", b"hello"), ("b.txt", b"")]
    everywhere = extended(record("size", "3"), b"g") + extended(record("comment", "none"))
    data = everywhere + header(b"a.txt") + padded(b"abc") + header(b"b.txt") + padded(b"def") + END
    assert contents(data) == [("a.txt", b"abc"), ("b.txt", b"def")]


def test_gnu_keeps_times_where_ustar_has_the_prefix() -> None:
    block = bytearray(header(b"a.txt", octal(1), magic=b"ustar  \0"))
    block[345:357] = b"14000000000\0"
    total = sum(block[:148] + block[156:]) + 256
    block[148:156] = b"%06o\0 " % total
    assert names(bytes(block) + padded(b"a") + END) == ["a.txt"]


def test_what_is_no_file_is_passed_over_and_named() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"odd{kind.decode()}")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        info = tarfile.TarInfo("a.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"a"))
    found = walk(file.getvalue())
    assert [each.name for each in found] == ["odd2", "odd1", "odd3", "odd6", "a.txt"]
    assert [type(each) for each in found] == [Passed] * 4 + [Member]
    old_folder = header(b"folder/", octal(0), b"\0") + END
    assert walk(old_folder) == []


def test_files_with_holes_are_passed_over() -> None:
    more = bytes(504) + b"\x01" + bytes(7)
    block = bytearray(header(b"holes.txt", octal(5), b"S", magic=b"ustar  \0"))
    block[482] = 1
    block[148:156] = b"%06o\0 " % (sum(block[:148] + block[156:]) + 256)
    old = bytes(block) + more + bytes(512) + padded(b"hello") + header(b"b.txt") + END
    assert [type(each) for each in walk(old)] == [Passed, Member]
    new = extended(record("GNU.sparse.major", "1")) + header(b"holes.txt", octal(5))
    found = walk(new + padded(b"hello") + header(b"b.txt") + END)
    assert [type(each) for each in found] == [Passed, Member]
    unknown = header(b"what", octal(5), b"Q") + padded(b"hello") + header(b"b.txt") + END
    assert [type(each) for each in walk(unknown)] == [Passed, Member]


THREE = [("a.txt", b"a" * 600), ("b.txt", b"b" * 600), ("c.txt", b"c" * 600)]
WHOLE = tar_bytes(THREE)[: 3 * 1536]  # a header and two blocks each, without an end mark


@pytest.mark.parametrize("size", range(0, len(WHOLE) + 1, 128))
def test_a_cut_is_seen_wherever_it_is(size: int) -> None:
    found = walk(WHOLE[:size])
    assert [each for each in found if isinstance(each, Fault)], "a cut tar passed for whole"
    assert found[-1].reason == "truncated tar"
    kept = [each.name for each in found if isinstance(each, Member)]
    whole = sum(size >= 1536 * place + 512 + 600 for place in range(3))
    assert kept == ["a.txt", "b.txt", "c.txt"][:whole]


def test_a_cut_member_is_named() -> None:
    assert faults(WHOLE[: 1536 + 700]) == [("truncated tar", "b.txt")]


def test_behind_a_damaged_header_the_next_sound_one_is_found() -> None:
    for byte in (0, 130, 150, 300, 511):
        data = bytearray(WHOLE + END)
        data[1536 + byte] ^= 4
        assert names(bytes(data)) == ["a.txt", "c.txt"]
        assert faults(bytes(data)) == [("damaged tar", "")]


def test_an_absurd_size_costs_one_member() -> None:
    for size in (b"77777777777\0", b"\x80" + b"\xff" * 11):
        data = WHOLE[:1536] + header(b"b.txt", size) + WHOLE[2048:] + END
        assert names(data) == ["a.txt", "c.txt"]
        assert faults(data) == [("truncated tar", "b.txt")]


def test_what_stands_behind_the_end_mark_is_reported() -> None:
    data = WHOLE[:1536] + END + WHOLE[1536:] + END
    assert names(data) == ["a.txt", "b.txt", "c.txt"]
    assert faults(data) == [("damaged tar", "")]
    assert faults(WHOLE + END + b"rubbish") == [("damaged tar", "")]


@pytest.mark.parametrize(
    "content",
    [
        b"0 path=a\n",
        b"99 path=a\n",
        b"-5 path=a\n",
        b"9999999999999999999999999999 path=a\n",
        b"path=a\n",
        b"10 path=ab",
        b"7 path\n",
        record("path", "a") + b"xx",
        record("size", "-1"),
        record("size", "0x10"),
        record("size", "9" * 40),
    ],
)
def test_broken_pax_records(content: bytes) -> None:
    data = extended(content) + header(b"a.txt", octal(1)) + padded(b"a") + END
    assert [reason for reason, _ in faults(data)] == ["damaged tar"]


def test_extended_headers_end() -> None:
    chain = extended(record("comment", "x")) * 17 + header(b"a.txt") + END
    assert "damaged tar" in [reason for reason, _ in faults(chain)]
    huge = header(b"PaxHeader", octal(1 << 30), b"x") + header(b"a.txt") + END
    assert faults(huge) == [("damaged tar", "")]
    assert names(huge) == ["a.txt"]
    cut = header(b"PaxHeader", octal(5000), b"x")
    assert faults(cut) == [("truncated tar", "")]
    alone = extended(record("path", "a.txt")) + END
    assert faults(alone) == [("damaged tar", "")]


def test_hostile_lengths_take_no_time() -> None:
    before = time.process_time()
    chains = extended(record("comment", "x")) * 20_000 + END
    assert faults(chains)
    look_alikes = header(b"a.txt", b"77777777777\0") * 5_000
    assert len(faults(look_alikes)) == 5_000
    decoys = header(b"a", b"77777777777\0") + (b"\0" + b"ustar" * 51).ljust(512, b"u") * 20_000
    assert faults(decoys) == [("truncated tar", "a")]
    assert time.process_time() - before < 8


def test_different_odd_names_stay_different() -> None:
    data = header(b"\xff.txt") + header(b"\xfe.txt") + END
    assert len(set(names(data))) == 2
