"""Damaged tars, sidecars, manifests and selections: never a crash, a hang or a silent skip.

A damaged file gives the same samples, or what it does not give is reported. Damage inside a
member's own bytes before the tar is indexed cannot be seen, as tars have no sum over content; all
other damage is.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.index_file import ROW, IndexHead, Row, digest, encode_index
from flava_plugin.data.shards.indexing import index_folder
from flava_plugin.data.shards.manifest import NAME, ShardEntry, gather
from flava_plugin.data.shards.opening import open_shards
from flava_plugin.data.shards.selection import write_selection
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.data.shards.tar_members import Member, members
from tests.unit.shard_trees import extended, header, octal, pairs, record, tar_bytes

DEADLINE = 2.0
"""Seconds of CPU for one damaged file of some 10 kB; it takes milliseconds."""

Range = tuple[int, int]
Pair = tuple[bytes, str]
Seen = tuple[list[tuple[bytes | None, str | None]], int]


def damage(data: bytes, rng: np.random.Generator) -> tuple[bytes, list[Range], bool]:
    """Damaged bytes, which places changed, and whether bytes were lost and the loss shows."""
    broken = bytearray(data)
    at = int(rng.integers(len(data)))
    length = int(min(len(data) - at, rng.integers(1, 700)))
    kind = int(rng.integers(7))
    if kind == 0:  # bits
        places = rng.integers(len(data), size=int(rng.integers(1, 6))).tolist()
        for place in places:
            broken[place] ^= 1 << int(rng.integers(8))
        return bytes(broken), [(place, place + 1) for place in places], False
    if kind == 1:  # cut off
        return bytes(broken[:at]), [(at, len(data))], True
    if kind == 2:  # noise
        broken[at : at + length] = rng.bytes(length)
    elif kind == 3:  # zeros, as a hole that was never written
        broken[at : at + length] = bytes(length)
    elif kind == 4:  # a piece from elsewhere
        start = int(rng.integers(len(data) - length + 1))
        broken[at : at + length] = data[start : start + length]
    elif kind == 5:  # a piece is gone
        return bytes(broken[:at] + broken[at + length :]), [(at, len(data))], length % 512 > 0
    else:  # a hostile header
        block = at // 512 * 512
        broken[block : block + 512] = hostile(rng)
        return bytes(broken), [(block, block + 512)], False
    return bytes(broken), [(at, at + length)], False


def hostile(rng: np.random.Generator) -> bytes:
    name = (b"../../evil.jpg", b"/etc/passwd", b"a.txt", b"", b"\xff\xff.jpg")[rng.integers(5)]
    size = (octal(0), octal(8**11 - 1), b"\x80" + b"\xff" * 11, b"\xff" * 12, b"junk")[
        rng.integers(5)
    ]
    kind = (b"0", b"x", b"g", b"L", b"S", b"1", b"5", b"\0")[rng.integers(8)]
    return header(name, size.ljust(12, b"\0"), kind)[:512]


def read_all(shards: ShardSet) -> Seen:
    """Samples that can be read, and how many are reported."""
    seen: list[tuple[bytes | None, str | None]] = []
    reported = 0
    sizes = shards.text_sizes(np.arange(len(shards)))
    assert len(sizes) == len(shards)
    for index in range(len(shards)):
        try:
            raw = shards.read_raw(index)
        except DamagedSampleError:
            reported += 1
        else:
            seen.append((raw.image, raw.text))
        with contextlib.suppress(DamagedSampleError, OSError):
            shards.read(index)
    return seen, reported


def tree(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*")}


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder inside another one, in which nothing else may appear."""
    monkeypatch.setattr("flava_plugin.durable.sync", lambda path: None)
    folder = tmp_path / "data"
    folder.mkdir()
    outside = set(tmp_path.iterdir())
    yield folder
    assert set(tmp_path.iterdir()) == outside


def still_there(data: bytes, ranges: list[Range]) -> list[Pair]:
    """Samples of a sound tar whose content is as it was, whatever happened to their headers."""
    content: dict[str, dict[str, bytes]] = {}
    hit: set[str] = set()
    for member in members(io.BytesIO(data), len(data)):
        assert isinstance(member, Member)
        end = member.start + member.size
        key, _, kind = member.name.rpartition(".")
        content.setdefault(key, {})[kind] = data[member.start : end]
        if any(low < end and high > member.start for low, high in ranges):
            hit.add(key)
    return [(c["jpg"], c["txt"].decode()) for key, c in content.items() if key not in hit]


