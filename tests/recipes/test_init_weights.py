"""Training from a file of weights, as a recipe says it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from tiny_run import start, write_recipe

from flava_plugin.cli import weights
from flava_plugin.model.weights_file import read_safetensors
from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.train import checkpoint

STILL = {"steps": 1, "optim": {"lr": 1e-30, "warmup_steps": 0, "weight_decay": 0}}
"""A step that moves nothing, so that a checkpoint shows what it began with."""


def finish(recipe: Path, *overrides: str) -> str:
    run = start(recipe, *overrides)
    told = run.communicate(timeout=110)[1]
    assert run.returncode == 0, told
    return told


def test_a_run_starts_from_another_runs_converted_weights(tmp_path: Path) -> None:
    finish(write_recipe(tmp_path / "first", steps=2))
    parser = argparse.ArgumentParser()
    weights.add_commands(parser.add_subparsers())
    file = tmp_path / "first.safetensors"
    words = ["weights", "convert", str(tmp_path / "first/run"), str(file), "--to", "flava_plugin"]
    arguments = parser.parse_args(words)
    assert arguments.run(arguments) == 0
    state, settings = read_safetensors(file)
    assert settings is not None
    assert settings.heads == (2, 2, 2)

    second = write_recipe(tmp_path / "second", seed=9, init={"weights": str(file)}, **STILL)
    finish(second, "objectives.itm=null")
    found = checkpoint.find(tmp_path / "second/run").model()
    assert state.keys() - found.keys() == {n for n in state if n.startswith("heads.itm.")}
    for name, value in found.items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("init", "told"),
    [
        ({}, "init: give either run or weights, and not both"),
        ({"run": ".", "weights": "x.safetensors"}, "init: give either run or weights"),
        ({"weights": "none/such.safetensors"}, "init.weights: 'none/such.safetensors' does not"),
        ({"weights": "model.pt"}, "init.weights: is no .safetensors file"),
    ],
)
def test_a_wrong_init_is_refused_when_the_recipe_is_read(
    tmp_path: Path, init: dict[str, str], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        load_recipe(str(write_recipe(tmp_path, init=init)))
