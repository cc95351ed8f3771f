"""The benches of dual encoders: what is measured stays, and tables say what is missing."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.bench import baselines, scaling, shapes_runs
from tests.benchmarks.bench.shapes_runs import Trial, cell, kept, measured, spread, tasks_of


def line(model: str, value: float, **more: Any) -> dict[str, Any]:
    figures = dict.fromkeys(shapes_runs.RETRIEVAL, value)
    parameters = {"image": 1, "text": 2, "all": 4}
    own = {"figures": figures, "steps": 10, "seconds": 3.0, "parameters": parameters}
    return own | {"model": model} | more


def test_what_is_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    results = {
        "seconds": {"train": 2.5, "total": 3.0},
        "retrieval": {"image_to_text_r1": 0.5, "gallery_size": 16},
        "itm": {"cannot": "no objective"},
        "seed": 0,
    }

    def flava(*words: str) -> None:
        commands.append(words)
        run_dir = tmp_path / "clip-100-7-0"
        run_dir.mkdir(exist_ok=True)
        (run_dir / "results.json").write_text(json.dumps(results))

    monkeypatch.setattr(shapes_runs, "flava", flava)
    monkeypatch.setattr(shapes_runs, "parameters", lambda run_dir: {"all": 4})
    arguments = argparse.Namespace(folder=tmp_path, threads=1, split="dev")
    trial = Trial("clip", 0, 7, "100", ("data.sources.pairs.dataset.size=100",))
    (tmp_path / "measured.jsonl").write_text('{"name": "half a li\n')
    first = measured(trial, arguments, ["evaluate.tasks.itm={}"])
    assert first["figures"] == {"retrieval.image_to_text_r1": 0.5}
    assert first["cannot"] == ["itm"] and first["seconds"] == 2.5
    assert [words[0] for words in commands] == ["train", "eval"]
    assert "data.sources.pairs.dataset.size=100" in commands[0]
    assert "evaluate.tasks.itm={}" in commands[1]
    assert measured(trial, arguments, []) == first and len(commands) == 2
    assert kept(tmp_path, "clip-100-7-1-dev") is None


def test_every_model_is_asked_the_tasks_of_the_demo() -> None:
    names = [task.partition("=")[0] for task in tasks_of("pretrain/shapes")]
    wanted = ("retrieval", "zero_shot", "masked", "itm", "questions")
    assert names == [f"evaluate.tasks.{name}" for name in wanted]


def test_a_figure_that_a_model_has_not_is_a_dash() -> None:
    lines = [line("clip", 0.25), line("clip", 0.75)]
    mean, error = spread(lines, "retrieval.image_to_text_r1") or (0, 0)
    assert mean == 0.5 and error == pytest.approx(0.25)
    assert spread(lines, "itm.accuracy") is None and cell(None) == "-"
    assert math.isnan((spread(lines[:1], "retrieval.image_to_text_r1") or (0, 0))[1])
    full = line("flava", 0.5, figures=dict.fromkeys(baselines.FIGURES, 0.5))
    found = {"flava": [full], "clip": lines, "align": lines}
    table = baselines.show(found)
    assert "| image-text matching | 0.500 ± nan | - | - |" in table
    assert baselines.alone_is_flava(found)
    assert not baselines.alone_is_flava(found | {"align": [full]})
    assert not baselines.alone_is_flava(found | {"flava": lines})


def test_the_curve_is_held_to_rise() -> None:
    sizes = [1000, 64_000]
    lines = {
        (model, size): [line(model, size / 100_000 + (model == "flava") / 10)]
        for model in scaling.MODELS
        for size in sizes
    }
    assert scaling.gain(lines, "clip", sizes) == pytest.approx(0.63)
    lines["clip", 64_000] = [line("clip", 0.005)]
    assert scaling.gain(lines, "clip", sizes) < 0
    curve = scaling.show(lines, sizes, 1000)
    assert "| 64,000 | 0.7, 1 | 0.740 ± nan | 0.005 ± nan | 0.735 ± nan |" in curve
