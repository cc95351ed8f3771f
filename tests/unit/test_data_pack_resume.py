"""A pack that is killed goes on, and ends with the bytes of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flava_plugin.cli.main import main
from tests.unit.picture_trees import captioned, digests

_SAMPLES = 3000


def command(out: Path) -> list[str]:
    return ["data", "pack", "shapes_pairs", f"size={_SAMPLES}", "--out", str(out),
            "--samples-per-shard", "50"]  # fmt: skip


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children")
    return [int(each) for each in listed.read_text().split()] if listed.exists() else []


def wait_for(what: str, *, seconds: float, until: object) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if until():  # type: ignore[operator]
            return
        time.sleep(0.02)
    raise AssertionError(f"{what} within {seconds} s")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(command(out)) == 0
    return digests(out)


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_and_gone_on_with(tmp_path: Path, whole: dict[str, bytes], jobs: int) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-m", "flava_plugin", *command(out), "--jobs", str(jobs)]
    started = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        wait_for("a part", seconds=60, until=lambda: list(out.glob(".pack/*.json")))
        others = children(started.pid)
    finally:
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
    done = len(list(out.glob(".pack/*.json")))
    assert 0 < done < _SAMPLES // 50, "it was to be killed in the middle"
    assert not (out / "shards.index").exists()
    if jobs == 2 and Path("/proc").is_dir():
        assert others, "it was to have processes"
        wait_for("its processes ended", seconds=20, until=lambda: not any(map(is_alive, others)))
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    records = {path.stem for path in out.glob(".pack/*.json")}
    assert main([*command(out), "--jobs", str(jobs)]) == 0
    assert digests(out) == whole
    kept = {path for path in before if path.stem in records}
    assert kept and all(path.stat().st_mtime_ns == before[path] for path in kept)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_what_was_lost_in_between_is_written_again(tmp_path: Path) -> None:
    path = captioned(tmp_path / "in", 12)
    (tmp_path / "in" / "003.jpg").write_bytes(b"gone")
    words = ["data", "pack", "jsonl_pairs", f"path={path}", "--samples-per-shard", "3",
             "--shuffle", "none"]  # fmt: skip
    assert main([*words, "--budget", "1", "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "out"
    assert main([*words, "--budget", "0", "--out", str(out)]) == 1
    assert [p.name for p in sorted(out.glob("*.tar"))] == ["000000.tar"]
    (out / "000000.tar").write_bytes(b"cut short")
    (out / ".tmp-000001.tar-123").write_bytes(b"left behind")
    assert main([*words, "--budget", "1", "--out", str(out)]) == 0
    assert digests(out) == digests(tmp_path / "whole")


def test_two_packs_do_not_write_to_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    out = tmp_path / "out"
    (out / ".pack").mkdir(parents=True)
    with (out / ".pack" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(command(out)) == 2
    assert "another flava data pack writes there" in capsys.readouterr().err


def test_a_finished_pack_is_left_as_it_is(tmp_path: Path) -> None:
    path = captioned(tmp_path / "in", 6)
    words = ["data", "pack", "jsonl_pairs", f"path={path}", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert main(words) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before
