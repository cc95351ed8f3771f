"""Loading a recipe: where it is found, what overrides do, what YAML may say."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from flava_plugin import recipe_fit
from flava_plugin.recipe import (
    Recipe,
    RecipeError,
    find_recipe,
    load_recipe,
    override,
    read_recipe,
    recipe_names,
)
from flava_plugin.registry import heads
from flava_plugin.strict_yaml import YamlError, dump, parse


def load(*overrides: str) -> Recipe:
    return load_recipe("pretrain/shapes", overrides, check_files=False)


def lines(*overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as refused:
        load(*overrides)
    assert str(refused.value) == "\n".join(refused.value.lines)
    return refused.value.lines


def test_a_recipe_is_found_by_name_path_and_run_folder(tmp_path: Path) -> None:
    by_name = load()
    copied = tmp_path / "mine.yaml"
    copied.write_bytes(find_recipe("pretrain/shapes").read_bytes())
    assert load_recipe(str(copied), check_files=False) == by_name
    (tmp_path / "recipe.yaml").write_text(by_name.to_yaml(), "utf-8")
    assert load_recipe(str(tmp_path), check_files=False) == by_name


def test_a_wrong_name_is_answered_with_a_guess(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'pretrain/shapes'"):
        find_recipe("pretrain/shape")
    with pytest.raises(RecipeError, match="pretrain/shapes"):
        find_recipe("qqqq")
    with pytest.raises(RecipeError, match="no such recipe"):
        find_recipe(str(tmp_path))
    with pytest.raises(RecipeError, match="no such recipe"):
        find_recipe("../pretrain/shapes")


def test_names_are_those_of_the_command_line() -> None:
    assert "pretrain/shapes" in recipe_names()
    assert all(find_recipe(name).is_file() for name in recipe_names())


def test_overrides_are_yaml_values() -> None:
    recipe = load("steps=7", "optim.lr=2.5e-4", "data.image.crop=[0.5, 1.0]", "run_dir=a=b")
    assert (recipe.steps, recipe.optim.lr, recipe.run_dir) == (7, 2.5e-4, "a=b")
    assert recipe.data.image.crop == (0.5, 1.0)
    assert load("data.image.crop=null").data.image.crop is None
    assert load("plugins=[]").plugins == []


def test_a_later_override_wins() -> None:
    assert load("steps=7", "steps=8").steps == 8


def test_null_removes_an_entry() -> None:
    data = {"objectives": {"a": 1, "b": 2}, "evaluate": {"tasks": {"c": 3}}, "seed": 1}
    changed, errors = override(data, ["objectives.a=null", "evaluate.tasks.c=null", "seed=null"])
    assert changed == {"objectives": {"b": 2}, "evaluate": {"tasks": {}}, "seed": None}
    assert not errors
    assert data["objectives"] == {"a": 1, "b": 2}, "the given data stays as it was"
    assert "no 'objectives.z' to remove" in override(data, ["objectives.z=null"])[1][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("steps", "write key=value"),
        ("=3", "write key=value"),
        ("optim..lr=3", "write key=value"),
        ("optim.=3", "write key=value"),
        ("steps.more=3", "'steps' has no keys"),
        ("steps=[1", "override 'steps=[1'"),
        ("steps=!!python/name:os.system", "tags are refused"),
        ("steps=&a 1", "anchors"),
    ],
)
def test_an_override_that_cannot_be_applied(change: str, says: str) -> None:
    found = lines(change)
    assert any(says in line for line in found), found


def test_an_override_of_an_unknown_key_is_an_unknown_key() -> None:
    assert any("optim.lrr: unknown key; did you mean 'lr'" in line for line in lines("optim.lrr=1"))


def test_all_errors_come_at_once() -> None:
    found = lines("steps=-1", "optim.lrr=1", "data.per_gpu_batch=7", "precision=fp8", "seed=yes")
    for place in ("steps", "optim.lrr", "data.global_batch", "precision", "seed"):
        assert any(f": {place}: " in line for line in found), (place, found)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("precision=fp16", "device=cpu"), "precision: 'fp16' needs a GPU.*use precision: bf16"),
        (
            ("attention=varlen", "precision=fp16", "device=cuda"),
            "attention: 'varlen' needs CUDA and precision: bf16.*precision: fp16; take .*auto",
        ),
        (
            ("sharding.strategy=fairscale_fsdp", "device=cpu"),
            "sharding.strategy: .*needs CUDA streams.*device: cpu; use .*fsdp2",
        ),
        (
            ("sharding.strategy=fairscale_fsdp", "device=cuda", "compile=true"),
            "compile: .*FairScale.*use sharding.strategy=fsdp2, or compile=false",
        ),
    ],
)
def test_what_a_strategy_cannot_do_is_an_error_of_the_recipe(
    overrides: tuple[str, ...], says: str
) -> None:
    (line,) = lines(*overrides)
    assert re.search(f"yaml: {says}", line)
    assert load(*overrides[1:])


@pytest.mark.parametrize("torch", ["2.5.1", "2.5.1+cu124", "1.13.0"])
def test_fsdp2_under_an_old_torch_is_an_error_of_the_recipe(
    torch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_fit, "version", {"torch": torch}.__getitem__)
    (line,) = lines("sharding.strategy=fsdp2")
    assert "sharding.strategy: 'fsdp2' needs torch 2.6 or newer" in line
    assert torch in line and "ddp_oss" in line
    assert load("sharding.strategy=ddp_oss").sharding.strategy == "ddp_oss"


@pytest.mark.parametrize("torch", ["2.6.0", "2.11.0+cpu", "2.10.0a0+git1", "3.0", None])
def test_fsdp2_is_read_where_torch_is_new_or_does_not_say(
    torch: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if torch is None:
            raise PackageNotFoundError(name)
        return torch

    monkeypatch.setattr(recipe_fit, "version", version)
    assert load("sharding.strategy=fsdp2").sharding.strategy == "fsdp2"


def test_resolution_is_idempotent() -> None:
    resolved = parse(load().to_yaml())
    assert parse(Recipe.model_validate(resolved).to_yaml()) == resolved
    assert resolved["checkpoint"]["keep"] >= 1


def test_options_of_components_are_written_out() -> None:
    """A run is what its recipe says, also after a default has changed."""
    plain = load("objectives.mlm.loss.chunk=7").model_dump(mode="json")
    loss = plain["objectives"]["mlm"]["loss"]
    assert loss == {"type": "masked_ce", "target": "words", "chunk": 7}
    assert plain["objectives"]["mlm"]["head"]["norm_eps"] == 1e-5
    assert plain["model"]["image_encoder"]["dropout"] == 0.0
    assert plain["model"]["codebook"] == {"type": "kmeans_patches", "path": None}
    assert plain["data"]["sources"]["pairs"]["dataset"]["split"] == "train"
    nested = plain["evaluate"]["tasks"]["retrieval"]["dataset"]
    assert nested["type"] == "shapes_pairs" and "seed" in nested


def test_paths_are_written_as_they_were_given() -> None:
    recipe = load_recipe("pretrain/flava_base", check_files=False)
    assert recipe.data.tokenizer.options["vocab"] == "$FLAVA_DATA/bert-base-uncased-vocab.txt"


def test_variables_are_expanded_in_paths_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    (tmp_path / "pairs.jsonl").write_text("", "utf-8")
    source = "data.sources.pairs.dataset={type: jsonl_pairs, path: $MY_DATA/pairs.jsonl}"
    recipe = load_recipe("pretrain/shapes", [source, "run_dir=$MY_DATA/run"])
    assert recipe.run_dir == str(tmp_path / "run")
    assert lines("steps=$MY_DATA")
    (line,) = lines("run_dir=$NOT_SET_ANYWHERE/run")
    assert "run_dir: " in line and "export it" in line


def test_plugins_are_imported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_test_heads.py").write_text(
        "from flava_plugin import heads\n"
        "@heads.register('from_a_plugin')\n"
        "class Head:\n"
        "    def __init__(self, widths: object, /, *, size: int = 2) -> None: ...\n",
        "utf-8",
    )
    monkeypatch.setattr(heads, "_decorated", dict(heads._decorated))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    change = "objectives.itm.head={type: from_a_plugin, size: 3}"
    recipe = load("plugins=[my_test_heads]", change)
    assert recipe.objectives["itm"].head.options == {"size": 3}
    assert any("my_test_heads_2" in line for line in lines("plugins=[my_test_heads_2]"))
    sys.modules.pop("my_test_heads")


PLAIN: list[Any] = [
    {"a": 1, "b": [1.5, None, True, "x"], "c": {"d": "yes"}},
    {"text": "line\nline: # no comment", "unicode": "schön 猫", "empty": {}, "list": []},
]


@pytest.mark.parametrize("data", PLAIN, ids=["values", "texts"])
def test_what_is_written_is_read_back(data: Any) -> None:
    assert parse(dump(data)) == data


def test_numbers_as_people_write_them() -> None:
    """YAML 1.1 reads 1e-3 as text; a recipe means a number."""
    assert load("optim.lr=1e-3").optim.lr == pytest.approx(1e-3)
    assert load("steps=150_000").steps == 150_000


@pytest.mark.parametrize(
    "text", ["{a: 1, a: 2}", "&x [1]", "*x", "!!set {a}", "[" * 5000, "a: b: c"]
)
def test_what_is_no_plain_yaml(text: str) -> None:
    with pytest.raises(YamlError):
        parse(text)


def test_a_recipe_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * 2_000_000)
    with pytest.raises(RecipeError, match="no recipe is larger"):
        read_recipe(large)


def test_a_plugin_that_exits_is_an_error_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit(3)\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (line,) = lines("plugins=[leaves_at_once]")
    assert "plugins: 'leaves_at_once' cannot be imported: SystemExit: 3" in line
