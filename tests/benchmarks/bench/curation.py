"""How fast a source is scanned and chosen from, and the memory that choosing takes.

python -m tests.benchmarks.bench.curation scan
python -m tests.benchmarks.bench.curation select --rows 1000000
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flava_plugin.data.curation.balance import balance
from flava_plugin.data.curation.facts import FACTS
from flava_plugin.data.curation.matches import Matching
from flava_plugin.data.curation.parts import PART, Parts, parts_of
from flava_plugin.data.curation.phrases import Phrases
from flava_plugin.data.curation.scan import Scan
from flava_plugin.data.curation.sections import read_plan
from flava_plugin.data.curation.select import select
from flava_plugin.data.curation.table import Table
from flava_plugin.data.shards.manifest import ShardEntry, gather
from flava_plugin.data.shards.opening import open_shards
from flava_plugin.data.shards.shard_writer import ShardWriter

VOCABULARY, ENTRIES, WORDS = 200_000, 500_000, 10
"""Made-up words, entries (MetaCLIP has 500,000) and words of a caption."""

STEPS: dict[str, list[dict[str, Any]]] = {
    "basic": [{"type": "basic"}],
    "score": [{"type": "score", "score": "clip", "share": 0.3}],
    "duplicates": [{"type": "duplicates", "prefer": "clip"}],
    "near 4": [{"type": "near_duplicates", "distance": 4, "prefer": "clip"}],
    "near 6": [{"type": "near_duplicates", "distance": 6}],
}


def scan(samples: int, side: int) -> None:
    """Scan photographs of ``side`` pixels, in this process."""
    dice = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        sizes = []
        with ShardWriter(Path(folder) / "s", "pair", samples_per_shard=samples) as writer:
            for n in range(samples):
                coarse = dice.integers(0, 256, (side // 12, side // 10, 3), np.uint8)
                picture = Image.fromarray(coarse).resize(
                    (side, side * 3 // 4), Image.Resampling.BICUBIC
                )
                file = io.BytesIO()
                picture.save(file, "JPEG", quality=87)
                sizes.append(file.tell())
                writer.add(image=file.getvalue(), text=f"a picture number {n} of several words")
        for pictures in (True, False):
            work = Scan(
                parts_of(open_shards(f"{folder}/s", "pair")),
                Path(folder) / f"t{pictures}",
                pictures=pictures,
            )
            start = time.process_time()
            work.do(0)
            spent = time.process_time() - start
            kind = "with pictures decoded" if pictures else "texts and bytes alone"
            print(
                f"scan, {side} x {side * 3 // 4} pixels, {np.mean(sizes) / 1000:.0f} kB, {kind}: "
                f"{samples / spent:,.0f} samples a second and core"
            )


def made_up(folder: Path, rows: int) -> tuple[Parts, Scan]:
    """Tables as a scan leaves them: 5 % exact copies, 10 % of pictures some bits away."""
    dice = np.random.default_rng(1)
    names = [f"w{n:x}" for n in range(VOCABULARY)]
    texts = []
    for _ in range(20):
        chosen = np.minimum(dice.pareto(0.6, (PART, WORDS)), VOCABULARY - 1).astype(int)
        texts.append([" ".join(names[w] for w in line).encode() for line in chosen.tolist()])
    count = rows // PART
    lines = [
        ShardEntry(f"{n:06d}.tar", PART, 0, n.to_bytes(16, "big"), bytes(16)) for n in range(count)
    ]
    parts = Parts([None] * rows, gather(lines, kind="pair", caption_key="", faults={}))  # type: ignore[arg-type]
    work = Scan(parts, folder, ("clip",))
    before: np.ndarray = dice.integers(1, 2**64, PART, np.uint64, endpoint=False)
    for n in range(count):
        columns: dict[str, Any] = {
            name: dice.integers(1, 2**64, PART, np.uint64, endpoint=False)
            if kind is np.uint64
            else np.full(PART, 250, kind)
            for name, kind in FACTS.items()
        }
        columns["fault"] = np.zeros(PART, np.uint8)
        copies = PART // 10
        flips = np.uint64(1) << dice.integers(0, 64, (copies, 3), np.uint64)
        columns["perceptual"][:copies] = before[:copies] ^ np.bitwise_or.reduce(flips, axis=1)
        before = columns["perceptual"]
        columns["picture"][: PART // 20] = n // 2 + 1
        columns["text"][: PART // 20] = np.arange(PART // 20) + 1
        columns["score.clip"] = dice.random(PART, np.float32)
        own = texts[n % len(texts)]
        columns["texts"] = np.frombuffer(b"".join(own), np.uint8)
        columns["text_ends"] = np.cumsum(list(map(len, own)), dtype=np.uint32)
        work.files.write(n, parts.content(n), columns, {"faults": []})
    return parts, work


class PeakMemory:
    """The most anonymous memory of this process inside a ``with``, beyond what there was."""

    def __enter__(self) -> PeakMemory:
        self.begin, self.most, self._ended = _anonymous(), 0, False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended:
            self.most = max(self.most, _anonymous() - self.begin)
            time.sleep(0.005)


def _anonymous() -> int:
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * resource.getpagesize()


def choose(rows: int, folder: Path) -> None:
    """Take each step alone over all rows, then the balancing."""
    parts, work = made_up(folder, rows)
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    print(f"{rows:,} rows, tables of {size / rows:.0f} bytes a row")
    scores = {"clip": Table(parts, work.files, {}).column("score.clip")}
    table = Table(parts, work.files, scores)
    for name, steps in STEPS.items():
        plan = read_plan({"scores": {"clip": {"record": "clip"}}, "steps": steps}, "bench")
        with PeakMemory() as memory:
            start = time.process_time()
            kept, report = select(plan, table, {})
            spent = time.process_time() - start
        print(
            f"{name:<12}{spent:>8.1f} s{memory.most / rows:>8.0f} bytes a row; kept {kept.sum():,} "
            f"{json.dumps(report[-1]['report'])}"
        )
    dice = np.random.default_rng(2)
    entries = {
        " ".join(f"w{n:x}" for n in np.minimum(dice.pareto(0.3, k), VOCABULARY - 1).astype(int))
        for k in (1, 2, 3)
        for _ in range(ENTRIES // 3)
    }
    matching = Matching(parts, work.files, folder, Phrases(sorted(entries)))
    start = time.process_time()
    for part in range(min(len(parts), 50)):
        matching.do(part)
    each = (time.process_time() - start) / (min(len(parts), 50) * PART)
    print(f"matching {len(entries):,} entries: {each * 1e6:.1f} us a caption and core")
    for part in range(50, len(parts)):  # the same captions come again; chance does not care
        whole = {name: matching.files.column(part % 20, name) for name in ("ends", "entries")}
        matching.files.write(part, parts.content(part), whole)
    plan = read_plan({"steps": [{"type": "balance", "metadata": "x", "threshold": 2000}]}, "bench")
    step: Any = plan.steps[0]
    with PeakMemory() as memory:
        start = time.process_time()
        kept, report = balance(table, np.ones(rows, bool), step, matching, 0)
        spent = time.process_time() - start
    report.pop("most")
    print(
        f"{'balance':<12}{spent:>8.1f} s{memory.most / rows:>8.0f} bytes a row; "
        f"kept {kept.sum():,} {report}"
    )


def main(argv: list[str]) -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["scan", "select"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args(argv)
    if arguments.what == "scan":
        for side in (256, 640):
            scan(arguments.samples, side)
        return
    with tempfile.TemporaryDirectory() as folder:
        choose(arguments.rows // PART * PART, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
