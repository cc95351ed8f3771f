"""Every shipped recipe loads, says what it is, and survives its own resolution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flava_plugin.recipe import load_recipe, recipe_names, recipes_folder

NAMES = recipe_names()


def test_the_recipes_of_the_foundation_are_there() -> None:
    wanted = {f"pretrain/{name}" for name in ("shapes", "folder", "flava_base", "flava_large")}
    assert wanted <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_without_its_data(name: str) -> None:
    assert load_recipe(name, check_files=False).steps > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is(name: str) -> None:
    first = (recipes_folder() / f"{name}.yaml").read_text("utf-8").partition("\n")[0]
    assert first.startswith("# "), "its first line is a comment that 'flava ls' shows"
    assert 10 < len(first) <= 110


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_recipe_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, check_files=False)
    written = tmp_path / "recipe.yaml"
    written.write_text(recipe.to_yaml(), "utf-8")
    assert load_recipe(str(written), check_files=False) == recipe


def leaves(section: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def test_the_balanced_recipe_is_the_demo_but_for_its_setting() -> None:
    demo, own = (
        dict(leaves(load_recipe(f"pretrain/{name}").model_dump(mode="json")))
        for name in ("shapes", "shapes_balanced")
    )
    questions = {key for key in demo if key.startswith("evaluate.tasks.questions.")}
    assert demo.keys() - own.keys() == questions
    weights = {f"objectives.{name}.weight" for name in ("itm", "contrastive")}
    shares = {f"data.sources.{name}.share" for name in ("pairs", "images", "sentences")}
    assert {key for key in own if key not in demo or own[key] != demo[key]} == {
        *weights,
        *shares,
        "steps",
        "run_dir",
        "optim.clip_norm",
        "checkpoint.every",
        "checkpoint.keep",
        "evaluate.tasks.masked.dataset.size",
    }


def test_every_recipe_has_a_row_in_the_readme() -> None:
    text = (Path(__file__).resolve().parents[2] / "recipes" / "README.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == NAMES
    assert all(len(row.strip("|").split("|")) == 5 for row in rows)
