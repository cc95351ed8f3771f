"""What the built wheel holds: recipes, assets, entry points, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="builds the wheel: pip install '.[dev]'")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    done = subprocess.run(
        [*command, "--directory", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_every_recipe_profile_and_asset_is_in_it(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for path in (ROOT / "recipes").rglob("*.yaml"):
        name = f"flava_plugin/_recipes/{path.relative_to(ROOT / 'recipes').as_posix()}"
        assert name in names
        assert wheel.read(name) == path.read_bytes()
    profiles = sorted((ROOT / "slurm/clusters").glob("*.yaml"))
    assert profiles
    for path in profiles:
        assert wheel.read(f"flava_plugin/_clusters/{path.name}") == path.read_bytes()
    assets = [path for path in (ROOT / "flava_plugin" / "assets").iterdir() if path.is_file()]
    assert assets
    assert {f"flava_plugin/assets/{path.name}" for path in assets} <= names
    assert "flava_plugin/py.typed" in names


def test_every_module_is_in_it_and_no_test(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = (ROOT / "flava_plugin").rglob("*.py")
    assert {path.relative_to(ROOT).as_posix() for path in modules} <= names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"flava_plugin"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_command_and_the_components_are_announced(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    text = wheel.read(name).decode("utf-8")
    assert "flava = flava_plugin.cli.main:main" in text
    for kind in ("encoders", "codebooks", "tokenizers", "heads", "losses", "datasets"):
        assert f"[flava_plugin.{kind}]" in text
    assert "[flava_plugin.evaluators]" in text


def test_recipes_are_found_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = (
        "import flava_plugin, sys\n"
        "from flava_plugin.recipe import load_recipe, recipes_folder\n"
        f"assert flava_plugin.__file__.startswith({str(tmp_path)!r}), flava_plugin.__file__\n"
        "assert recipes_folder().name == '_recipes'\n"
        "load_recipe('pretrain/shapes')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
