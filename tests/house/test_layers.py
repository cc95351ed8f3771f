"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "flava_plugin"
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"types", "pixels", "registry", "schema", "strict_yaml", "durable"} | {
    "mixture_types",
    "balance_types",
    "balance_record",
    "sections",
    "sections_balance",
    "sections_data",
    "sections_init",
}
RECIPE = {"recipe", "recipe_check", "recipe_classes", "recipe_defaults", "recipe_fit"} | {
    *("recipe_alone", "recipe_balance", "recipe_from_run", "recipe_mixture")
}
# What a run leaves on disk and how it is read back: the evaluation's only way into train.
STORAGE = {"train.checkpoint", "train.metrics", "train.run_folder"}

# A file's layer -> the modules and packages of ours it may import. The longest matching name
# counts, on both sides.
ALLOWED: dict[str, set[str]] = {
    "": set(),
    "__main__": {"cli"},
    "types": {"pixels"},
    "pixels": set(),
    "schema": set(),
    "mixture_types": set(),
    "balance_types": set(),
    "strict_yaml": set(),
    "sections": {"schema", "sections_data", "types"},
    "sections_balance": {"schema"},
    "sections_data": {"schema", "types"},
    "sections_init": {"schema"},
    "durable": set(),
    "balance_record": set(),
    "rows": set(),
    "registry": {"schema", "types"},
    "recipe": GROUND | RECIPE,
    "recipe_alone": GROUND | RECIPE,
    "recipe_balance": GROUND | RECIPE,
    "recipe_check": GROUND | RECIPE,
    "recipe_classes": GROUND | RECIPE,
    "recipe_defaults": GROUND | RECIPE,
    "recipe_fit": GROUND | RECIPE,
    "recipe_from_run": GROUND | RECIPE,
    "recipe_mixture": GROUND | RECIPE,
    "data": GROUND | {"data"},
    "model": GROUND | {"model", "rows"},
    "train": GROUND | {"model", "data", "train"},
    "evaluate": GROUND | RECIPE | {"model", "data", "evaluate"} | STORAGE,
    "train.loop": GROUND | RECIPE | {"model", "data", "evaluate", "train"},
    "plan": GROUND | RECIPE | {"model", "data", "train", "plan"},
    # Encoders are built of the fast layer and resize positions; apart from these, components see
    # nothing of the model.
    "components": GROUND | {"data", "components", "model.attention", "model.positions", "rows"},
    "launch": GROUND | RECIPE | {"model", "data", "evaluate", "train", "train.loop", "launch"},
    "cli": GROUND
    | RECIPE
    | {"model", "data", "evaluate", "plan", "train", "train.loop", "launch", "cli"},
}
# Names that a broader permission does not cover: they have to be granted themselves.
GRANTED_BY_NAME = {"train.loop"}

# The languages the package is written in; every other library has one door.
SPOKEN = {"torch", "torchvision", "torchmultimodal", "numpy", "PIL", "pydantic", "tqdm"} | {
    "safetensors"  # the format of every tensor on disk
}
# Libraries whose door may only stand in one place.
HOMES = {
    "submitit": "launch",
    "fairscale": "train.sharding",
    "tensorboard": "train",
    "fsspec": "data.shards.remote",
}
HOMES_OF_NAMES = {"load": "evaluate.inference", "Batch": "types", "Features": "types"}
NETWORK = {"requests", "urllib.request", "http.client", "huggingface_hub", "ftplib"}


def name_of(path: Path) -> str:
    """Dotted name inside the package, '' for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, *, typing_too: bool = False) -> Iterator[tuple[str, int]]:
    """Every (module, line) that the code imports when it runs, wherever the statement stands."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not typing_too:
            for statement in node.orelse:
                yield from imports(statement)
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the whole name"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno
        else:
            yield from imports(node, typing_too=typing_too)


def ours(module: str) -> str | None:
    """The module inside the package that an imported name means, None for another library's."""
    parts = module.split(".")
    if parts[0] != "flava_plugin":
        return None
    for end in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[1:end])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return ".".join(parts[1:end])
    return parts[1] if len(parts) > 1 else ""


def library(module: str) -> str:
    return module.split(".")[0]


def covers(permission: str, module: str) -> bool:
    return module == permission or (
        module.startswith(permission + ".") and module not in GRANTED_BY_NAME
    )


