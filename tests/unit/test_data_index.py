"""``flava data index`` and what all actions share: processes and budgets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flava_plugin.cli.main import main
from flava_plugin.data.budget import Budget, read_budget
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.spreading import spread
from tests.unit.picture_trees import captioned


def tars(folder: Path) -> Path:
    captioned(folder / "in", 8)
    for number in range(4):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for place in range(3):
                picture = folder / "in" / f"{3 * (place % 2):03d}.jpg"
                tar.add(picture, f"{number}-{place}.jpg")
                if (number, place) != (2, 1):
                    (folder / "in" / "text").write_text("a caption", "utf-8")
                    tar.add(folder / "in" / "text", f"{number}-{place}.txt")
    return folder


@pytest.mark.parametrize("jobs", [1, 2])
def test_index_counts_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: int
) -> None:
    folder = tars(tmp_path)
    assert main(["data", "index", str(folder), "--json", "--jobs", str(jobs)]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["shards"], first["samples"], first["sound"], first["kept"]) == (4, 12, 11, 0)
    assert first["faults"] == {"no text": 1} and "2-1" in first["examples"]["no text"]
    assert main(["data", "index", str(folder), "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["kept"] == 4 and second["fingerprint"] == first["fingerprint"]
    assert second["examples"] == {"no text": "2.tar: sample 1 of the tar"}
    (folder / "3.tar").unlink()
    assert main(["data", "index", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "3 shards (3 indexed before), 9 samples" in said and "1 x no text" in said
    assert main(["data", "index", str(folder), "--kind", "image"]) == 0
    assert "damaged" not in capsys.readouterr().out


def test_index_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "index", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["data", "index", str(tmp_path)]) == 1
    assert "holds no *.tar" in capsys.readouterr().err
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(__file__, "a.py")
    assert main(["data", "index", str(tmp_path)]) == 1
    assert "no sample can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "budget", "of_1000"),
    [
        ("0", Budget(0, 0.0), 0),
        ("12", Budget(12, 0.0), 12),
        ("0.01", Budget(0, 0.01), 10),
        ("1%", Budget(0, 0.01), 10),
        ("1.0", Budget(0, 1.0), 1000),
    ],
)
def test_budgets(text: str, budget: Budget, of_1000: int) -> None:
    assert read_budget(text) == budget
    assert budget.allowed(1000) == of_1000


@pytest.mark.parametrize("text", ["", "-1", "2.0", "101%", "nan", "%", "1e9"])
def test_no_budgets(text: str) -> None:
    with pytest.raises(ValueError, match="a share such as 0.01"):
        read_budget(text)


def square(base: int, task: int, tick: Callable[[int], object]) -> int:
    tick(2)
    if task == 7:
        raise DamagedSampleError("empty text", "task 7")
    if task == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return base + task * task


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_order(jobs: int) -> None:
    told: list[int] = []
    tasks = [each for each in range(30) if each not in (7, 8)]
    found = list(spread(square, 5, tasks, jobs=jobs, tick=told.append))
    assert found == [5 + each * each for each in tasks]
    assert sum(told) == 2 * len(tasks)


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_come_through(jobs: int) -> None:
    with pytest.raises(DamagedSampleError, match="empty text: task 7"):
        list(spread(square, 0, range(8), jobs=jobs, tick=lambda number: None))


def test_a_killed_process_is_told() -> None:
    with pytest.raises(OSError, match="fewer --jobs"):
        list(spread(square, 0, [1, 8, 2], jobs=2, tick=lambda number: None))


def test_data_actions_start_without_torch(tmp_path: Path) -> None:
    """Importing it takes seconds, in every process."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from flava_plugin.cli.main import main\n"
        f"out = {str(tmp_path / 'out')!r}\n"
        "words = [['pack', 'shapes_pairs', 'size=5', '--out', out], ['check', out], "
        "['stats', out], ['index', out], "
        "['curate', out, '--out', out + '_best', '--step', 'duplicates']]\n"
        "sys.exit(sum(main(['data', *each]) for each in words))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
