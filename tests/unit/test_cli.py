"""``flava ls``, ``show`` and ``cp``; what answers at once imports no torch."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flava_plugin.cli.main import main, parse
from flava_plugin.recipe import load_recipe, recipe_names
from flava_plugin.registry import REGISTRIES

HEAVY = ("torch", "torchvision", "torchmultimodal", "numpy", "PIL")


@pytest.mark.parametrize(
    "words", [["ls"], ["ls", "heads"], ["--help"], ["train", "--help"], ["eval", "--help"]], ids=str
)
def test_a_quick_command_imports_nothing_heavy(
    words: list[str], record_property: Callable[[str, object], None]
) -> None:
    program = (
        "import sys\n"
        "from flava_plugin.cli.main import main\n"
        f"sys.argv = ['flava', *{words}]\n"
        "try:\n    code = main()\nexcept SystemExit as left:\n    code = left.code\n"
        f"heavy = sorted(set({HEAVY}) & set(sys.modules))\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    record_property("seconds", round(time.perf_counter() - started, 3))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 40


def test_ls_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {line.split()[1] for line in lines}
    assert names >= set(recipe_names())
    for registry in REGISTRIES.values():
        assert names >= set(registry.names())


@pytest.mark.parametrize("kind", ["recipes", *REGISTRIES])
def test_ls_of_one_kind_says_what_each_is(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert {line.split()[0] for line in lines} == {
        kind.removesuffix("es" if kind == "losses" else "s")
    }
    for line in lines:  # other tests may have registered components of their own
        assert len(line.split()) > 5 or "flava-plugin" not in line, f"no description: {line}"


@pytest.mark.parametrize("kind", REGISTRIES)
def test_show_explains_each_component(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [e.name for e in REGISTRIES[kind].entries() if e.package == "flava-plugin"]
    for name in ours:
        assert main(["show", name]) == 0
        shown = capsys.readouterr().out
        assert f"{REGISTRIES[kind].kind} {name}, from flava-plugin" in shown
        for option in REGISTRIES[kind].schema(name).model_fields:
            assert f"  {option}: " in shown


def test_show_resolves_a_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["show", "pretrain/shapes", "steps=5"]) == 0
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown)["steps"] == 5
    (tmp_path / "shown.yaml").write_text(shown, "utf-8")
    again = load_recipe(str(tmp_path / "shown.yaml"), check_files=False)
    assert again == load_recipe("pretrain/shapes", ["steps=5"], check_files=False)


def test_show_describes_the_papers_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "tasks/rte"]) == 0
    shown = capsys.readouterr().out
    assert "flava train finetune/glue init.run=RUN" in shown
    assert "data: ROOT/glue" in shown
    assert "accuracy: flava 57.76" in shown
    assert main(["show", "tasks"]) == 0
    assert capsys.readouterr().out.count("measured by: ") == 35
    assert main(["show", "tasks/none"]) == 2


def test_show_refuses_a_bad_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "pretrain/shapes", "stepz=5"]) == 2
    assert "did you mean 'steps'" in capsys.readouterr().err
    assert main(["show", "pair_macth"]) == 2
    assert "pair_macth" in capsys.readouterr().err


def test_cp_copies_and_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "sub" / "mine.yaml"
    assert main(["cp", "pretrain/shapes", str(target)]) == 0
    assert load_recipe(str(target), check_files=False).steps > 0
    target.write_text("mine", "utf-8")
    assert main(["cp", "pretrain/shapes", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert target.read_text("utf-8") == "mine"
    assert main(["cp", "pretrain/shapes", str(tmp_path)]) == 0
    assert (tmp_path / "shapes.yaml").is_file()
    assert main(["cp", "pretrain/shapez", str(tmp_path / "x.yaml")]) == 2


def test_show_of_a_component_takes_no_changes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "pair_match", "steps=5"]) == 2
    assert "pair_match: is a component" in capsys.readouterr().err


def test_cp_writes_a_command_that_a_shell_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "my recipes" / "a.yaml"
    assert main(["cp", "pretrain/shapes", str(target)]) == 0
    assert f"flava train '{target}'" in capsys.readouterr().out


def test_a_failing_disk_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    assert main(["cp", "pretrain/shapes", str(tmp_path / "file" / "x.yaml")]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("flava: ")


def test_ctrl_c_while_a_recipe_loads_is_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flava_plugin.recipe.load_recipe", interrupted)
    assert main(["show", "pretrain/shapes"]) == 130
    assert capsys.readouterr().err == "flava: stopped\n"


@pytest.mark.parametrize(
    "words",
    [[], ["lss"], ["ls", "heds"], ["cp", "x"], ["ls", "--all"], ["ls", "heads", "a=1"]],
    ids=str,
)
def test_a_wrong_command_line_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2


def test_changes_may_follow_options() -> None:
    parsed = parse(["eval", "runs/x", "steps=1", "--split", "dev", "optim.lr=2"])
    assert parsed.overrides == ["steps=1", "optim.lr=2"]
    assert parsed.split == "dev"


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flava_plugin", "ls", "losses"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "global_contrastive" in done.stdout
