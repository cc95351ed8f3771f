"""Start and jump at billions of samples: a generated manifest over one tar that stands for all."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flava_plugin.data.arrangement import Streams
from flava_plugin.data.order import Order
from flava_plugin.data.shards.index_file import SUFFIX
from flava_plugin.data.shards.manifest import NAME, Manifest, decode_manifest
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.data.shards.shard_writer import ShardWriter
from flava_plugin.sections_data import MatchingSection

SIZES = {"1.8 B": 180_000, "10 B": 1_000_000}
SAMPLES = 10_000
BATCH = 8192
RANKS = 64


class OneForAll:
    """A store in which every tar has the same content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def local(self, name: str, size: int, digest: bytes) -> Path:
        return self.folder / ("000000.tar" + SUFFIX * name.endswith(SUFFIX))

    def expect(self, files: Sequence[tuple[str, int, bytes]]) -> None:
        return None

    def take_incidents(self) -> dict[str, int]:
        return {}


def write_source(folder: Path, shards: int) -> None:
    """Write one tar, and a manifest that lists it under very many names."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    with ShardWriter(folder, "pair", samples_per_shard=SAMPLES) as writer:
        for number in range(writer.done, SAMPLES):
            writer.add(image=picture.getvalue(), text=f"caption {number}")
    one = decode_manifest((folder / NAME).read_bytes(), NAME).entry(0)
    names = [f"{number // 1000:04d}/{number:08d}.tar".encode() for number in range(shards)]
    Manifest(
        names=np.frombuffer(b"".join(names), np.uint8),
        name_ends=np.cumsum([len(name) for name in names], dtype=np.int64),
        samples=np.full(shards, SAMPLES, np.int64),
        sizes=np.full(shards, one.size, np.int64),
        digests=np.tile(np.frombuffer(one.digest, np.uint8), (shards, 1)),
        index_digests=np.tile(np.frombuffer(one.index_digest, np.uint8), (shards, 1)),
    ).write(folder)


def memory(field: str) -> int:
    """A line of the kernel's account of this process, in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


def start(folder: Path) -> None:
    """In a process of its own: open the source, go on in mid-epoch, say what it cost.

    One rank of 64 reads its 128 rows of a step of 8,192, and the step after it.
    """
    before = memory("VmRSS")
    began = time.perf_counter()
    store = OneForAll(folder)
    shards = ShardSet(store, decode_manifest(store.read(NAME), NAME), "pair")
    fingerprint, length = shards.fingerprint, len(shards)
    opened = time.perf_counter() - began
    began = time.perf_counter()
    streams = Streams("s", shards.shard_lengths, 0, streams=256, window=10_000)
    order = Order("s", streams, 0, MatchingSection(), BATCH)
    middle = length // BATCH // 2
    _read(order, shards, middle)
    jumped = time.perf_counter() - began
    began = time.perf_counter()
    _read(order, shards, middle + 1)
    went_on = time.perf_counter() - began
    state = {"seed": 0, "next_step": middle, "sources": {"s": fingerprint}}
    print(
        json.dumps(
            {
                "samples": length,
                "state": len(json.dumps(state)),
                "open_ms": 1e3 * opened,
                "jump_ms": 1e3 * jumped,
                "next_ms": 1e3 * went_on,
                "memory_mb": (memory("VmRSS") - before) / 1000,
                "peak_mb": (memory("VmHWM") - before) / 1000,
            }
        )
    )


def _read(order: Order, shards: ShardSet, step: int) -> None:
    for row in order.rows(step, 3, RANKS):
        index = row.key.index
        assert shards.read_raw(index).text == f"caption {index % SAMPLES}"
    order.shards_soon(step, 3, RANKS)


def print_table(folder: Path) -> None:
    """Print a row for each size."""
    print(
        "| samples | tars | manifest, MB | open, ms | mid-epoch, ms | next step, ms | "
        "memory, MB | at most, MB | state, bytes |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, shards in SIZES.items():
        write_source(folder, shards)
        code = (
            "from pathlib import Path; from tests.benchmarks.bench.shards_scale import start; "
            f"start(Path({str(folder)!r}))"
        )
        runs = [json.loads(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
        best = {key: sorted(run[key] for run in runs)[2] for key in runs[0]}
        size = (folder / NAME).stat().st_size / 1e6
        print(
            f"| {name} | {shards:,} | {size:.0f} | {best['open_ms']:.0f} | {best['jump_ms']:.0f} | "
            f"{best['next_ms']:.0f} | {best['memory_mb']:.0f} | {best['peak_mb']:.0f} | "
            f"{best['state']:.0f} |"
        )
