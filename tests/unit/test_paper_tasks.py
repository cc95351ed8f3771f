"""The table of the 35 tasks gives the averages that the paper printed."""

import importlib
from collections import Counter
from pathlib import Path

import pytest

from flava_plugin import registry
from flava_plugin.cli.main import main
from flava_plugin.evaluate.averages import averages, complete
from flava_plugin.evaluate.frozen_tasks import FROZEN, dataset_of, missing, wanted
from flava_plugin.evaluate.metrics import NAMES
from flava_plugin.evaluate.paper_tasks import COLUMNS, TASKS, paper_column

# Table 4's own averages: language, vision, multimodal, macro.
PRINTED = {
    "flava": (78.19, 79.44, 69.92, 75.85),
    "clip_pmd": (46.44, 76.12, 62.02, 61.52),
    "clip_400m": (50.50, 82.57, 67.29, 66.78),
    "flava_mm": (74.22, 79.35, 69.11, 74.23),
}


def test_there_are_eight_and_twenty_two_and_five() -> None:
    assert Counter(task.group for task in TASKS.values()) == {
        "language": 8, "vision": 22, "multimodal": 5,
    }  # fmt: skip
    assert sum(len(t.printed) for t in TASKS.values() if t.group == "multimodal") == 11
    assert all(len(v) == len(COLUMNS) for t in TASKS.values() for v in t.printed.values())


@pytest.mark.parametrize("column", COLUMNS)
def test_the_averages_are_the_printed_ones(column: str) -> None:
    found = averages(paper_column(column))
    assert complete(paper_column(column))
    for name, printed in zip(("language", "vision", "multimodal", "macro"), PRINTED[column],
                             strict=True):  # fmt: skip
        assert found[name] == pytest.approx(printed, abs=0.01), name


def test_averages_are_over_what_both_have() -> None:
    ours = {"mnist": {"accuracy": 50.0}, "vqav2": {"vqa_accuracy": 40.0}, "own": {"accuracy": 1.0}}
    assert averages(ours) == {"vision": 50.0, "multimodal": 40.0}
    assert averages(paper_column("flava"), ours) == {"vision": 98.42, "multimodal": 72.49}
    assert not complete(ours)


def test_every_metric_is_one_that_is_measured() -> None:
    known = {name for names in NAMES.values() for name in names} | {"vqa_accuracy", "recall"}
    assert {task.metric for task in TASKS.values()} <= known


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_builder_that_takes_its_options(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    schema = registry.datasets.schema(task.dataset)
    if name in FROZEN:
        (tmp_path / "splits" / name).mkdir(parents=True)
        options = dataset_of(task, tmp_path)
        schema(**{key: value for key, value in options.items() if key != "type"})
        assert missing(task, tmp_path) == wanted(task, tmp_path)
    else:
        schema(path=str(tmp_path), **task.options)
    if task.dataset == "probe_set":  # torchvision's root is the data root, so the folders agree
        found = importlib.import_module(registry.datasets.get("probe_set").__module__).PROBES
        assert found[task.options["name"]].folder.split("/")[0] == task.folder


def test_the_command_lists_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == list(TASKS)
    assert "FLAVA: auroc 76.09" in next(line for line in lines if "hateful_memes" in line)
