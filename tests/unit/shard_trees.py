"""Small tars for the tests of shards, of Python's tarfile or put together by hand."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from flava_plugin.data.shards.indexing import index_folder
from flava_plugin.data.shards.opening import open_shards
from flava_plugin.data.shards.shard_set import ShardSet

Members = Sequence[tuple[str, bytes]]


@lru_cache
def picture(number: int = 0, kind: str = "JPEG") -> bytes:
    """A picture of 16 x 12 pixels whose colour is a function of a number."""
    file = io.BytesIO()
    color = (number * 37 % 256, number * 91 % 256, 128)
    Image.new("RGB", (16, 12), color).save(file, kind)
    return file.getvalue()


def pairs(count: int, first: int = 0, folder: str = "") -> list[tuple[str, bytes]]:
    """Members of samples with pictures and captions."""
    made: list[tuple[str, bytes]] = []
    for number in range(first, first + count):
        made.append((f"{folder}{number:05d}.jpg", picture(number)))
        made.append((f"{folder}{number:05d}.txt", f"caption {number}".encode()))
    return made


def tar_bytes(members: Iterable[tuple[str, bytes]], layout: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar as Python's tarfile writes it; PAX gets a header for each member."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=layout) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 0.5 if layout == tarfile.PAX_FORMAT else 0  # type: ignore[assignment]
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def write_tar(path: Path, members: Members, layout: int = tarfile.USTAR_FORMAT) -> Path:
    """The same in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members, layout))
    return path


def header(
    name: bytes = b"a.txt",
    size: bytes = b"00000000000\0",
    kind: bytes = b"0",
    magic: bytes = b"ustar\x0000",
    rest: bytes = b"",
) -> bytes:
    """A header by hand, its checksum right."""
    block = (name.ljust(100, b"\0") + b"0000644\0" + bytes(16) + size + b"0" * 11 + b"\0").ljust(
        148, b"\0"
    )
    block += b" " * 8 + kind + bytes(100) + magic
    block = (block + rest.rjust(512 - len(block), b"\0"))[:512]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def octal(size: int) -> bytes:
    """A size field."""
    return b"%011o\0" % size


def padded(content: bytes) -> bytes:
    """Content filled up to whole blocks."""
    return content + bytes(-len(content) % 512)


def record(key: str, value: str) -> bytes:
    """A record of a PAX header."""
    body = f" {key}={value}\n".encode()
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def extended(content: bytes, kind: bytes = b"x") -> bytes:
    """An extended header with its content."""
    return header(b"PaxHeader", octal(len(content)), kind) + padded(content)


END = bytes(1024)


def make_set(folder: Path, shards: Sequence[Members], **options: Any) -> ShardSet:
    """Write tars, index them and open them."""
    for number, members in enumerate(shards):
        write_tar(folder / f"{number:03d}.tar", members)
    index_folder(folder, kind=options.get("kind", "pair"))
    return open_shards(str(folder), options.pop("kind", "pair"), **options)
