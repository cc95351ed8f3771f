"""``flava balance RECIPE``: runs on one kind beside the joint run, resumed, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import signal_at, write_recipe

from flava_plugin.balance_record import BalanceRecord
from flava_plugin.cli.main import main
from flava_plugin.launch.balance_study import measured, plan_study
from flava_plugin.launch.balance_study_text import study_text
from flava_plugin.plan.shares import mean_shares
from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.recipe_alone import steps_by_kind

TASKS = {
    "split": "dev",
    "tasks": {
        "find": {"type": "retrieval", "dataset": {"type": "shapes_pairs", "size": 16}},
        "fill": {"type": "masked_tokens", "dataset": {"type": "shapes_pairs", "size": 16}},
        "itm": {"type": "matching", "dataset": {"type": "shapes_pairs", "size": 16}},
    },
}
RUNS = ("joint", "unit", "image", "text", "pair", "image-total", "text-total", "pair-total")


def shares(recipe: object) -> dict[str, float]:
    return mean_shares(recipe)[0]  # type: ignore[arg-type]


def command(tmp_path: Path, *more: str) -> list[str]:
    recipe = write_recipe(tmp_path, evaluate=TASKS)
    return ["balance", str(recipe), "--folder", str(tmp_path / "study"), *more]


def test_the_report_says_what_tasks_gain_and_what_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = command(tmp_path, "--seeds", "1", "--also", "unit,total")
    # killed in the middle of a run, it goes on to the same figures
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "flava_plugin", *asked],
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    study = tmp_path / "study"
    signal_at(process, study / "pair-3", 5, signal.SIGKILL)
    process.wait()
    kept = (study / "joint-3.json").stat().st_mtime_ns
    assert not (study / "pair-3.json").exists()

    assert main(asked) == 0
    assert (study / "joint-3.json").stat().st_mtime_ns == kept  # not measured again
    text = capsys.readouterr().out
    assert (study / "balance.md").read_text() in text + "\n"
    assert "image alone 3, text alone 3, pair alone 6" in text and "joint 12" in text
    table = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "|" in line}
    head = table["figure"]
    assert "joint | less alone |  | unit weights | less alone" in head and "all steps" in head
    for figure, kind in (("fill.mim", "image"), ("fill.mlm", "text"), ("itm.accuracy", "pair")):
        assert f"({kind})" in table[figure]
    results = {name: json.loads((study / f"{name}-3.json").read_text())["results"] for name in RUNS}
    gain = results["joint"]["fill"]["mim"] - results["image"]["fill"]["mim"]
    assert f"| {gain:+.3f} |" in table["fill.mim"]
    assert "fill.mlm" not in results["pair"] and "mim" not in results["pair"]["fill"]
    assert "What 12 diagnoses speak for" in text and "data.sources.pairs.share=" in text
    worth = [line for line in text.splitlines() if line.startswith(("| image", "| text", "| pair"))]
    assert len(worth) == 3 and all("| 1.00 |" in line for line in worth)

    whole = tmp_path / "whole"
    again = [str(whole) if word == str(study) else word for word in asked]
    assert main(again) == 0
    assert (whole / "balance.md").read_text() == (study / "balance.md").read_text()


def planted(folder: Path, seeds: int, *given: float) -> str:
    """Report a study whose runs were never made: in every other seed pairs teach MIM and MLM."""
    sources = zip(("pairs", "images", "sentences"), given, strict=True)
    words = [f"data.sources.{name}.share={share}" for name, share in sources]
    words += ["objectives.itm.weight=1", "objectives.contrastive.weight=1"]
    name = str(write_recipe(folder, evaluate=TASKS))
    study = plan_study(name, words, shares, folder / "study", seeds)
    for run in study.runs:
        asked = {"split": None, "recipe": run.recipe.model_dump(mode="json", exclude={"run_dir"})}
        run.folder.mkdir(parents=True)
        results = {"find": {"r1": 0.5}}
        run.folder.with_name(f"{run.folder.name}.json").write_text(
            json.dumps({**asked, "results": results})
        )
        if run.row != "joint":
            continue
        kinds = {name: objective.modality for name, objective in run.recipe.objectives.items()}
        teaches = 0.5 * (run.recipe.seed % 2)
        both = {("mim", "mmm_image"), ("mlm", "mmm_text")}
        table = [
            [float(a == b) + teaches * ((a, b) in both or (b, a) in both) for b in kinds]
            for a in kinds
        ]
        ones = dict.fromkeys(kinds, 1.0)
        tables = {"fused/layer 1": table}
        record = BalanceRecord(1, 0.1, list(kinds), ones, ones, ones, tables, tables, kinds)
        (run.folder / "balance.jsonl").write_text(record.line() + "\n")
    return study_text(study, None)


def test_shares_are_left_where_seeds_differ_by_more(tmp_path: Path) -> None:
    (tmp_path / "near").mkdir()
    kept = planted(tmp_path / "near", 2, 0.7, 0.15, 0.15)
    assert "single seeds speak for: " in kept and "image 0.03 to 0.17" in kept
    assert "pair 0.67 to 0.94" in kept and "2 diagnoses speak for what the recipe says" in kept
    (tmp_path / "parts").mkdir()  # shares need not add up to 1
    assert "speak for what the recipe says" in planted(tmp_path / "parts", 2, 14, 3, 3)
    (tmp_path / "far").mkdir()
    changed = planted(tmp_path / "far", 2, 0.5, 0.25, 0.25)
    assert "data.sources.pairs.share=0.94" in changed and "objectives." not in changed
    (tmp_path / "one").mkdir()
    assert "data.sources.images.share=" in planted(tmp_path / "one", 1, 0.7, 0.15, 0.15)


def test_runs_are_listed_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, "--seeds", "2", "--dry-run")) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "8 runs, 48 steps in all"
    assert said[1] == "# joint, seed 3: 12 steps"
    assert said[2].startswith("flava train ") and f"run_dir={tmp_path}/study/joint-3" in said[2]
    assert not (tmp_path / "study").exists()


def test_a_run_alone_differs_from_the_joint_one_by_its_kind_only(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, evaluate=TASKS)
    study = plan_study(str(recipe), [], shares, tmp_path / "study", 1)
    joint, *runs = [run.recipe for run in study.runs]
    assert [len(run.objectives) for run in runs] == [1, 1, 4]
    for run in runs:
        assert run.steps == joint.steps * sum(s.share or 0 for s in run.data.sources.values())
        assert run.optim.warmup_steps == round(joint.optim.warmup_steps * run.steps / joint.steps)
        assert run.model == joint.model and run.seed == joint.seed
        assert run.optim.model_copy(update={"warmup_steps": 3}) == joint.optim
        assert all(run.objectives[name] == joint.objectives[name] for name in run.objectives)
        assert all(run.data.sources[name] == joint.data.sources[name] for name in run.data.sources)
    assert measured(study.runs[0], None) is None


def test_a_run_alone_takes_no_head_of_an_objective_that_it_has_not(tmp_path: Path) -> None:
    init = {name: {"run": str(tmp_path), "head": True} for name in ("image", "text")}
    recipe = write_recipe(tmp_path, evaluate=TASKS, init=init)
    study = plan_study(str(recipe), [], shares, tmp_path / "study", 1)
    heads = [
        (run.recipe.init.image.head, run.recipe.init.text.head)
        for run in study.runs
        if run.recipe.init and run.recipe.init.image and run.recipe.init.text
    ]
    assert heads == [(True, True), (True, False), (False, True), (False, False)]


def test_steps_of_a_kind_add_up_over_its_sources_and_rounds_have_one_of_each(
    tmp_path: Path,
) -> None:
    recipe = load_recipe(str(write_recipe(tmp_path, steps=40)))
    given = {"pairs": 0.5, "images": 0.3, "sentences": 0.2}
    assert steps_by_kind(recipe, given) == {"image": 12, "text": 8, "pair": 20}
    rounds = load_recipe(str(write_recipe(tmp_path, steps=40)), ["balance.step=accumulated"])
    assert set(steps_by_kind(rounds, given).values()) == {40}


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({"evaluate": {"tasks": {}}}, [], "evaluate.tasks: names none"),
        ({}, ["--seeds", "0"], "--seeds 0: give 1 or more"),
        ({}, ["--also", "unit,all"], "--also all: is none of unit, total"),
        ({}, ["--also", "total", "balance.step=accumulated"], "--also total: an accumulated step"),
        ({}, ["data.sources.pairs=null", "data.sources.images=null"], "objectives"),
    ],
)
def test_what_makes_no_report_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    words: list[str],
    said: str,
) -> None:
    recipe = write_recipe(tmp_path, **({"evaluate": TASKS} | changes))
    study = tmp_path / "study"
    assert main(["balance", str(recipe), "--folder", str(study), *words]) == 2
    assert said in capsys.readouterr().err
    assert not study.exists()


def test_a_flag_that_would_do_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["balance", str(tmp_path), "--seeds", "2", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "--seeds, --dry-run" in said and "is a run folder; give a recipe for that" in said
    assert main(["balance", "pretrain/shapes", "--parts", "--checkpoint", "latest"]) == 2
    said = capsys.readouterr().err
    assert "--checkpoint, --parts: pretrain/shapes is no run folder" in said


def test_a_recipe_of_one_kind_is_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, evaluate=TASKS)
    other = ("mim", "mlm")
    words = [*(f"objectives.{name}=null" for name in other), "data.sources.images=null"]
    words += ["data.sources.sentences=null", "data.sources.pairs.share=1"]
    with pytest.raises(RecipeError, match="all are of kind pair; a report takes a joint recipe"):
        plan_study(str(recipe), words, shares, tmp_path, 1)
