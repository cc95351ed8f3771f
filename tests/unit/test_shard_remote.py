from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fault_store import Faults, FaultyApp, FileApp, digest_of, listed, read_all, serving, shards

from flava_plugin.data.damage import DamagedSampleError, StoreError
from flava_plugin.data.shards import remote_requests
from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.remote import RemoteStore
from flava_plugin.data.shards.store import Store

FILES = shards(12)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_requests, "FIRST_PAUSE", 0.01)


def opened(location: str, folder: Path, **options: Any) -> RemoteStore:
    told = {"retries": 3, "timeout": 5.0, **options}
    return RemoteStore(location, CacheSection(folder=str(folder), **told))


@pytest.fixture
def web() -> Iterator[tuple[FileApp, Faults, str]]:
    app, faults = FileApp({f"set/{name}": data for name, data in FILES.items()}), Faults()
    with serving(FaultyApp(app, faults)) as url:
        yield app, faults, f"{url}/set"


@pytest.fixture(params=["memory", "file", "http"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "http":
        with serving(FileApp({f"set/{name}": data for name, data in FILES.items()})) as url:
            yield f"{url}/set/"
        return
    url = f"memory://{tmp_path.name}/set" if request.param == "memory" else f"file://{tmp_path}/set"
    file_system, root = fsspec.core.url_to_fs(url)
    for name, data in FILES.items():
        file_system.pipe_file(f"{root}/{name}", data) if request.param == "memory" else None
        if request.param == "file":
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    yield url


def test_every_file_comes_whole(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_requests, "SPAN", 1000)  # several requests a file
    store: Store = opened(location, tmp_path / "cache")
    assert read_all(store, listed(FILES)) == list(FILES.values())
    name = next(iter(FILES))
    assert store.read(name) == FILES[name]
    unknown = store.local(name, -1, b"")
    assert unknown.read_bytes() == FILES[name]
    assert unknown == store.local(name, -1, b"") != store.local(*listed(FILES)[0])
    assert store.take_incidents() == {}


def test_a_kept_file_needs_no_store(web: tuple[FileApp, Faults, str], tmp_path: Path) -> None:
    app, _, url = web
    opened(url, tmp_path).local(*listed(FILES)[0])
    app.status = "503 Service Unavailable"
    assert opened(url, tmp_path).local(*listed(FILES)[0]).exists()
    assert len(app.seen) == 1


def test_odd_names_and_queries_arrive(tmp_path: Path) -> None:
    names = ["a b.tar", "a%20b.tar", "50%.tar", "what?.tar", "no#1.tar", "ä/ö.tar"]
    app = FileApp({f"set/{name}": name.encode() for name in names})
    with serving(app) as url:
        store = opened(f"{url}/set?token=1", tmp_path)
        for name in names:
            assert store.local(name, len(name.encode()), b"").read_bytes() == name.encode()
    assert app.seen == [f"set/{name}?token=1" for name in names]


@pytest.mark.parametrize(
    "name", ["../x.tar", "/etc/passwd", "a/../../x", "", "a//b", "a\\b", "a\0", "x::memory://y"]
)
def test_a_name_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedSampleError, match="unsafe name"):
        opened(f"file://{tmp_path}/set", tmp_path / "cache").local(name, 1, b"")


def test_a_missing_shard_is_damage_and_not_asked_for_again(
    web: tuple[FileApp, Faults, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, _, url = web
    store = opened(url, tmp_path)
    for _ in range(3):
        with pytest.raises(DamagedSampleError, match=r"set/none\.tar") as caught:
            store.local("none.tar", 10, b"")
        assert caught.value.reason == "missing shard"
    assert len(app.seen) == 1 and store.take_incidents() == {}
    app.files["set/none.tar"] = b"0123456789"
    monkeypatch.setattr("flava_plugin.data.shards.remote.ASK_AGAIN", 0.0)
    assert store.local("none.tar", 10, b"").exists()
    with pytest.raises(DamagedSampleError, match="missing shard"):
        store.read("shards.index")


@pytest.mark.parametrize(("cut", "reason"), [(-5, "truncated tar"), (5, "damaged tar")])
def test_a_shard_of_another_length_is_damage(
    cut: int, reason: str, web: tuple[FileApp, Faults, str], tmp_path: Path
) -> None:
    app, _, url = web
    name, size, digest = listed(FILES)[0]
    data = FILES[name] + bytes(5)
    app.files[f"set/{name}"] = data[: size + cut]
    store = opened(url, tmp_path)
    if cut > 0:  # what was indexed is all there
        assert store.local(name, size, digest).read_bytes() == FILES[name]
        digest = digest_of(b"")
        app.ranges = False
    with pytest.raises(DamagedSampleError, match=rf"{size + cut} bytes.*says {size}") as caught:
        store.local(name, size, digest)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("name", "reason"), [("x.tar", "damaged tar"), ("x.tar.idx", "index")])
def test_the_same_wrong_bytes_twice_are_damage(
    name: str, reason: str, web: tuple[FileApp, Faults, str], tmp_path: Path
) -> None:
    app, faults, url = web
    app.files[f"set/{name}"] = b"other"
    store = opened(url, tmp_path)
    for _ in range(2):
        with pytest.raises(DamagedSampleError, match="twice the same bytes") as caught:
            store.local(name, 5, digest_of(b"wanted"))
        assert reason in caught.value.reason
    assert store.take_incidents() == {"wrong bytes": 2}
    assert faults.requests.total() == 2 and not list(tmp_path.glob("*.shard"))


def test_other_wrong_bytes_each_time_are_the_network(
    web: tuple[FileApp, Faults, str], tmp_path: Path
) -> None:
    _, faults, url = web
    faults.first = ["wrong"] * 4
    store = opened(url, tmp_path)
    with pytest.raises(StoreError, match=r"wrong bytes 4 times.*check the network"):
        store.local(*listed(FILES)[0])
    assert store.take_incidents() == {"wrong bytes": 4}
    assert store.local(*listed(FILES)[0]).read_bytes() == next(iter(FILES.values()))


def test_each_fault_is_counted_and_survived(
    web: tuple[FileApp, Faults, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, faults, url = web
    faults.first = ["503", "short", "reset", "wrong", "stall"]
    store = opened(url, tmp_path, timeout=0.5)
    assert store.local(*listed(FILES)[0]).read_bytes() == next(iter(FILES.values()))
    assert store.take_incidents() == {
        "request failed": 2,
        "request stalled": 1,
        "short read": 1,
        "wrong bytes": 1,
    }
    assert store.take_incidents() == {}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4 and all("00000.tar" in line for line in said)  # once for "failed"


def test_a_large_file_resumes_where_a_request_failed(
    web: tuple[FileApp, Faults, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, faults, url = web
    monkeypatch.setattr(remote_requests, "SPAN", 100)
    faults.first = [None, None, "503", "reset", "503", *[None] * 9, "503", "503", "503"]
    store = opened(url, tmp_path)
    name, size, digest = listed(FILES)[0]
    assert store.local(name, size, digest).read_bytes() == FILES[name]
    assert faults.requests.total() == -(-size // 100) + 6
    assert store.take_incidents() == {"request failed": 6}


def test_a_slow_line_is_asked_for_less(
    web: tuple[FileApp, Faults, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, faults, url = web
    monkeypatch.setattr(remote_requests, "SPAN", 2000)
    monkeypatch.setattr(remote_requests, "SMALLEST_SPAN", 100)
    faults.first, faults.stall = ["stall"], 1.0
    store = opened(url, tmp_path, timeout=0.5)
    name, size, digest = listed(FILES)[0]
    assert store.local(name, size, digest).read_bytes() == FILES[name]
    assert faults.requests.total() == 1 + -(-size // 500)


def test_a_server_without_ranges_is_read_whole(
    web: tuple[FileApp, Faults, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, _, url = web
    app.ranges = False
    monkeypatch.setattr(remote_requests, "SPAN", 1000)
    store = opened(url, tmp_path)
    assert store.local(*listed(FILES)[0]).read_bytes() == next(iter(FILES.values()))
    assert len(app.seen) == 1


def test_a_store_that_stays_away_ends_the_run(
    web: tuple[FileApp, Faults, str], tmp_path: Path
) -> None:
    app, _, url = web
    app.status = "500 Internal Server Error"
    store = opened(url, tmp_path)
    with pytest.raises(StoreError, match=r"00000\.tar: 4 requests in a row failed.*500") as caught:
        store.local(*listed(FILES)[0])
    assert "start the run again" in str(caught.value)
    counts = store.take_incidents()
    assert set(counts) == {"request failed"} and counts["request failed"] >= 4


def test_a_store_that_refuses_ends_the_run_at_once(
    web: tuple[FileApp, Faults, str], tmp_path: Path
) -> None:
    app, _, url = web
    app.status = "403 Forbidden"
    with pytest.raises(StoreError, match=r"refuses.*check the location, the credentials"):
        opened(url, tmp_path).local(*listed(FILES)[0])
    assert len(app.seen) == 1


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("nothing://x/y", "Protocol not known"),
        ("s3://", "write it as one URL"),
        ("simplecache::s3://x/y", "write it as one URL"),
    ],
)
def test_a_location_that_cannot_be_is_refused(location: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=says):
        opened(location, tmp_path).read("x")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(StoreError, match=r"pip install 'flava-plugin\[gs\]'"):
        opened("gs://x/y", tmp_path).read("x")
