"""Fine-tuned runs in the paper's table."""

import json
from pathlib import Path

import pytest

from flava_plugin.evaluate.finetuned_runs import parse_runs, with_runs
from flava_plugin.evaluate.paper_run import paper_table

FROZEN = {"tasks": {"mnist": {"accuracy": 0.9, "test": 10}}, "not_run": {"mnli": "x", "rte": "y"}}


def evaluated(folder: Path, **tasks: dict[str, float]) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({**tasks, "seconds": {"accuracy": 9.0}}))
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


def test_what_cannot_be_joined_is_named(tmp_path: Path) -> None:
    assert parse_runs(["rte=runs/a=b"]) == {"rte": Path("runs/a=b")}
    for wrong in ("rte", "rte=", "none=runs/a"):
        with pytest.raises(ValueError, match="is not TASK=RUN"):
            parse_runs([wrong])
    other = evaluated(tmp_path / "c", task={"accuracy": 0.8})
    with pytest.raises(ValueError, match="has no vqa_accuracy"):
        with_runs(FROZEN, {"vqav2": other})