def layer_of(name: str) -> str:
    fitting = [layer for layer in ALLOWED if layer and covers(layer, name)]
    return max(fitting, key=len) if fitting else name


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def forbidden(name: str, tree: ast.AST) -> list[str]:
    """A line for each import that the module of that name may not make."""
    layer = layer_of(name)
    if layer not in ALLOWED:
        return [f"say in ALLOWED what {name} may import"]
    found = []
    for module, line in imports(tree):
        target = ours(module)
        if target is None:
            continue
        if target == "":  # one of the names the package itself offers
            target = HOMES_OF_NAMES.get(module.rpartition(".")[2], "registry")
        if not any(covers(permission, target) for permission in ALLOWED[layer]):
            may = ", ".join(sorted(ALLOWED[layer])) or "nothing of ours"
            found.append(f"{name}:{line}: {layer} may not import {target}; it may import {may}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: name_of(path) or "flava_plugin")
def test_imports_go_down(path: Path) -> None:
    assert not forbidden(name_of(path), parse(path))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data.loader", "from flava_plugin.model.learner import Learner"),
        ("data.loader", "from flava_plugin.train import optim"),
        ("model.backbone", "from flava_plugin import data"),
        ("train.step", "def f():\n    from flava_plugin.train.loop import train"),
        ("train.step", "import flava_plugin.recipe"),
        ("evaluate.report", "from flava_plugin.components.heads import Classifier"),
        ("evaluate.report", "from flava_plugin.train.optim import build"),
        ("types", "from flava_plugin.registry import heads"),
        ("newcomer", "import torch"),
    ],
)
def test_a_wrong_import_is_seen(name: str, source: str) -> None:
    assert forbidden(name, ast.parse(source))


def test_nobody_imports_components() -> None:
    for path in FILES:
        if layer_of(name_of(path)) != "components":
            text = path.read_text("utf-8")
            found = [m for m, _ in imports(ast.parse(text), typing_too=True)]
            assert not any(m.startswith("flava_plugin.components") for m in found), path
            assert "flava_plugin.components" not in text, f"{path} reaches components by name"


def test_one_door_for_each_dependency() -> None:
    doors: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        for module, _ in imports(parse(path)):
            name = library(module)
            if name not in SPOKEN | {"flava_plugin", "__future__"} and not is_standard(name):
                doors[name].add(name_of(path))
    several = {name: sorted(files) for name, files in doors.items() if len(files) > 1}
    assert not several, f"one file each should import these: {several}"
    for name, home in HOMES.items():
        assert all(covers(home, file) for file in doors.get(name, ())), f"{name} belongs in {home}"


def is_standard(name: str) -> bool:
    import sys

    return name in sys.stdlib_module_names


def test_nothing_below_launch_imports_submitit() -> None:
    for path in FILES:
        if layer_of(name_of(path)) != "launch":
            found = [m for m, _ in imports(parse(path), typing_too=True)]
            assert "submitit" not in map(library, found), path


def test_nothing_can_fetch() -> None:
    for path in FILES:
        for module, line in imports(parse(path)):
            fetching = [name for name in NETWORK if covers(name, module)]
            assert not fetching, f"{path}:{line}: {module} reaches the network"


@pytest.mark.parametrize(
    "name", ["", *sorted(GROUND | RECIPE), "cli.main", "cli.catalog"], ids=lambda n: n or "package"
)
def test_what_answers_at_once_imports_no_torch(name: str) -> None:
    relative = Path(*name.split(".")) if name else Path("__init__")
    tree = parse((PACKAGE / relative).with_suffix(".py"))
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            heavy = {library(m) for m, _ in imports(ast.Module([node], []))}
            assert not heavy & {"torch", "torchvision", "torchmultimodal", "numpy"}


def test_no_import_goes_round() -> None:
    """A cycle would make the order of imports matter."""
    edges: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        for node in parse(path).body:  # at import time; an import inside a function comes later
            for module, _ in imports(ast.Module([node], [])) if not is_code(node) else ():
                if ours(module):
                    edges[name_of(path)].add(str(ours(module)))
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"imports go round: {' -> '.join((*way, name))}"
        if name not in done:
            for target in sorted(edges[name] - {name}):
                visit(target, (*way, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def is_code(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
