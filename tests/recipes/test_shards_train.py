"""Runs on shards: stopped anywhere, fetched over a bad line, with all kinds of damage."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shards_run import damage, data_on, tar, write_tars
from tiny_run import lines, signal_at, start, write_recipe

from flava_plugin.cli.main import main
from flava_plugin.data.reading import UnreadableDataError
from flava_plugin.data.shards.indexing import index_folder
from flava_plugin.recipe import load_recipe
from flava_plugin.train.loop import train

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tars")
    write_tars(root)
    return root


@pytest.fixture(scope="module")
def reference(tars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on local tars that nothing interrupts, without workers."""
    return run(tmp_path_factory.mktemp("reference"), data_on(str(tars)))


def run(folder: Path, data: dict[str, Any], *overrides: str, **changes: Any) -> Path:
    train(load_recipe(str(write_recipe(folder, data=data, **changes)), list(overrides)))
    return folder / "run"


def told(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "data.json").read_text())
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_moved_and_resumed_is_the_run_that_nothing_stops(
    workers: int, tars: Path, reference: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, data=data_on(str(tars)))
    process = start(recipe, f"data.workers={workers}")
    signal_at(process, tmp_path / "run", 5, signal.SIGKILL)
    process.communicate()
    assert len(lines(tmp_path / "run")) < 12
    shutil.copytree(tars, tmp_path / "elsewhere")
    moved = run(tmp_path, data_on(str(tmp_path / "elsewhere")), f"data.workers={workers}")
    assert lines(moved) == lines(reference) and len(lines(moved)) == 12
    sources = told(moved)["sources"]
    assert sources == told(reference)["sources"] and sources["pairs"]["samples"] == 45


def test_other_files_than_before_are_refused_by_name(tars: Path, tmp_path: Path) -> None:
    shutil.copytree(tars, tmp_path / "tars")
    data = data_on(str(tmp_path / "tars"))
    recipe = write_recipe(tmp_path, data=data)
    process = start(recipe)
    signal_at(process, tmp_path / "run", 5, signal.SIGTERM)
    process.communicate()
    tar(tmp_path / "tars/texts/000.tar", [("a.txt", b"another text")])
    index_folder(tmp_path / "tars/texts", kind="text")
    with pytest.raises(
        ValueError, match=r"^data\.sources\.sentences\.dataset: has changed"
    ) as said:
        run(tmp_path, data)
    assert len(str(said.value).splitlines()) == 1, "the others have not"


@pytest.mark.soak
def test_two_ranks_killed_and_resumed(tars: Path, tmp_path: Path) -> None:
    runs = []
    for name, workers, killed in (("whole", 0, False), ("killed", 2, True)):
        recipe = write_recipe(tmp_path / name, data=data_on(str(tars)))
        options = ("sharding.strategy=ddp", f"data.workers={workers}")
        metrics = tmp_path / name / "run/metrics.jsonl"
        if killed:
            process = start(recipe, *options, launcher=TWO)
            while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 5):
                time.sleep(0.002)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for rank in children.split():
                os.kill(int(rank), signal.SIGKILL)
            process.communicate()
        assert start(recipe, *options, launcher=TWO).wait() == 0
        runs.append(lines(tmp_path / name / "run"))
    assert runs[0] == runs[1] and len(runs[0]) == 12


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, int]]:
    root = tmp_path_factory.mktemp("damaged")
    write_tars(root, shards=6)
    return str(root), damage(root / "pairs")


def test_all_kinds_of_damage_are_counted_named_and_replaced_alike(
    damaged: tuple[str, dict[str, int]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, counts = damaged
    data = data_on(root, bad_samples=100)
    with caplog.at_level(logging.WARNING):
        alone = run(tmp_path / "0", data, steps=40)
    assert told(alone)["bad_samples"] == {"pairs": counts}
    for name in (
        "002.tar",
        "003.tar",
        "004.tar.idx",
        "100.tar:a.jpg",
        "100.tar:b.png",
        "100.tar:c",
    ):
        assert name in caplog.text, name
    helped = run(tmp_path / "2", data, "data.workers=2", steps=40)
    assert lines(helped) == lines(alone) and told(helped) == told(alone)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_much_damage_ends_the_run_and_is_written_down(
    workers: int, damaged: tuple[str, dict[str, int]], tmp_path: Path
) -> None:
    data = data_on(damaged[0], bad_samples=3)
    with pytest.raises(UnreadableDataError, match=r"more than data\.bad_samples: 3"):
        run(tmp_path, data, f"data.workers={workers}")
    assert sum(told(tmp_path / "run")["bad_samples"]["pairs"].values()) > 3


@pytest.fixture
def bucket(
    tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Any]]:
    pytest.importorskip("moto")
    import fsspec

    from tests.unit.fault_store import Faults, FaultyApp, s3_app, s3_environment, serving

    faults = Faults()
    with serving(FaultyApp(s3_app(), faults)) as url:
        for name, value in s3_environment(url).items():
            monkeypatch.setenv(name, value)
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        name = f"tars-{tmp_path.name}".replace("_", "-")
        store.mkdir(name)
        for path in tars.rglob("*"):
            if path.is_file():
                store.pipe_file(f"{name}/{path.relative_to(tars)}", path.read_bytes())
        yield f"s3://{name}", faults


@pytest.mark.parametrize(("workers", "gib"), [(0, 1.0), (2, 1.0), (2, 1e-7)])
def test_over_a_bad_line_the_run_is_the_local_one(
    workers: int, gib: float, bucket: tuple[str, Any], reference: Path, tmp_path: Path
) -> None:
    """Also where the cache holds less than a shard."""
    location, faults = bucket
    faults.plan({"503": 0.05, "reset": 0.04, "short": 0.03, "wrong": 0.03}, seed=workers)
    cache = {"folder": str(tmp_path / "cache"), "timeout": 5.0, "gib": gib}
    remote = run(tmp_path, data_on(location, cache), f"data.workers={workers}")
    wanted, found = lines(reference), lines(remote)
    assert [{**row, "incidents": 0} for row in found] == [{**row, "incidents": 0} for row in wanted]
    incidents = told(remote)["incidents"]
    incidents.pop("cache too small", None)
    assert 0 < sum(incidents.values()) <= faults.counts.total()


def test_a_store_that_is_gone_ends_the_run_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = {"folder": str(tmp_path / "cache"), "timeout": 1.0, "retries": 1}
    recipe = write_recipe(tmp_path, data=data_on("http://127.0.0.1:9", cache))
    assert main(["train", str(recipe)]) == 1
    said = capsys.readouterr().err
    assert "flava: http://127.0.0.1:9/pairs/shards.index: 2 requests in a row failed" in said
    assert "Traceback" not in said


def test_a_run_with_more_shards_than_files_it_may_open(tmp_path: Path) -> None:
    write_tars(tmp_path / "tars", shards=70, samples=1)
    data = data_on(str(tmp_path / "tars"))
    for source in data["sources"].values():
        source["shuffle"] = {"window": None}
    more = {f"{name}-2": json.loads(json.dumps(each)) for name, each in data["sources"].items()}
    data["sources"] |= more
    recipe = write_recipe(tmp_path, data=data, steps=60, checkpoint={"every": 60})
    limited = f"ulimit -n 200 && exec {sys.executable} -m flava_plugin train {recipe}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert told(tmp_path / "run")["bad_samples"] == {}
