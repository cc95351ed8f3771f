"""Clients that answer oddly, and other jobs around the one that is submitted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flava_plugin.cli.main import main
from flava_plugin.launch import ask, follow, ledger, states
from flava_plugin.launch.executors import PORTS, Place
from flava_plugin.launch.ledger import Entry
from tests.launch.fake_slurm import CLIENTS, FakeSlurm
from tests.launch.small_runs import profile, recipe, save_checkpoint, submit

Capture = pytest.CaptureFixture[str]


def entry(run: Path, name: str = "7", **changes: object) -> Entry:
    values = {"id": name, "run": str(run), "work": "train", "folder": str(run / "logs" / name)}
    more = {"command": "", "cluster": "mine", "nodes": "1", "tasks": 1, "steps": 12}
    return Entry(**{**values, **more, **changes})  # type: ignore[arg-type]


def test_garbage_from_every_client_refuses_nothing(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    for name in set(CLIENTS) - {"sbatch"}:
        (slurm.bin / name).write_text("#!/bin/sh\nprintf '\\377\\0|welcome!\\n\\n|||\\n'\n")
    path = profile(tmp_path, account="a", qos="q")
    said = submit(capsys, recipe(tmp_path), "--cluster", path)
    assert said.code == 0, said.err
    assert main(["jobs"]) == 0


def test_a_client_that_hangs_counts_as_absent(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "PATIENCE", 0.2)
    (slurm.bin / "squeue").write_text("#!/bin/sh\nsleep 60\n")
    (slurm.bin / "sinfo").write_text("#!/bin/sh\ncat\n")  # must not read the terminal
    assert ask.queue() is None
    assert ask.partitions() is None


def test_a_message_of_the_site_is_no_partition(slurm: FakeSlurm) -> None:
    slurm.say("sinfo", "Maintenance | on Monday\ngpu*|infinite|0/4/0/4\nbig|1-00:00:00|0/1K/0/1K\n")
    assert ask.partitions() == [
        ask.Partition("gpu", True, None, 4),
        ask.Partition("big", False, 24 * 60, 0),
    ]
    assert "--all" in slurm.calls("sinfo")[0]


def test_following_does_not_end_because_the_queue_is_silent(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    assert not states.of_entry(entry(tmp_path)).over
    slurm.queue(("7", "RESV_DEL_HOLD", "1", "0:01", "0", "None", ""))
    assert not states.of_entry(entry(tmp_path)).over
    slurm.queue(("7", "OUT_OF_MEMORY", "1", "0:01", "0", "None", ""))
    assert states.of_entry(entry(tmp_path)).over
    slurm.queue()
    assert states.of_entry(entry(tmp_path)).over


@pytest.mark.parametrize(
    ("dependency", "code"),
    [("after:4242", 2), ("afterany:1?afterany:4242", 2), ("afterok:1,afterany:4242", 0),
     ("afterok:4242+5", 0)],
)  # fmt: skip
def test_only_a_job_that_has_left_the_run_folder_by_then_is_waited_for(
    dependency: str, code: int, slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path)]
    assert submit(capsys, *words).code == 0
    slurm.queue(("4242", "RUNNING", "2", "1:00", "0", "None", ""))
    assert submit(capsys, *words, "--dependency", dependency).code == code


def test_the_same_run_folder_by_another_path_is_the_same(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = [recipe(tmp_path), "--cluster", profile(tmp_path)]
    assert submit(capsys, *words).code == 0
    slurm.queue(("4242", "RUNNING", "2", "1:00", "0", "None", ""))
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (f"{tmp_path}/link/run", f"{tmp_path}/slurm/../run"):
        said = submit(capsys, *words, f"run_dir={path}")
        assert said.code == 2
        assert "job 4242 of this run is RUNNING" in said.err


def test_a_job_of_flava_sbatch_is_known_by_its_comment(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    slurm.queue(("9", "PENDING", "2", "0:00", "0", "None", f"flava:{tmp_path}/run"))
    said = submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path))
    assert said.code == 2
    assert "job 9 of this run is PENDING" in said.err


def test_an_id_is_printed_even_if_the_ledger_cannot_be_written(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "run" / "logs" / "jobs.jsonl").mkdir(parents=True)
    said = submit(capsys, recipe(tmp_path), "--cluster", profile(tmp_path))
    assert (said.code, said.out) == (0, "4242\n")
    assert "jobs.jsonl: " in said.err


def test_a_line_after_one_that_was_cut_off_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "jobs.jsonl"
    path.parent.mkdir()
    path.write_text('{"id": "1", "ru')
    ledger.note(tmp_path, entry(tmp_path, "2"))
    assert [found.id for found in ledger.entries(tmp_path)] == ["2"]


def test_a_line_of_wrong_types_is_left_out(tmp_path: Path) -> None:
    ledger.note(tmp_path, entry(tmp_path, "2"))
    path = tmp_path / "logs" / "jobs.jsonl"
    good = json.loads(path.read_text())
    for key, value in (("run", None), ("id", 3), ("steps", "x"), ("tasks", [1])):
        with path.open("a") as file:
            file.write(json.dumps({**good, key: value}) + "\n")
    assert [found.id for found in ledger.entries(tmp_path)] == ["2"]


def test_submissions_at_a_time_leave_each_other_alone(slurm: FakeSlurm, tmp_path: Path) -> None:
    (slurm.bin / "sbatch").write_text(
        f"#!/bin/sh\nsleep 0.3\necho x >> {tmp_path}/n\n"
        f"echo Submitted batch job $((100 + $(wc -l < {tmp_path}/n)))\n"
    )
    words = ["submit", recipe(tmp_path), "--cluster", profile(tmp_path), "--job-dir"]
    command = [sys.executable, "-m", "flava_plugin", *map(str, words), f"{tmp_path}/jobs"]
    started = [
        subprocess.Popen([*command, f"run_dir={tmp_path}/r{n}"], stderr=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    for process in started:
        assert "submitted;" in process.communicate(timeout=120)[1]
    for number in (101, 102, 103):
        assert (tmp_path / "jobs" / f"{number}" / f"{number}_submitted.pkl").is_file()


def test_logs_of_a_run_folder_that_was_moved(tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    ledger.note(run, entry(run, "7_0"))
    (run / "logs" / "7_0").mkdir()
    (run / "logs" / "7_0" / "7_0_0_log.out").write_text("here\n")
    run.rename(tmp_path / "moved")
    assert main(["logs", str(tmp_path / "moved"), "--job", "7"]) == 0
    assert capsys.readouterr().out == "here\n"


def test_a_log_that_is_replaced_by_a_longer_one_is_shown_from_its_start(tmp_path: Path) -> None:
    path, shown = tmp_path / "log", list[str]()
    tail = follow.Tail([path], shown.append)
    path.write_text("one\n")
    tail.show()
    (tmp_path / "new").write_text("two\nthree\n")
    (tmp_path / "new").rename(path)
    tail.show()
    assert shown == ["one\n", "two\nthree\n"]


def test_logs_without_jobs_say_so(tmp_path: Path, capsys: Capture) -> None:
    assert main(["logs", str(tmp_path)]) == 2
    assert "no job was submitted for it" in capsys.readouterr().err


def test_jobs_of_one_node_do_not_meet() -> None:
    places = (Place(number=number) for number in range(5000, 5000 + PORTS))
    assert len({place.variables["MASTER_PORT"] for place in places}) == PORTS


def test_a_pointer_to_no_step_is_said(slurm: FakeSlurm, tmp_path: Path, capsys: Capture) -> None:
    path = recipe(tmp_path)
    run = save_checkpoint(path, 4)
    (run / "checkpoints" / "00000004").rename(run / "checkpoints" / "best")
    (run / "checkpoints" / "latest").write_text("best\n")
    said = submit(capsys, path, "--cluster", profile(tmp_path), "--dry-run")
    assert said.code == 0, said.err


def test_a_dependency_that_slurm_would_not_wait_for_is_a_warning(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    slurm.queue(("8_0", "RUNNING", "1", "1:00", "0", "None", ""))
    words = [recipe(tmp_path), "--cluster", profile(tmp_path), "--dry-run", "--dependency"]
    assert "ok         dependency: waits for afterok:8" in submit(capsys, *words, "afterok:8").err
    said = submit(capsys, *words, "afterok:8:99")
    assert "warning    dependency: 99 is no job of yours that SLURM knows" in said.err
