"""The tiny run on tars of every kind of header, and everything that can be wrong with a tar."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from tiny_run import TINY

from flava_plugin.data.shards.indexing import index_folder

WORDS = (
    "red",
    "blue",
    "small",
    "large",
    "circle",
    "square",
    "cat",
    "dog",
    "on",
    "the",
    "left",
    "of",
)
Members = list[tuple[str, bytes]]


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def words(number: int) -> bytes:
    dice = np.random.default_rng(number)
    return " ".join(dice.choice(WORDS, int(dice.integers(2, 25)))).encode()


def tar(path: Path, members: Members, layout: int = tarfile.USTAR_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=layout) as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1.5 if layout == tarfile.PAX_FORMAT else 1  # type: ignore[assignment]
            file.addfile(info, io.BytesIO(content))


def write_tars(root: Path, shards: int = 5, samples: int = 9) -> None:
    """Pairs in PAX, pictures in GNU's and texts in USTAR's format, all indexed."""
    for shard in range(shards):
        numbers = range(shard * samples, (shard + 1) * samples)
        pairs: Members = []
        for n in numbers:
            pairs += [(f"{n:06}.jpg", jpeg(n)), (f"{n:06}.txt", b"%d " % n + words(n))]
        pictures = [(f"{n:06}.jpg", jpeg(1000 + n)) for n in numbers]
        texts = [(f"{n:06}.txt", words(n)) for n in numbers]
        tar(root / f"pairs/{shard:03}.tar", pairs, tarfile.PAX_FORMAT)
        tar(root / f"images/{shard:03}.tar", pictures, tarfile.GNU_FORMAT)
        tar(root / f"texts/{shard:03}.tar", texts)
    for name, kind in (("pairs", "pair"), ("images", "image"), ("texts", "text")):
        index_folder(root / name, kind=kind)  # type: ignore[arg-type]


def data_on(root: str, cache: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The tiny recipe's ``data`` on these tars."""

    def source(
        modality: str, share: float, kind: str, folder: str, **shuffle: int
    ) -> dict[str, Any]:
        dataset: dict[str, Any] = {"type": f"webdataset_{kind}", "path": f"{root}/{folder}"}
        if cache:
            dataset["cache"] = dict(cache)
        return {"modality": modality, "share": share, "dataset": dataset, "shuffle": shuffle}

    sources = {
        "pairs": source("pair", 0.5, "pairs", "pairs", streams=4, window=6),
        "images": source("image", 0.25, "images", "images", streams=2, window=5),
        "sentences": source("text", 0.25, "text", "texts", streams=2, window=12, buckets=3),
    }
    return {**yaml.safe_load(TINY)["data"], "sources": sources, **changes}


def bomb() -> bytes:
    """A PNG of 900 million pixels in a hundred bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + sum_

    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def damage(folder: Path) -> dict[str, int]:
    """Add every kind of damage to indexed pairs of 6 tars; gives the samples of each kind."""
    tar(
        folder / "100.tar",
        [
            ("a.jpg", jpeg(1)[:700]), ("a.txt", b"broken"),
            ("b.png", bomb()), ("b.txt", b"bomb"),
            ("c.jpg", jpeg(2)), ("c.txt", b"   "),
            ("d.jpg", jpeg(3)), ("d.txt", b"\xff\xfe\x00"),
            ("e.jpg", b"GARBAGE"), ("e.txt", b"no picture at all"),
            ("../../f.jpg", jpeg(4)), ("../../f.txt", b"climbs"),
            ("h.jpg", jpeg(6)),
            ("i.txt", b"no picture"),
            ("j.jpg", b""), ("j.txt", b"nothing"),
            ("k.jpg", jpeg(7)), ("k.txt", b""),
            ("o.jpg", jpeg(10)), ("o.txt", b"a good one"),
            (".p.jpg", jpeg(11)),
        ],
    )  # fmt: skip
    (folder / "101.tar").write_bytes(b"")
    tar(folder / "102.tar", [])
    index_folder(folder, kind="pair")
    # and between the index and the run
    (folder / "002.tar").unlink()
    cut = (folder / "003.tar").read_bytes()
    (folder / "003.tar").write_bytes(cut[: len(cut) // 2])
    sidecar = bytearray((folder / "004.tar.idx").read_bytes())
    sidecar[100] ^= 1
    (folder / "004.tar.idx").write_bytes(sidecar)
    return {
        "broken picture": 1,
        "damaged index": 9,
        "decompression bomb": 1,
        "empty text": 2,
        "missing shard": 9,
        "no picture": 1,
        "no text": 1,
        "text is not UTF-8": 1,
        "truncated tar": 9 + 1,
        "unsafe name": 1,
        "wrong extension": 2,
    }
