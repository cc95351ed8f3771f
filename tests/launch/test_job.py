from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

from flava_plugin.launch.executors import FIRST_PORT, PORTS, Place, place
from flava_plugin.launch.job import EvaluationJob, TrainingJob, exit_file, outcome, perform
from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.train.requeue import Stopped
from flava_plugin.train.run_folder import LostClaimError
from tests.launch.small_runs import recipe
from tests.recipes.tiny_run import lines

NODES = {
    "SUBMITIT_EXECUTOR": "slurm",
    "SLURM_JOB_ID": "1234",
    "SLURM_NTASKS": "16",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NODELIST": "node[03-04]",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_RESTART_COUNT": "2",
}


def set_all(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: str) -> None:
    for name, value in {**NODES, "SUBMITIT_FOLDER": f"{folder}/%j", **changes}.items():
        monkeypatch.setenv(name, value)


def test_a_process_of_slurm_knows_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_all(monkeypatch, tmp_path)
    here = place()
    assert (here.executor, here.job, here.rank, here.size) == ("slurm", "1234", 9, 16)
    assert (here.local_rank, here.local_size, here.host, here.attempt) == (1, 8, "node03", 2)
    assert here.folder == tmp_path / "1234"
    found = here.variables
    assert {k: found[k] for k in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")} == {
        "RANK": "9",
        "WORLD_SIZE": "16",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "node03",
    }


def test_an_element_of_an_array_is_named_by_its_array(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_all(monkeypatch, tmp_path, SLURM_ARRAY_JOB_ID="1200", SLURM_ARRAY_TASK_ID="3")
    here = place()
    assert (here.job, here.number) == ("1200_3", 1234)


def test_attempts_of_a_job_meet_at_different_ports() -> None:
    ports = [
        int(Place(number=number, attempt=attempt).variables["MASTER_PORT"])
        for number in range(1000, 1000 + PORTS // 32)
        for attempt in range(32)
    ]
    assert len(set(ports)) == len(ports)
    assert min(ports) >= FIRST_PORT
    assert max(ports) < 32768, "above it, Linux lends ports to outgoing connections"


def failing(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError(["a: b"]), 2),
        (ValueError("does not fit"), 2),
        (ArithmeticError("loss is nan"), 1),
        (OSError("disk is full"), 1),
        (LostClaimError("another process"), 1),
        (KeyboardInterrupt(), 130),
        (Stopped(signal.SIGTERM, 3, "x"), 143),
        (Stopped(signal.SIGINT, 3, "x"), 130),
        (Stopped(signal.SIGUSR2, 3, "x"), 0),
    ],
    ids=repr,
)
def test_a_known_error_is_an_exit_code_and_a_line(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(failing(error)) == code
    assert "flava: " in capsys.readouterr().err
    if code:
        with pytest.raises(SystemExit) as left:
            perform(failing(error), Place())
        assert left.value.code == code
    else:
        perform(failing(error), Place())


def test_an_unforeseen_error_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="what is this"):
        perform(failing(RuntimeError("what is this")), Place())


def test_variables_and_handlers_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "7")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    seen: dict[str, str] = {}
    handlers = list(logging.getLogger().handlers)
    perform(lambda: seen.update(os.environ), Place())
    assert (seen["RANK"], seen["WORLD_SIZE"]) == ("0", "1")
    assert os.environ["RANK"] == "7"
    assert "WORLD_SIZE" not in os.environ
    assert logging.getLogger().handlers == handlers


def test_rank_0_logs_what_happens_and_the_others_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        logging.getLogger("flava_plugin").info("a step")
        logging.getLogger("flava_plugin").warning("a fault")
        logging.getLogger("submitit").warning("its own")

    perform(work, Place())
    assert capsys.readouterr().out == "a step\na fault\n"
    perform(work, Place(rank=3, size=4))
    assert capsys.readouterr().out == "rank 3: a fault\n"


def test_a_local_process_leaves_its_exit_code(tmp_path: Path) -> None:
    former = signal.getsignal(signal.SIGTERM)
    here = Place("local", job="5", rank=1, size=2, folder=tmp_path)
    left = exit_file(tmp_path, "5", 1)
    try:
        left.write_text("0\n")
        with pytest.raises(SystemExit):
            perform(failing(OSError("x")), here)
        assert left.read_text() == "1\n"
        with pytest.raises(SystemExit) as leaving:
            perform(lambda: os.kill(os.getpid(), signal.SIGTERM), here)
        assert leaving.value.code == 143
        assert left.read_text() == "143\n"
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_half_written_result_of_an_attempt_that_was_killed_is_swept(tmp_path: Path) -> None:
    stale = [tmp_path / f"5_0_{name}" for name in ("result.pkl.save_tmp", "log.out")]
    stale.append(tmp_path / "5_submitted.pkl.save_tmp")
    for path in stale:
        path.write_text("")
    perform(lambda: None, Place("slurm", job="5", folder=tmp_path))
    assert [path.exists() for path in stale] == [False, True, False]


@pytest.mark.parametrize("job", [TrainingJob("steps: 1"), EvaluationJob("runs/a")], ids=repr)
def test_a_requeued_job_is_the_same_again(job: TrainingJob | EvaluationJob) -> None:
    again = job.checkpoint()
    assert isinstance(again, DelayedSubmission)
    assert again.function is job
    assert (again.args, again.kwargs) == ((), {})


def test_a_job_trains_its_recipe_and_does_not_read_the_file_again(tmp_path: Path) -> None:
    path = recipe(tmp_path, steps=3)
    job = TrainingJob(load_recipe(str(path)).to_yaml())
    path.write_text("steps: none of your business")
    perform(job.work, Place())
    assert len(lines(tmp_path / "run")) == 3


def test_a_job_whose_data_is_gone_where_it_runs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = load_recipe(str(recipe(tmp_path)), [f"init={{run: {tmp_path}}}"]).to_yaml()
    job = TrainingJob(text.replace(f"run: {tmp_path}\n", f"run: {tmp_path}/gone\n"))
    assert outcome(job.work) == 2
    assert f"init.run: '{tmp_path}/gone' does not exist" in capsys.readouterr().err
