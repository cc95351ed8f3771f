"""The bench of initialised encoders: what is compared with what, and its tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from flava_plugin.recipe import load_recipe
from tests.benchmarks.bench import shapes_runs, unimodal
from tests.benchmarks.bench.shapes_runs import ENCODERS, Trial
from tests.benchmarks.bench.unimodal import COLUMNS, Row, differences, rows, show, start


def line(value: float) -> dict[str, Any]:
    return {"figures": dict.fromkeys(COLUMNS, value)}


def test_every_start_has_a_row_of_as_many_steps_and_one_of_as_many_batches() -> None:
    found = rows((300, 1000), 300)
    assert Row("scratch", 1600, 1600) in found and Row("scratch", 900, 900) in found
    for row in found:
        if row.start != "scratch":
            assert row.batches == row.steps + 600
            assert {Row("scratch", n, n) for n in (row.steps, row.batches)} <= set(found)


def test_a_joint_run_starts_from_both_trainings_of_its_seed() -> None:
    alone = {name: Trial(name, 2, 300, "alone") for name in ENCODERS}
    arguments = argparse.Namespace(folder=Path("f"))
    assert start(Row("scratch", 300, 300), alone, arguments) == ()
    (change,) = start(Row("heads", 300, 900), alone, arguments)
    recipe = load_recipe("pretrain/shapes", [change], check_files=False)
    assert recipe.init is not None
    assert recipe.init.runs == {
        "init.image.run": Path("f/mim-alone-300-2"),
        "init.text.run": Path("f/mlm-alone-300-2"),
    }
    assert recipe.init.image is not None and recipe.init.image.head


def test_the_recipe_of_an_encoder_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(shapes_runs, "flava", lambda *words: commands.append(words))
    shapes_runs.train(Trial("mlm", 0, 5, "alone"), argparse.Namespace(folder=tmp_path, threads=1))
    assert commands[0][:2] == ("train", "pretrain/mlm_shapes")
    assert "steps=5" in commands[0]


def test_the_initialised_recipe_is_the_demo_but_for_its_start() -> None:
    demo, own = (
        load_recipe(f"pretrain/{name}", check_files=False).model_dump(mode="json")
        for name in ("shapes", "shapes_initialised")
    )
    assert {key for key in own if own[key] != demo[key]} == {"init", "run_dir"}
    for name, section in unimodal.SECTIONS.items():
        alone = load_recipe(ENCODERS[name], check_files=False).model_dump(mode="json")
        assert own["init"][section]["run"] == alone["run_dir"]
        assert alone["model"][f"{section}_encoder"] == own["model"][f"{section}_encoder"]
        assert alone["objectives"] == {name: own["objectives"][name]}
        assert alone["optim"] | {"warmup_steps": 50} == own["optim"]
        assert json.dumps(alone["data"]["tokenizer"]) == json.dumps(own["data"]["tokenizer"])


def test_differences_are_paired_by_seed() -> None:
    found = {row: [line(0.25), line(0.75)] for row in rows((300,), 300)}
    found[Row("heads", 300, 900)] = [line(0.5), line(1.0)]
    text = differences(found)
    assert len(text.splitlines()) == 2 + 4
    same = " | ".join(["0.250 ± 0.000"] * len(COLUMNS))
    assert f"| both encoders and heads, 300 steps, less scratch, 300 steps | {same} |" in text
    assert f"| both encoders and heads, 300 steps, less scratch, 900 steps | {same} |" in text
    assert "| both encoders, 300 steps | 900 | 0.500 ± 0.250 |" in show(found)
