"""Indexed shards behind a failing S3, read as a dataset and by the processes of a data loader."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fault_store import Faults, FaultyApp, s3_app, s3_environment, serving
from shard_trees import pairs, write_tar

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards import remote_requests
from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.indexing import index_folder
from flava_plugin.data.shards.opening import open_shards

SHARDS, SAMPLES = 24, 5


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Faults]:
    """A bucket of shards; its requests fail as the plan of what it yields says."""
    monkeypatch.setattr(remote_requests, "FIRST_PAUSE", 0.01)
    faults = Faults()
    with serving(FaultyApp(s3_app(), faults)) as url:
        for name, value in s3_environment(url).items():
            monkeypatch.setenv(name, value)
        local = tmp_path / "local"
        for number in range(SHARDS):
            write_tar(local / f"{number:05}.tar", pairs(SAMPLES, number * SAMPLES))
        index_folder(local, kind="pair")
        file_system = fsspec.filesystem("s3", skip_instance_cache=True)
        file_system.mkdir(f"bucket-{tmp_path.name}".replace("_", "-"))
        for path in sorted(local.iterdir()):
            target = f"bucket-{tmp_path.name}".replace("_", "-") + f"/set/{path.name}"
            file_system.pipe_file(target, path.read_bytes())
        yield faults


def located(tmp_path: Path) -> str:
    return f"s3://bucket-{tmp_path.name}/set".replace("_", "-")


@pytest.mark.parametrize("room", [1e-6, 1.0])
def test_a_remote_set_reads_as_the_local_one(room: float, faults: Faults, tmp_path: Path) -> None:
    """Also where the cache has room for nothing but what is read."""
    section = CacheSection(folder=str(tmp_path / "cache"), gib=room, timeout=5.0)
    remote = open_shards(located(tmp_path), "pair", cache=section)
    local = open_shards(str(tmp_path / "local"), "pair")
    assert remote.fingerprint == local.fingerprint and len(remote) == SHARDS * SAMPLES
    faults.plan({"503": 0.05, "reset": 0.05, "short": 0.03, "wrong": 0.03}, seed=1)
    before = faults.requests.total()
    for shard in range(SHARDS):
        remote.expect(range(shard + 1, min(shard + 3, SHARDS)))
        for index in range(shard * SAMPLES, (shard + 1) * SAMPLES):
            assert remote.read_raw(index).image == local.read_raw(index).image
            assert remote.read_text(index) == f"caption {index}"
    told = remote.take_incidents()
    told.pop("cache too small", 0)
    counts = faults.counts
    assert told == {
        "request failed": counts["503"] + counts["reset"],
        "short read": counts["short"],
        "wrong bytes": counts["wrong"],
    }
    if room == 1.0:  # a tar and its index, once each
        assert faults.requests.total() - before == 2 * SHARDS + counts.total()


def test_a_tar_that_is_gone_is_damage_of_its_samples_alone(faults: Faults, tmp_path: Path) -> None:
    fsspec.filesystem("s3", skip_instance_cache=True).rm_file(
        f"{located(tmp_path).removeprefix('s3://')}/00001.tar"
    )
    section = CacheSection(folder=str(tmp_path / "cache"), timeout=5.0)
    remote = open_shards(located(tmp_path), "pair", cache=section)
    for index in range(SAMPLES, 2 * SAMPLES):
        with pytest.raises(DamagedSampleError, match=r"missing shard.*00001\.tar"):
            remote.read(index)
    assert remote.read_text(0) == "caption 0" and remote.take_incidents() == {}
    with pytest.raises(ValueError, match=r"no list of shards.*flava data index"):
        open_shards(f"{located(tmp_path)}/deeper", "pair", cache=section)


def test_workers_forked_from_a_reader_share_its_cache(faults: Faults, tmp_path: Path) -> None:
    section = CacheSection(folder=str(tmp_path / "cache"), timeout=5.0)
    remote = open_shards(located(tmp_path), "pair", cache=section)
    assert remote.read_text(0) == "caption 0"
    before = faults.requests.total()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(remote.read_text, range(len(remote)), chunksize=7)
    assert found == [f"caption {index}" for index in range(len(remote))]
    assert faults.requests.total() - before == 2 * (SHARDS - 1)
    assert remote.read_text(SAMPLES) == f"caption {SAMPLES}"  # and the parent reads on
