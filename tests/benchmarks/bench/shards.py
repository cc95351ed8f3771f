"""Reading without decoding: webdataset's own loader and ours, on the same tars, side by side.

``python -m tests.benchmarks.bench.shards`` prints CPU time per sample of the whole process tree,
medians of interleaved rounds. ``--scale`` prints what a start and a jump into the middle of an
epoch cost at 1.8 and 10 billion samples.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from flava_plugin.data.shards.indexing import index_folder
from flava_plugin.data.shards.opening import open_shards
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.data.shards.shard_writer import ShardWriter
from tests.benchmarks.bench import shards_scale

BATCH = 64
CAPTION = "a photograph of a street with houses, trees and two people on bicycles {}"
RECORD = {"caption": "a street", "url": "https://example.com/a.jpg", "width": 256, "height": 256}
BARS = {"pax": 8.0, "ustar": 4.0}

Pair = tuple[bytes, str]


def write_tars(folder: Path, layout: str, samples: int, shards: int) -> None:
    """Write tars: ``pax`` by webdataset's own writer with three members, ``ustar`` by ours."""
    import webdataset

    rng = np.random.default_rng(0)
    each = samples // shards

    def picture() -> bytes:
        return b"\xff\xd8\xff\xe0" + rng.bytes(int(rng.integers(6_000, 17_000)))

    folder.mkdir()
    if layout == "ustar":
        with ShardWriter(folder, "pair", samples_per_shard=each) as writer:
            for number in range(samples):
                writer.add(image=picture(), text=CAPTION.format(number))
        return
    for shard in range(shards):
        with webdataset.TarWriter(str(folder / f"{shard:06d}.tar")) as tar:
            for number in range(shard * each, (shard + 1) * each):
                text = CAPTION.format(number)
                key = f"{number:09d}"
                tar.write({"__key__": key, "jpg": picture(), "txt": text, "json": RECORD})
    with tarfile.open(folder / "000000.tar") as written:
        assert written.next().pax_headers, "webdataset's writer no longer makes PAX headers"  # type: ignore[union-attr]
    index_folder(folder)


def theirs(folder: Path, workers: int) -> Iterator[list[Pair]]:
    """webdataset: tar after tar, nothing shuffled, nothing decoded."""
    import webdataset

    urls = sorted(str(file) for file in folder.glob("*.tar"))
    dataset = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    batches = dataset.batched(BATCH, collation_fn=as_pairs, partial=True)
    return iter(webdataset.WebLoader(batches, batch_size=None, num_workers=workers))


def as_pairs(samples: list[Any]) -> list[Pair]:
    """Samples of either side as what a collating function would see."""
    if isinstance(samples[0], RawSample):
        return [(sample.image or b"", sample.text or "") for sample in samples]
    return [(sample["jpg"], sample["txt"].decode()) for sample in samples]


class Raw:
    """Samples by number for a ``DataLoader``."""

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> RawSample:
        return self.shards.read_raw(index)


def ours(folder: Path, workers: int) -> Iterator[list[Pair]]:
    """ShardSet: tars in a shuffled order, samples shuffled in windows of four tars."""
    shards = open_shards(str(folder), "pair")
    lengths = shards.shard_lengths
    begins = np.cumsum(lengths) - lengths
    rng = np.random.default_rng(1)
    order = rng.permutation(len(lengths))
    windows = [
        rng.permutation(np.concatenate([begins[s] + np.arange(lengths[s]) for s in order[at:][:4]]))
        for at in range(0, len(order), 4)
    ]
    indices = np.concatenate(windows).tolist()
    loader: DataLoader[Any] = DataLoader(
        Raw(shards),  # type: ignore[arg-type]
        batch_size=BATCH,
        sampler=indices,
        num_workers=workers,
        collate_fn=as_pairs,
    )
    return iter(loader)


SIDES: dict[str, Callable[[Path, int], Iterator[list[Pair]]]] = {"theirs": theirs, "ours": ours}


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def timed(side: str, folder: Path, workers: int) -> float:
    """CPU microseconds per sample of one pass, start included."""
    before = cpu_seconds()
    count = 0
    batches = SIDES[side](folder, workers)
    for batch in batches:
        count += len(batch)
    del batches  # joins the reading processes
    return 1e6 * (cpu_seconds() - before) / count


def content(side: str, folder: Path) -> str:
    """Digest of all samples of one side, whatever their order."""
    digests = [
        blake2b(image + text.encode(), digest_size=16).digest()
        for batch in SIDES[side](folder, 0)
        for image, text in batch
    ]
    return blake2b(b"".join(sorted(digests))).hexdigest()


def compare(folder: Path, layout: str, workers: int, rounds: int) -> str:
    """A row of the table: medians of interleaved rounds."""
    assert content("theirs", folder) == content("ours", folder), "the sides read different samples"
    taken: dict[str, list[float]] = {"theirs": [], "ours": []}
    for number in range(rounds + 1):
        for side in sorted(SIDES, reverse=number % 2 == 0):
            taken[side].append(timed(side, folder, workers))
    medians = {side: statistics.median(values[1:]) for side, values in taken.items()}
    ratio = medians["theirs"] / medians["ours"]
    spread = [a / b for a, b in zip(taken["theirs"][1:], taken["ours"][1:], strict=True)]
    bar = f"{BARS[layout]:.0f}"
    return (
        f"| {layout} | {workers} | {medians['theirs']:.0f} | {medians['ours']:.0f} | {ratio:.1f} | "
        f"{min(spread):.1f} to {max(spread):.1f} | {bar} |"
    )


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.bench.shards", description=__doc__)
    parser.add_argument("--samples", type=int, default=8_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--scale", action="store_true", help="1.8 and 10 billion samples")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as place:
        if chosen.scale:
            shards_scale.print_table(Path(place))
            return
        print("| tars | reading processes | webdataset, us | ours, us | ratio | rounds | bar |")
        print("|---|---|---|---|---|---|---|")
        for layout in BARS:
            folder = Path(place) / layout
            write_tars(folder, layout, chosen.samples, chosen.shards)
            for workers in chosen.workers:
                print(compare(folder, layout, workers, chosen.rounds), flush=True)


if __name__ == "__main__":
    main()
