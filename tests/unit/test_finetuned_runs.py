"""Fine-tuned runs in the paper's table."""

import json
from pathlib import Path

import pytest
import yaml

from flava_plugin.evaluate.finetuned_runs import parse_runs, with_runs
from flava_plugin.evaluate.paper_run import paper_table
from flava_plugin.evaluate.paper_tasks import TASKS
from flava_plugin.recipe import load_recipe

FROZEN = {"tasks": {"mnist": {"accuracy": 0.9, "test": 10}}, "not_run": {"mnli": "x", "rte": "y"}}
TUNED = [task for task in TASKS.values() if task.kind == "finetuned"]


def evaluated(folder: Path, **tasks: dict[str, float]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({**tasks, "seconds": {"accuracy": 9.0}}))
    return folder


def of_recipe(folder: Path, recipe: str, *changes: str) -> Path:
    """A run folder with the recipe that a training would have left."""
    folder.mkdir(parents=True, exist_ok=True)
    found = load_recipe(recipe, changes, check_files=False)
    (folder / "recipe.yaml").write_text(found.to_yaml())
    return folder


def test_a_runs_figures_join_the_table_and_its_averages(tmp_path: Path) -> None:
    mnli = evaluated(tmp_path / "a", matched={"accuracy": 0.8}, mismatched={"accuracy": 0.7})
    vqa = evaluated(tmp_path / "b", answers={"vqa_accuracy": 0.6})
    found = with_runs(FROZEN, {"vqav2": vqa, "mnli": mnli})
    assert list(found["tasks"]) == ["mnli", "mnist", "vqav2"]
    assert found["tasks"]["mnli"]["accuracy"] == pytest.approx(0.75)
    assert found["not_run"] == {"rte": "y"}
    assert found["averages"] == pytest.approx(
        {"language": 75, "vision": 90, "multimodal": 60, "macro": 75}
    )
    assert "mean macro" in paper_table(found)


@pytest.mark.parametrize("figures", [{"accuracy_and_f1": 0.7}, {"accuracy": 0.8, "f1": 0.6}])
def test_accuracy_and_f1_are_averaged(figures: dict[str, float], tmp_path: Path) -> None:
    found = with_runs(FROZEN, {"qqp": evaluated(tmp_path / "a", glue=figures)})
    assert found["tasks"]["qqp"] == {"accuracy_and_f1": pytest.approx(0.7)}


def test_what_cannot_be_joined_is_named(tmp_path: Path) -> None:
    assert parse_runs(["rte=runs/a=b"]) == {"rte": Path("runs/a=b")}
    for wrong in ("rte", "rte=", "none=runs/a"):
        with pytest.raises(ValueError, match="neither a folder of runs nor TASK=RUN"):
            parse_runs([wrong])
    other = evaluated(tmp_path / "c", task={"accuracy": 0.8})
    with pytest.raises(ValueError, match="has no vqa_accuracy"):
        with_runs(FROZEN, {"vqav2": other})
    with pytest.raises(ValueError, match="mean of the matched and the mismatched"):
        with_runs(FROZEN, {"mnli": other})
    three = {"a": {"accuracy": 1.0}, "b": {"accuracy": 1.0}, "mismatched": {"accuracy": 1.0}}
    with pytest.raises(ValueError, match="a, b all have the figure; call the one .* 'mnli'"):
        with_runs(FROZEN, {"mnli": evaluated(tmp_path / "d", **three)})


def test_one_of_several_evaluators_counts_by_its_name_or_its_dataset(tmp_path: Path) -> None:
    both = {"rte": {"accuracy": 0.5}, "own": {"accuracy": 1.0}}
    found = with_runs(FROZEN, {"rte": evaluated(tmp_path / "a", **both)})
    assert found["tasks"]["rte"] == {"accuracy": 0.5}
    run = evaluated(tmp_path / "b", glue={"accuracy": 0.25}, own={"accuracy": 1.0})
    with pytest.raises(ValueError, match="glue, own all have the figure"):
        with_runs(FROZEN, {"rte": run})
    of_recipe(run, "finetune/glue")  # its evaluator 'glue' is on RTE
    assert with_runs(FROZEN, {"rte": run})["tasks"]["rte"] == {"accuracy": 0.25}


def test_runs_are_found_in_a_folder_by_their_recipes(tmp_path: Path) -> None:
    rte = evaluated(of_recipe(tmp_path / "one", "finetune/glue"), glue={"accuracy": 0.5})
    cola = [f"{key}.dataset.task=cola" for key in ("data.sources.train", "evaluate.tasks.glue")]
    of_recipe(tmp_path / "two", "finetune/glue", *cola)
    vqa = of_recipe(tmp_path / "three", "finetune/vqav2")
    of_recipe(tmp_path / "pretrained", "pretrain/shapes")
    found = parse_runs([str(tmp_path)])
    assert found == {"rte": rte, "cola": tmp_path / "two", "vqav2": vqa}
    assert parse_runs([str(vqa)]) == {"vqav2": vqa}
    again = of_recipe(tmp_path / "zwei", "finetune/glue")
    with pytest.raises(ValueError, match=f"one and {again} are both of rte; say --with rte=RUN"):
        parse_runs([str(tmp_path)])
    assert parse_runs([f"rte={again}", str(tmp_path)])["rte"] == again
    with pytest.raises(ValueError, match="no run in it evaluates one of the paper's tasks"):
        parse_runs([str(tmp_path / "pretrained")])
    with pytest.raises(ValueError, match="has no matthews; add the evaluator and run: flava eval"):
        with_runs(FROZEN, {"cola": found["cola"]})


@pytest.mark.parametrize("task", TUNED, ids=lambda task: task.name)
def test_the_recipe_of_every_task_is_there(task: object, tmp_path: Path) -> None:
    assert len(TUNED) == 11
    run = of_recipe(tmp_path / "run", task.recipe, *task.changes)
    assert parse_runs([str(run)]) == {task.name: run}
    evaluators = yaml.safe_load((run / "recipe.yaml").read_text())["evaluate"]["tasks"]
    assert all(each["type"] == "predictions" for each in evaluators.values())
