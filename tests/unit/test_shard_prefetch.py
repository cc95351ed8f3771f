"""Fetching ahead, forks and processes that have to end."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_store import Faults, FaultyApp, FileApp, listed, read_all, serving, shards

from flava_plugin.data.damage import StoreError
from flava_plugin.data.shards import remote_requests
from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.prefetch import File, Prefetch
from flava_plugin.data.shards.remote import RemoteStore

FILES = shards(12)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_requests, "FIRST_PAUSE", 0.01)


@pytest.fixture
def web() -> Iterator[tuple[FileApp, Faults, str]]:
    app, faults = FileApp(FILES), Faults()
    with serving(FaultyApp(app, faults)) as url:
        yield app, faults, url


def opened(location: str, folder: Path, timeout: float = 5.0) -> RemoteStore:
    return RemoteStore(location, CacheSection(folder=str(folder), timeout=timeout, retries=3))


def test_prefetch_takes_the_latest_wishes_in_order_and_ends() -> None:
    done: list[str] = []
    gate, started = threading.Event(), threading.Event()

    def fetch(file: File) -> None:
        started.set()
        gate.wait(5)
        done.append(file[0])
        if file[0] == "bad":
            raise StoreError("away")

    before = threading.active_count()
    prefetch = Prefetch(fetch, connections=1, most_bytes=100)
    prefetch.expect([("first", 10, b"")])
    assert started.wait(5)
    prefetch.expect([("c", 10, b""), ("d", 10, b"")])
    prefetch.expect([("a", 10, b""), ("bad", 10, b""), ("c", 10, b""), ("e", 65, b"")])
    gate.set()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    # each once; "d" was wished for first and found no room
    assert done == ["first", "a", "bad", "c", "e"]
    assert threading.active_count() == before


def test_prefetch_uses_no_more_threads_than_connections() -> None:
    running, most = [], []

    def fetch(_: File) -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()

    prefetch = Prefetch(fetch, connections=3, most_bytes=10**6)
    for start in range(0, 20, 2):
        prefetch.expect([(str(start), 1, b""), (str(start + 1), 1, b"")])
    deadline = time.monotonic() + 5
    while len(most) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(most) == 20 and max(most) <= 3


def test_prefetched_files_are_there_when_asked_for(
    web: tuple[FileApp, Faults, str], tmp_path: Path
) -> None:
    app, faults, url = web
    store = opened(url, tmp_path)
    store.expect(listed(FILES))
    deadline = time.monotonic() + 10
    while len(list(tmp_path.glob("[0-9a-f]*.shard"))) < len(FILES) and time.monotonic() < deadline:
        time.sleep(0.01)
    app.status = "503 Service Unavailable"
    assert read_all(store, listed(FILES), ahead=0) == list(FILES.values())
    assert faults.requests.total() == len(FILES) and store.take_incidents() == {}


def test_a_file_in_flight_is_joined(web: tuple[FileApp, Faults, str], tmp_path: Path) -> None:
    _, faults, url = web
    faults.first, faults.stall = ["stall"], 0.6
    store = opened(url, tmp_path, timeout=0.3)
    store.expect(listed(FILES)[:1])
    assert faults.stalled.wait(5)
    assert store.local(*listed(FILES)[0]).exists()
    assert faults.requests.total() == 2  # the one that stalled, and its repetition


def test_what_was_evicted_before_it_was_read_is_said(
    web: tuple[FileApp, Faults, str], tmp_path: Path
) -> None:
    store = opened(web[2], tmp_path)
    store.expect(listed(FILES)[:1])
    while not (found := list(tmp_path.glob("[0-9a-f]*.shard"))):
        time.sleep(0.01)
    time.sleep(0.05)
    found[0].unlink()
    assert store.local(*listed(FILES)[0]).exists()
    assert store.take_incidents() == {"cache too small": 1}


def test_a_store_travels_to_other_processes(
    web: tuple[FileApp, Faults, str], tmp_path: Path
) -> None:
    """Forked amid its work, as by a data loader, and pickled."""
    _, faults, url = web
    faults.first = ["503", None, "503"]
    store = opened(url, tmp_path)
    first, second, third = listed(FILES)[:3]
    store.local(*first)
    store.expect([second])
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            path = store.local(*third)
            fine = path.read_bytes() == FILES[third[0]]
            os.write(tell, json.dumps([fine, store.take_incidents()]).encode())
        finally:
            os._exit(0)
    os.close(tell)
    told = json.loads(os.read(ready, 1000))
    os.waitpid(child, 0)
    assert store.local(*second).read_bytes() == FILES[second[0]]  # the parent's own lines live
    counts = [store.take_incidents().get("request failed", 0), told[1].get("request failed", 0)]
    assert told[0] and sum(counts) == 2 and counts[0] >= 1  # each process counts its own
    copy = pickle.loads(pickle.dumps(store))
    assert copy.local(*second).exists() and copy.take_incidents() == {}


def test_nothing_that_hangs_holds_the_process(tmp_path: Path) -> None:
    """A request that never ends, on a file system with threads and on one without."""
    gate = threading.Event()

    def app(_environ: dict[str, Any], start: Any) -> list[bytes]:
        gate.wait(30)
        start("200 OK", [("Content-Length", "0")])
        return []

    code = (
        "import sys, threading, fsspec\n"
        "from flava_plugin.data.shards.remote import RemoteStore\n"
        "from flava_plugin.data.shards.cache_section import CacheSection\n"
        "from flava_plugin.data.damage import StoreError\n"
        "memory = fsspec.filesystem('memory')\n"
        "type(memory).cat_file = lambda *_, **__: threading.Event().wait()\n"
        "for url in (sys.argv[1], 'memory://x'):\n"
        "    section = CacheSection(folder=sys.argv[2], timeout=0.2, retries=1)\n"
        "    store = RemoteStore(url, section)\n"
        "    store.expect([('ahead.tar', 5, b'')])\n"
        "    try:\n        store.local('x.tar', 5, b'')\n"
        "    except StoreError:\n        print('gave up')\n"
    )
    with serving(app) as url:
        done = subprocess.run(
            [sys.executable, "-c", code, url, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        gate.set()
    assert (done.returncode, done.stdout) == (0, "gave up\ngave up\n"), done.stderr
