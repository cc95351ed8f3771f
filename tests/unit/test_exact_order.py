"""Stopped anywhere and gone on with any number of ranks and workers: the same global batches."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_stubs import LetterTokenizer, mixture_of, section
from PIL import Image

from flava_plugin.data.loader import load_steps
from flava_plugin.data.mixture_run import Mixture
from flava_plugin.data.shards.indexing import index_folder
from flava_plugin.data.shards.shard_set import ShardSet
from flava_plugin.data.shards.store import LocalStore
from flava_plugin.mixture_types import Segment

BATCH = 16
STEPS = 60
STOPS = 50


def write_shards(folder: Path, kind: str, lengths: list[int], broken: set[int]) -> ShardSet:
    """Tars of numbered samples; some pictures or texts of them are broken."""
    folder.mkdir()
    chance = np.random.default_rng(len(lengths))
    number = 0
    for shard, length in enumerate(lengths):
        with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for _ in range(length):
                picture = io.BytesIO()
                pixels = chance.integers(0, 255, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(picture, "PNG")
                words = " ".join(["word"] * int(chance.integers(1, 30)))
                members = {"txt": b"" if number in broken else words.encode()}
                if kind == "pair":
                    members = {"png": picture.getvalue(), "txt": words.encode()}
                    if number in broken:
                        members["png"] = picture.getvalue()[:60]
                members["json"] = f'{{"number": {number}}}'.encode()
                for extension, data in members.items():
                    info = tarfile.TarInfo(f"{number:06d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                number += 1
    manifest = index_folder(folder, kind=kind)  # type: ignore[arg-type]
    return ShardSet(LocalStore(folder), manifest, kind, labels=["number"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardSet]:
    root = tmp_path_factory.mktemp("shards")
    return {
        "pairs": write_shards(root / "pairs", "pair", [40, 7, 0, 33, 25, 1, 30], {5, 6, 90}),
        "texts": write_shards(root / "texts", "text", [50, 15, 31], {3}),
    }


def read(
    datasets: dict[str, ShardSet],
    first: int,
    last: int,
    *,
    size: int = 1,
    workers: int = 0,
    mixture: Mixture | None = None,
) -> list[dict[str, Any]]:
    """The global batches of some steps, put together from what every rank reads."""
    blank = {"type": "in_memory"}
    recipe = section(
        global_batch=BATCH,
        workers=workers,
        sources={
            "pairs": {
                "modality": "pair",
                "share": 0.7,
                "dataset": blank,
                "shuffle": {"streams": 8, "window": 6},
            },
            "texts": {
                "modality": "text",
                "share": 0.3,
                "dataset": blank,
                "shuffle": {"streams": 4, "window": 9, "buckets": 4},
            },
        },
    )
    ranks = [
        list(
            load_steps(
                recipe,
                mixture or mixture_of(recipe, 7),
                datasets,
                LetterTokenizer(),
                seed=7,
                first=first,
                last=last,
                rank=rank,
                size=size,
                patch_grid=4,
                with_codebook=True,
            )
        )
        for rank in range(size)
    ]
    return [together([steps[place] for steps in ranks]) for place in range(last - first)]


def together(parts: list[Any]) -> dict[str, Any]:
    rows = []
    bad: set[Any] = set()
    for part in parts:
        bad |= set(part.bad)
        for batch in part.micro_batches:
            for row in range(len(batch)):
                real = batch.text_padding[row]
                rows.append(
                    (
                        int(batch.extra["number"][row]),
                        batch.text_masked[row][real].tolist(),
                        batch.word_labels[row][real].tolist(),
                        None if batch.image is None else batch.image[row].numpy().tobytes(),
                        None if batch.matched is None else bool(batch.matched[row]),
                        None if batch.patch_mask is None else batch.patch_mask[row].tolist(),
                    )
                )
    assert len({(part.step, part.source, part.epoch) for part in parts}) == 1
    return {
        "step": parts[0].step,
        "source": parts[0].source,
        "epoch": parts[0].epoch,
        "rows": sorted(rows, key=repr),
        "bad": bad,
    }


@pytest.fixture(scope="module")
def uninterrupted(datasets: dict[str, ShardSet]) -> list[dict[str, Any]]:
    return read(datasets, 0, STEPS)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_fifty_stops_change_nothing(
    datasets: dict[str, ShardSet], uninterrupted: list[dict[str, Any]]
) -> None:
    chance = np.random.default_rng(0)
    stops = sorted(chance.choice(np.arange(1, STEPS), STOPS, replace=False).tolist())
    seen = set()
    for first, last in zip([0, *stops], [*stops, STEPS], strict=True):
        size, workers = int(chance.choice([1, 2, 4, 8])), int(chance.choice([0, 1, 2, 4]))
        seen.add((size, workers))
        assert read(datasets, first, last, size=size, workers=workers) == uninterrupted[first:last]
    assert {size for size, _ in seen} == {1, 2, 4, 8} and {w for _, w in seen} == {0, 1, 2, 4}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_shares_that_change_move_a_source_on_in_its_own_order(
    datasets: dict[str, ShardSet], uninterrupted: list[dict[str, Any]]
) -> None:
    shares = (
        {"pairs": 0.0, "texts": 1.0},
        {"pairs": 0.8, "texts": 0.2},
        {"pairs": 1.0, "texts": 0.0},
    )
    mixture = Mixture(
        [Segment(0, shares[0], 5), Segment(5, shares[1], 20), Segment(25, shares[2])], 7
    )
    whole = read(datasets, 0, 40, mixture=mixture)
    assert [step["source"] for step in whole[:5]] == ["texts"] * 5
    for name in datasets:  # with streams, windows, buckets and negatives: the same batches in turn
        known = [step["rows"] for step in uninterrupted if step["source"] == name]
        moved = [step["rows"] for step in whole if step["source"] == name]
        both = min(len(known), len(moved))
        assert both > 8 and moved[:both] == known[:both]
    for first, size, workers in ((5, 2, 1), (13, 4, 0), (25, 8, 0), (31, 1, 2)):
        again = read(datasets, first, 40, size=size, workers=workers, mixture=mixture)
        assert again == whole[first:]


@pytest.mark.parametrize(
    ("name", "steps", "broken"), [("pairs", 17, {5, 6, 90}), ("texts", 12, {3})]
)
def test_every_sample_comes_once_an_epoch_but_for_counted_substitutes(
    datasets: dict[str, ShardSet],
    uninterrupted: list[dict[str, Any]],
    name: str,
    steps: int,
    broken: set[int],
) -> None:
    # so many steps are two epochs to the sample, and whole groups of buckets
    assert steps * BATCH == 2 * len(datasets[name])
    read_steps = [step for step in uninterrupted if step["source"] == name][:steps]
    counted = Counter(row[0] for step in read_steps for row in step["rows"])
    assert {record.index for step in read_steps for record in step["bad"]} == broken
    assert counted.keys() == set(range(len(datasets[name]))) - broken
    assert min(counted.values()) == 2
    assert sum(count - 2 for count in counted.values()) == 2 * len(broken), "substitutes"
