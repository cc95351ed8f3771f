from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

from fault_store import bytes_of
from shard_cache_files import SIZE, content, key, never, obtained, opened

from flava_plugin.data.shards import cache_claims
from flava_plugin.data.shards.cache_claims import Claim, claim


def test_one_thread_writes_and_the_others_wait(tmp_path: Path) -> None:
    cache, fetches, paths = opened(tmp_path), [], []

    def fill(right: Claim) -> None:
        fetches.append(1)
        time.sleep(0.2)
        cache.append(right, content(1))

    def run() -> None:
        paths.append(cache.obtain(key(1), SIZE, fill))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert cache.obtain(key(1), SIZE, never, wait=False) is None
    for thread in threads:
        thread.join()
    assert len(fetches) == 1 and len(set(paths)) == 1 and len(paths) == 8


def test_leftovers_of_dead_writers_are_swept_for_room(tmp_path: Path) -> None:
    cache = opened(tmp_path, files=3)
    child = os.fork()
    if not child:  # dies amid its fetch
        right = claim(cache._path(key(1)))
        assert right
        right.reserve(3 * SIZE)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert bytes_of(tmp_path) == 3 * SIZE
    path = obtained(cache, 2)
    assert [p.name for p in tmp_path.glob("*.shard")] == [path.name]
    assert bytes_of(tmp_path) == SIZE and not cache.incidents.take()


def test_a_dead_writers_file_is_taken_over(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        claim(cache._path(key(1)))
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(1)
    os.read(ready, 1)
    paths: list[Path] = []
    thread = threading.Thread(target=lambda: paths.append(obtained(cache, 1)))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    os.kill(child, signal.SIGKILL)
    thread.join(5)
    os.waitpid(child, 0)
    assert paths and paths[0].read_bytes() == content(1)


def test_a_forked_child_does_not_keep_its_parents_locks(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    right = claim(cache._path(key(1)))
    assert right
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        os.write(tell, json.dumps(sorted(cache_claims._open_locks)).encode())
        time.sleep(60)
        os._exit(1)
    assert os.read(ready, 100) == b"[]"
    os.close(right._handle)  # as a killed parent leaves it: closed, not unlocked
    cache_claims._open_locks.discard(right._handle)
    again = claim(cache._path(key(1)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert again
    again.release()
