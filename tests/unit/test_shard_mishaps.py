"""What happens to shards around the reading of them: on the way here, in the cache, in numbers."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from fault_store import Faults, FaultyApp, FileApp, serving
from shard_trees import make_set, pairs, write_tar

from flava_plugin.data.shards import cache_claims, open_shards, remote_requests
from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.indexing import find_tars
from flava_plugin.data.shards.opening import open_shards as open_set


class Flipping(FileApp):
    """Plain HTTP that sends a list with one wrong byte, the first times it is asked."""

    def __init__(self, files: dict[str, bytes], times: int, *, always_there: bool = False) -> None:
        super().__init__(files)
        self.whole = dict(files)
        self.left = times
        self.always_there = always_there

    def __call__(self, environ, start):  # type: ignore[no-untyped-def]
        for name, data in self.whole.items():
            wrong = bytearray(data)
            place = 0 if self.always_there else self.left
            wrong[len(data) // 2 + place] ^= 1
            is_list = name.endswith("shards.index") and self.left > 0
            self.files[name] = bytes(wrong) if is_list else data
        if "HTTP_RANGE" in environ and environ["PATH_INFO"].endswith("shards.index"):
            self.left -= 1
        return super().__call__(environ, start)


def served(folder: Path) -> dict[str, bytes]:
    return {f"set/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_list_that_comes_damaged_is_asked_for_again(tmp_path: Path) -> None:
    local = make_set(tmp_path / "local", [pairs(3), pairs(2, 3)])
    with serving(FaultyApp(Flipping(served(tmp_path / "local"), 2), Faults())) as url:
        section = CacheSection(folder=str(tmp_path / "cache"), timeout=5.0)
        shards = open_set(f"{url}/set", "pair", cache=section)
        assert shards.fingerprint == local.fingerprint
        assert shards.take_incidents() == {"wrong bytes": 2}


def test_a_list_that_is_damaged_where_it_lies_is_refused(tmp_path: Path) -> None:
    make_set(tmp_path / "local", [pairs(3)])
    app = Flipping(served(tmp_path / "local"), 100, always_there=True)
    with serving(FaultyApp(app, Faults())) as url:
        section = CacheSection(folder=str(tmp_path / "cache"), timeout=5.0)
        with pytest.raises(ValueError, match=r"no list of shards, or damaged.*flava data index"):
            open_set(f"{url}/set", "pair", cache=section)
    assert app.left == 98, "the same bytes twice are the file's own"


def test_a_fetched_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_requests, "FIRST_PAUSE", 0.01)
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        done.append(f"sync {os.fstat(handle).st_size}")
        sync(handle)

    def noted_replace(path: Path, target: Path) -> Path:
        done.append("rename")
        return replace(path, target)

    monkeypatch.setattr(cache_claims.os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    right = cache_claims.claim(tmp_path / "a.shard")
    assert right is not None
    right.reserve(5)
    right.write(b"12345")
    right.finish()
    right.release()
    assert done == ["sync 5", "rename"]


def test_tars_in_hidden_folders_are_no_shards(tmp_path: Path) -> None:
    for name in ("a.tar", "deep/b.tar", ".partial/c.tar", "deep/.trash/d.tar", ".e.tar"):
        write_tar(tmp_path / name, pairs(1))
    assert find_tars(tmp_path) == ["a.tar", "deep/b.tar"]


def test_all_sources_of_a_process_share_what_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_shards, "most_open", lambda: 6)
    sets = [
        make_set(tmp_path / f"{number}", [pairs(1, each) for each in range(5)])
        for number in range(4)
    ]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for index in (*range(5), *range(5)):
        for shards in sets:
            assert shards.read_text(index) == f"caption {index}"
            assert len(list(Path("/proc/self/fd").iterdir())) - before <= 2 * 6


@pytest.mark.parametrize(
    ("allowed", "tars"), [(1024, 128), (256, 32), (8, 2), (resource.RLIM_INFINITY, 128)]
)
def test_few_files_allowed_are_few_tars_open(
    allowed: int, tars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (allowed, allowed))
    assert open_shards.most_open.__wrapped__() == tars
