"""Whole epochs from a store that fails, by processes that share a cache or are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fault_store
import fsspec
import pytest
from fault_store import (
    Faults,
    FaultyApp,
    File,
    FileApp,
    bytes_of,
    digest_of,
    listed,
    read_all,
    s3_app,
    s3_environment,
    serving,
    shards,
    spec_of,
)

from flava_plugin.data.damage import DamagedSampleError, StoreError
from flava_plugin.data.shards import remote_requests
from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.remote import RemoteStore

# The bar's shares; half of the failing requests answer 503, half break off.
SHARES = {"503": 0.025, "reset": 0.025, "stall": 0.01, "wrong": 0.001}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    faults = Faults()
    with serving(FaultyApp(s3_app(), faults)) as url:
        for name, value in s3_environment(url).items():
            monkeypatch.setenv(name, value)
        yield faults


def filled(files: dict[str, bytes]) -> str:
    """Put files into a bucket of their own."""
    bucket = f"bucket-{len(files)}-{time.monotonic_ns()}"
    file_system = fsspec.filesystem("s3", skip_instance_cache=True)
    file_system.mkdir(bucket)
    for name, data in files.items():
        file_system.pipe_file(f"{bucket}/set/{name}", data)
    return f"s3://{bucket}/set"


def epoch(faults: Faults, files: dict[str, bytes], store: RemoteStore) -> None:
    wanted = listed(files)
    order = [wanted[(7 * place) % len(wanted)] for place in range(len(wanted))]
    assert len(set(order)) == len(wanted)
    found = read_all(store, order)
    assert [digest_of(data) for data in found] == [digest for _, _, digest in order]
    counts = faults.counts
    expected = {
        "request failed": counts["503"] + counts["reset"],
        "request stalled": counts["stall"],
        "short read": counts["short"],
        "wrong bytes": counts["wrong"],
    }
    found_incidents = store.take_incidents()
    # a busy machine's own slowness is a stall too, and counted as one
    slow = found_incidents.get("request stalled", 0) - expected["request stalled"]
    assert slow >= 0
    expected["request stalled"] += slow
    assert found_incidents == {kind: n for kind, n in expected.items() if n}
    # nothing is fetched twice but for a fault
    asked = faults.requests.total() - len(files) - counts.total()
    assert asked == 0 if not slow else asked > 0


def test_an_epoch_from_a_failing_s3_loses_nothing(
    s3: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_requests, "FIRST_PAUSE", 0.01)
    files = shards(181)
    location = filled(files)
    s3.plan({**SHARES, "short": 0.01, "wrong": 0.01}, stall=6.0, seed=12)
    store = RemoteStore(location, CacheSection(folder=str(tmp_path), timeout=3.0))
    epoch(s3, files, store)
    assert set(s3.counts) == {"503", "reset", "stall", "short", "wrong"}


@pytest.mark.soak
def test_an_epoch_under_the_true_faults(s3: Faults, tmp_path: Path) -> None:
    """5 % fail, 1 % stall for 10 s, 0.1 % are wrong: real pauses, a cache of a third of the set."""
    files = shards(3001)
    location = filled(files)
    s3.plan(SHARES, stall=10.0, seed=1)
    store = RemoteStore(location, CacheSection(folder=str(tmp_path), timeout=5.0, gib=0.005))
    started = time.monotonic()
    epoch(s3, files, store)
    print(f"{len(files)} shards, {dict(s3.counts)}, {time.monotonic() - started:.0f} s")
    assert bytes_of(tmp_path) <= 0.005 * 2**30 and s3.counts["wrong"] and s3.counts["stall"]


def test_s3_says_what_is_missing_and_what_is_refused(
    s3: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = filled(shards(1))
    section = CacheSection(folder=str(tmp_path), retries=1, timeout=5.0)
    with pytest.raises(DamagedSampleError, match="missing shard.*key does not exist"):
        RemoteStore(location, section).local("none.tar", 5, b"")
    with pytest.raises(DamagedSampleError, match="missing shard"):
        RemoteStore(location, section).read("shards.index")
    with pytest.raises(StoreError, match="refuses.*bucket does not exist"):
        RemoteStore("s3://no-such-bucket/set", section).local("none.tar", 5, b"")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="refuses.*redentials"):
        RemoteStore(location, section).local("0/00000.tar", 5, b"")
    assert s3.requests.total() == 2


def reader(location: str, folder: Path, files: Sequence[File], **cache: Any) -> Any:
    spec = spec_of(location, {"folder": str(folder), **cache}, files, ahead=4)
    command = [sys.executable, fault_store.__file__, spec]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def answer(process: Any) -> Any:
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return json.loads(text.splitlines()[-1])


@pytest.mark.parametrize("room", [100, 8])
def test_processes_share_one_cache(room: int, tmp_path: Path) -> None:
    """With room for all, each shard is fetched once; with little, the bound is kept."""
    size = 20_000
    files = shards(60, size)
    limit = room * (size + 60)
    app, faults = FileApp(files), Faults()
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            most.append(bytes_of(tmp_path))

    watcher = threading.Thread(target=watch)
    with serving(FaultyApp(app, faults)) as url:
        wanted = listed(files)
        orders = [wanted[start:] + wanted[:start] for start in (0, 3, 30)]
        watcher.start()
        readers = [reader(url, tmp_path, order, gib=limit / 2**30) for order in orders]
        told = [answer(process) for process in readers]
        ended.set()
        watcher.join()
    for order, each in zip(orders, told, strict=True):
        assert each["digests"] == [digest.hex() for _, _, digest in order]
    if room == 100:
        assert set(faults.requests.values()) == {1} and len(faults.requests) == len(files)
        assert all(each["incidents"] == {} for each in told)
    else:
        assert faults.requests.total() > len(files)
        # what three readers need at once may stand beside it while the rest is evicted
        assert max(most) <= limit + 3 * (size + 60)
        assert bytes_of(tmp_path) <= limit


def test_a_killed_readers_fetch_is_taken_over(tmp_path: Path) -> None:
    files = shards(3)
    faults = Faults()
    faults.first, faults.stall = ["stall"], 20.0
    with serving(FaultyApp(FileApp(files), faults)) as url:
        killed = reader(url, tmp_path, listed(files)[:1])
        assert faults.stalled.wait(10)
        heirs = [reader(url, tmp_path, listed(files)) for _ in range(2)]
        for heir in heirs:
            assert heir.stdout.readline() == "started\n"
        time.sleep(0.5)
        assert all(heir.poll() is None for heir in heirs)  # they wait for the first shard
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        killed.stdout.close()
        for heir in heirs:
            assert answer(heir)["digests"] == [digest.hex() for _, _, digest in listed(files)]
    assert faults.requests.total() == len(files) + 1
    assert bytes_of(tmp_path) == sum(map(len, files.values()))
