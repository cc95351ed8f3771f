"""A recipe and a profile to submit, and the command line as the tests call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from flava_plugin.cli.main import main
from flava_plugin.recipe import load_recipe
from tests.recipes.tiny_run import write_recipe

PROFILE = {"partition": "gpu", "time": 60, "nodes": 2, "tasks_per_node": 2}


class Said(NamedTuple):
    """What a command left: exit code, stdout and stderr."""

    code: int
    out: str
    err: str


def recipe(folder: Path, **changes: object) -> Path:
    """The tiny recipe for several processes; its run is ``folder/run``."""
    return write_recipe(folder, **{"sharding": {"strategy": "ddp"}, **changes})


def profile(folder: Path, **changes: object) -> Path:
    """A profile of two nodes with two processes each; None leaves a key out."""
    data = {key: value for key, value in {**PROFILE, **changes}.items() if value is not None}
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def submit(capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    """Call ``flava submit`` in this process."""
    capsys.readouterr()
    try:
        code = main(["submit", *map(str, words)])
    except SystemExit as left:  # argparse
        code = int(left.code or 0)
    said = capsys.readouterr()
    return Said(code, said.out, said.err)


def flags_of(script: str) -> dict[str, str]:
    """The options of a batch script by name; an option without a value is ''."""
    lines = (line for line in script.splitlines() if line.startswith("#SBATCH --"))
    pairs = (line.removeprefix("#SBATCH --").partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def save_checkpoint(path: Path, step: int, **changes: Any) -> Path:
    """Make a run folder look as if a recipe had been saved at a step; its tensors are missing."""
    found = load_recipe(str(path))
    run_dir = Path(found.run_dir)
    folder = run_dir / "checkpoints" / f"{step:08d}"
    folder.mkdir(parents=True)
    saved = {**found.model_dump(mode="json"), **changes}
    (folder / "state.json").write_text(json.dumps({"step": step, "recipe": saved}))
    (run_dir / "checkpoints" / "latest").write_text(f"{step:08d}\n")
    (run_dir / "recipe.yaml").write_text(found.to_yaml())
    return run_dir
