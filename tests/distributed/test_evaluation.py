"""Evaluations of several processes give the figures of one, to the last digit."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ranks
import torch
from PIL import Image
from test_runs import STILL, Run, assert_same_losses

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests/unit"), str(ROOT / "tests/distributed")]
from inference_run import write_run  # noqa: E402

from flava_plugin.launch.measuring import Evaluation  # noqa: E402
from flava_plugin.train import checkpoint  # noqa: E402

PAIRS = {"type": "shapes_pairs", "size": 150}
PICTURES = {"type": "shapes_images", "objects": 1, "size": 150}
QUESTIONS = {"type": "shapes_questions", "kind": "existence", "size": 150}
TASKS = {
    "retrieval": {"type": "retrieval", "dataset": PAIRS},
    "zero_shot": {"type": "zero_shot", "dataset": PICTURES | {"unseen": "all"}},
    "masked": {"type": "masked_tokens", "dataset": PAIRS},
    "itm": {"type": "matching", "dataset": PAIRS},
    "questions": {"type": "questions", "kinds": ["existence"], "dataset": QUESTIONS},
    "answers": {"type": "predictions", "objective": "itm", "label": "half", "split": "dev"}
    | {"metrics": ["accuracy", "auroc"], "group_by": "third", "dataset": {"type": "halves"}},
    "probe": {"type": "linear_probe", "label": "color", "dataset": PICTURES, "iterations": 20}
    | {"split": "dev"},
    "outside": {"type": "outsider", "dataset": PAIRS},
}  # fmt: skip


def tasks(chosen: dict[str, object]) -> str:
    return f"evaluate.tasks={json.dumps(chosen)}"  # which is YAML too


class Together:
    """A command on several processes, each with an output of its own."""

    def __init__(self, folder: Path, size: int, *words: str, verb: str = "eval") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        clean |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
        clean |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests/distributed")}
        self.logs = [folder / f"eval_{rank}" for rank in range(size)]
        command = [sys.executable, "-W", "ignore", "-m", "flava_plugin", verb, *words]
        processes = []
        for rank, path in enumerate(self.logs):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            with path.open("wb") as log:
                processes.append(subprocess.Popen(command, env=clean | own, stdout=log, stderr=log))
        try:
            self.codes = [process.wait(120) for process in processes]
        finally:
            for process in processes:
                process.kill()

    def said(self, rank: int) -> str:
        return self.logs[rank].read_text(errors="replace")


def results(run_dir: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run_dir / "results.json").read_text())
    assert found.pop("seconds")
    return found


def test_work_is_shared_out_in_order_and_a_failure_is_everyones(tmp_path: Path) -> None:
    found = ranks.run("sharing_cases.shared", 3, tmp_path)
    counts = [int(each["computed"]) for each in found]
    assert sum(counts) == sum(range(8)) and min(counts) > 0


def test_every_evaluator_and_the_papers_tasks_give_the_figures_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests/distributed")
    data = tmp_path / "data"
    for part, count in (("train", 40), ("valid", 8), ("test", 40)):
        for place, name in enumerate(("negative", "positive")):
            home = data / "rendered-sst2" / part / name
            home.mkdir(parents=True)
            for number in range(count):
                colour = (60 + 90 * place + number % 7 * 10, number % 5 * 50, number)
                Image.new("RGB", (48, 48), colour).save(home / f"{number}.png")
    run_dir = write_run(tmp_path / "run", tasks(TASKS), "plugins=[outside_evaluators]")
    evaluation = Evaluation(str(run_dir), data=str(data))
    evaluation.run()
    alone, table = results(run_dir), json.loads((run_dir / "paper_tasks.json").read_text())
    assert set(TASKS) <= set(alone) and "rendered_sst2" in table["tasks"], table["not_run"]
    for path in (run_dir / "results.json", run_dir / "report.html", run_dir / "paper_tasks.json"):
        path.unlink()
    two = Together(tmp_path, 2, str(run_dir), "--data", str(data), "--again")
    assert two.codes == [0, 0], two.said(0) + two.said(1)
    assert results(run_dir) == alone
    assert json.loads((run_dir / "paper_tasks.json").read_text()) == table
    assert (run_dir / "report.html").is_file()
    assert "rendered_sst2" in two.said(0) and two.said(1) == "", "the first one speaks"


def test_a_damaged_sample_and_a_rank_that_fails_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for number in range(50):
            path = folder / name / f"{number:02d}.png"
            Image.new("RGB", (48, 48), (number, 0, 0)).save(path)
    path.write_bytes(path.read_bytes()[:60])  # the last of 100: the second rank's batch
    damaged = {"type": "zero_shot", "label": "class", "split": "all"} | {
        "dataset": {"type": "image_folder", "path": str(folder)}
    }
    broken = {"zero_shot": damaged}
    run_dir = write_run(tmp_path / "run", tasks(broken))
    two = Together(tmp_path, 2, str(run_dir))
    assert two.codes == [2, 2], two.said(0) + two.said(1)
    assert "rank 1: " in two.said(0) and "49.png" in two.said(0)
    assert "49.png" in two.said(1) and "rank 1: " not in two.said(1)
    assert not (run_dir / "results.json").exists()

    failing = {"outside": {"type": "fails_on_one", "dataset": PAIRS}}
    run_dir = write_run(tmp_path / "other", tasks(failing), "plugins=[outside_evaluators]")
    two = Together(tmp_path, 2, str(run_dir))
    assert two.codes[0] == 1 and two.codes[1] not in (0, None)
    assert "rank 1 cannot add" in two.said(1)
    assert "another rank died" in two.said(0), two.said(0)


def test_two_ranks_measure_and_stop_early_as_one_does(tmp_path: Path) -> None:
    task = {"itm": {"type": "matching", "dataset": {"type": "shapes_pairs", "size": 80}}}
    early = ("evaluate.every=1", "evaluate.metric=itm.majority", "evaluate.patience=2")
    words = (*STILL, *early, tasks(task), "optim.ema=0.5", "optim.final_share=1")
    alone = Run(tmp_path / "alone", 1, *words).finish()
    two = Run(tmp_path / "two", 2, *words, "sharding.strategy=ddp").finish()
    assert_same_losses(two, alone)
    for run in (two, alone):
        assert checkpoint.find(run.run_dir).step == 3, "the first one was best, two were no better"
        assert checkpoint.find(run.run_dir, "best").step == 1
    found = [
        [json.loads(line) for line in (run.run_dir / "evaluations.jsonl").read_text().splitlines()]
        for run in (two, alone)
    ]
    assert len(found[0]) == len(found[1]) == 3
    for mine, other in zip(*found, strict=True):
        values = [torch.tensor([float(v) for v in row.values()]) for row in (mine, other)]
        torch.testing.assert_close(*values, rtol=0, atol=1e-5)