TARS = [
    tar_bytes(pairs(5)),
    b"".join(
        extended(record("path", f"long/{number}/{name}"))
        + header(b"short", octal(len(content)))
        + content
        + bytes(-len(content) % 512)
        for number in range(2)
        for name, content in pairs(2)
    )
    + bytes(1024),
]


@pytest.mark.parametrize("part", range(4))
def test_tars_that_are_damaged_before_they_are_indexed(clean: Path, part: int) -> None:
    for seed in range(part * 200, part * 200 + 200):
        rng = np.random.default_rng(seed)
        data = TARS[seed % 2]
        broken, ranges, lost = damage(data, rng)
        (clean / "a.tar").write_bytes(broken)
        (clean / "a.tar.idx").unlink(missing_ok=True)
        began = time.process_time()
        manifest = index_folder(clean)
        assert tree(clean) == {"a.tar", "a.tar.idx", NAME}
        assert bool(manifest.samples.sum()) or not broken.strip(b"\0")
        if manifest.samples.sum():
            seen, reported = read_all(open_shards(str(clean), "pair"))
        else:
            seen, reported = [], 0
        assert time.process_time() - began < DEADLINE, seed
        wanted = still_there(data, [] if lost else ranges)
        gone = [each for each in wanted if each not in seen]
        assert not gone or reported, f"{seed}: samples are gone and nothing is said"


@pytest.mark.parametrize("part", range(3))
def test_tars_that_are_damaged_behind_their_index(clean: Path, part: int) -> None:
    data = TARS[part % 2]
    (clean / "a.tar").write_bytes(data)
    index_folder(clean)
    whole, none = read_all(open_shards(str(clean), "pair", verify=True))
    assert none == 0
    for seed in range(part * 200, part * 200 + 200):
        broken, _, _ = damage(data, np.random.default_rng(seed + 10_000))
        (clean / "a.tar").write_bytes(broken)
        began = time.process_time()
        seen, reported = read_all(open_shards(str(clean), "pair", verify=True))
        assert time.process_time() - began < DEADLINE, seed
        assert len(seen) + reported == len(whole), seed
        assert all(each in whole for each in seen), seed
    assert tree(clean) == {"a.tar", "a.tar.idx", NAME}


@pytest.mark.parametrize("name", ["a.tar.idx", NAME, "chosen"])
def test_damaged_indexes(clean: Path, name: str) -> None:
    (clean / "a.tar").write_bytes(TARS[0])
    (clean / "b.tar").write_bytes(TARS[1])
    manifest = index_folder(clean)
    kept = [np.arange(int(n)) % 3 < 2 for n in manifest.samples]
    write_selection(clean / "chosen", manifest, kept)
    chosen = clean / "chosen"
    whole, none = read_all(open_shards(str(clean), "pair", selection=chosen))
    assert none == 0
    data = (clean / name).read_bytes()
    refused = 0
    for seed in range(250):
        broken, _, _ = damage(data, np.random.default_rng(seed + 20_000))
        (clean / name).write_bytes(broken)
        began = time.process_time()
        try:
            seen, reported = read_all(open_shards(str(clean), "pair", selection=chosen))
        except (ValueError, OSError) as error:
            assert "flava data" in str(error), (seed, error)
            refused += 1
        else:
            assert len(seen) + reported == len(whole), seed
            assert all(each in whole for each in seen), seed
            assert broken == data or reported or seen == whole, seed
        assert time.process_time() - began < DEADLINE, seed
    assert refused or name == "a.tar.idx"


def test_a_row_that_lies_is_no_large_read(tmp_path: Path) -> None:
    """An index of somebody else may say anything, with right digests."""
    data = tar_bytes(pairs(1))
    (tmp_path / "a.tar").write_bytes(data)
    for row in (
        Row(1, (1 << 32) - 1, 3, 4),
        Row((1 << 32) - 1, 9, 3, 4),
        Row(1, 9, (1 << 32) - 1, 4),
    ):
        index = encode_index(ROW.pack(*row), IndexHead(1, len(data), digest(data), bytes(8)))
        (tmp_path / "a.tar.idx").write_bytes(index)
        line = ("a.tar", 1, len(data), digest(data), digest(index))
        gather([ShardEntry(*line)], kind="pair", caption_key="c", faults={}).write(tmp_path)
        before = time.process_time()
        with pytest.raises(DamagedSampleError, match="damaged index"):
            open_shards(str(tmp_path), "pair").read(0)
        assert time.process_time() - before < 1
