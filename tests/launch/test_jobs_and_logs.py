from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from flava_plugin.cli.main import main
from flava_plugin.launch import ask, follow, ledger, states
from flava_plugin.launch.ledger import Entry
from tests.launch.fake_slurm import FakeSlurm

Capture = pytest.CaptureFixture[str]


def entry(run: Path, name: str = "77", **changes: object) -> Entry:
    values: dict[str, object] = {
        "id": name,
        "run": str(run),
        "work": "train",
        "folder": str(run / "logs" / name),
        "command": "flava submit x",
        "cluster": "mine",
        "nodes": "2",
        "tasks": 2,
        "steps": 12,
        **changes,
    }
    return Entry(**values)  # type: ignore[arg-type]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    ledger.note(run, entry(run))
    (run / "metrics.jsonl").write_text('{"step": 5}\n{"step": 6}\n{"step": 7')
    (run / "summary.json").write_text('{"steps": 4, "seconds": 8.0}')
    return run


def table(capsys: Capture, *words: object) -> list[list[str]]:
    capsys.readouterr()
    assert main(["jobs", *map(str, words)]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_queue_is_asked_first(slurm: FakeSlurm, run_dir: Path, capsys: Capture) -> None:
    slurm.queue(("77", "RUNNING", "2", "1-01:02:03", "3", "None", f"flava:{run_dir}"))
    slurm.say("sacct", "77|FAILED|2|0:01|1:0\n")
    headings, row = table(capsys, run_dir)
    assert headings == list(states.HEADINGS)
    assert row == ["77", str(run_dir), "RUNNING", "2", "1-01:02:03", "3", "6/12"]
    (call,) = slurm.calls("squeue")
    assert "--states=all" in call
    assert f"--user={ask.user()}" in call


def test_accounting_is_asked_for_what_the_queue_forgot(
    slurm: FakeSlurm, run_dir: Path, capsys: Capture
) -> None:
    slurm.queue(("78", "RUNNING", "1", "0:01", "0", "None", ""))
    slurm.say("sacct", "77|CANCELLED by 1000|2|00:01:00|0:15\n77.batch|FAILED|1|0|0:0\n")
    (_, row) = table(capsys, run_dir)
    assert row[2:5] == ["CANCELLED", "2", "00:01:00"]
    assert " ".join(row).endswith("6/12 exit code 0:15")


def test_without_both_the_run_folder_says_how_far_it_came(
    slurm: FakeSlurm, run_dir: Path, capsys: Capture
) -> None:
    assert " ".join(table(capsys, run_dir)[1]) == f"77 {run_dir} not known 2 6/12"
    slurm.queue()
    assert " ".join(table(capsys, run_dir)[1]) == f"77 {run_dir} ended, 6 of 12 steps 2 6/12"


def test_without_a_run_all_of_the_users_flava_jobs_are_shown(
    slurm: FakeSlurm, run_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "by sbatch"
    other.mkdir()
    (other / "recipe.yaml").write_text("steps: 40\nseed: 0\n")
    slurm.queue(
        ("120", "PENDING", "1", "0:00", "0", "Resources", "someone's"),
        ("101", "PENDING", "1-2", "0:00", "0", "Dependency", f"mine flava:{other}"),
        ("77", "RUNNING", "2", "0:30", "1", "None", f"flava:{run_dir}"),
    )
    _, first, second = table(capsys)
    assert first == ["77", str(run_dir), "RUNNING", "2", "0:30", "1", "6/12"]
    assert " ".join(second) == f"101 {other} PENDING 1-2 0:00 0 0/40 Dependency"


def test_elements_of_a_sweep_are_found_by_the_folder_of_the_sweep(
    slurm: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    for index in (0, 1):
        ledger.note(tmp_path, entry(tmp_path / f"seed={index}", f"9_{index}"))
    slurm.queue(
        *((f"9_{i}", "RUNNING", "1", "0:01", "0", "None", f"flava:{tmp_path}") for i in (0, 1))
    )
    assert [row[:2] for row in table(capsys)[1:]] == [
        [f"9_{index}", f"{tmp_path}/seed={index}"] for index in (0, 1)
    ]


def test_a_queue_that_does_not_answer_is_said(slurm: FakeSlurm, capsys: Capture) -> None:
    assert main(["jobs"]) == 1
    assert "squeue does not answer; name the runs" in capsys.readouterr().err


def test_a_folder_without_jobs_is_refused(tmp_path: Path, capsys: Capture) -> None:
    for command in ("jobs", "logs"):
        assert main([command, str(tmp_path)]) == 2
        assert str(tmp_path) in capsys.readouterr().err


def test_a_torn_line_of_the_ledger_hides_no_other(run_dir: Path) -> None:
    path = run_dir / "logs" / "jobs.jsonl"
    path.write_text('{"id": "1"}\nnot json\n[1]\n' + path.read_text() + '{"id": "78", "run"')
    assert [found.id for found in ledger.entries(run_dir)] == ["77"]


def write_log(run: Path, rank: int, kind: str, text: str, job: str = "77") -> Path:
    path = run / "logs" / job / f"{job}_{rank}_log.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_logs_of_a_process_of_the_latest_job(run_dir: Path, capsys: Capture) -> None:
    assert main(["logs", str(run_dir)]) == 1
    assert "it has not started" in capsys.readouterr().err
    write_log(run_dir, 0, "out", "step 1\nstep 2")
    write_log(run_dir, 0, "err", "oh\n")
    write_log(run_dir, 1, "out", "rank 1\n")
    ledger.note(run_dir, entry(run_dir, "80"))
    write_log(run_dir, 0, "out", "later\n", job="80")
    for words, expected in [
        ([], "later\n"),
        (["--job", "77"], "step 1\nstep 2\noh\n"),
        (["--job", "77", "--err"], "oh\n"),
        (["--job", "77", "--out"], "step 1\nstep 2\n"),
        (["--job", "77", "--rank", "1"], "rank 1\n"),
    ]:
        assert main(["logs", str(run_dir), *words]) == 0
        assert capsys.readouterr().out == expected
    assert main(["logs", str(run_dir), "--job", "77", "--rank", "9"]) == 1
    assert "there are logs of 0, 1" in capsys.readouterr().err
    assert main(["logs", str(run_dir), "--job", "5"]) == 2
    assert "known: 77, 80" in capsys.readouterr().err


def test_following_shows_what_comes_and_ends_with_the_job(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntw")
    shown: list[str] = []
    over = threading.Event()
    tail = follow.Tail([path], shown.append)
    thread = threading.Thread(
        target=follow.follow, args=(tail, over.is_set), kwargs={"ask_every": 0.0}, daemon=True
    )
    thread.start()

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + 30
        while "".join(shown) != text:
            assert time.monotonic() < deadline, shown
            time.sleep(0.01)

    wait_for("one\n")
    with path.open("a") as file:
        file.write("o\nthr")
    wait_for("one\ntwo\n")
    over.set()
    thread.join(30)
    assert not thread.is_alive()
    assert "".join(shown) == "one\ntwo\nthr\n"


def test_a_file_that_begins_again_is_shown_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    shown: list[str] = []
    tail = follow.Tail([path], shown.append, ["[1] "])
    assert not tail.show()
    path.write_text("a long line\n")
    assert tail.show()
    path.write_text("new\n")
    assert tail.show()
    assert shown == ["[1] a long line\n", "[1] new\n"]
