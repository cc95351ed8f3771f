"""What a file may be called, how long it may be and what may stand in it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 300
VAGUE = {"utils", "util", "common", "base", "helpers", "helper", "misc", "tools", "stuff"}
BINARY = {".png", ".jpg", ".jpeg", ".gif", ".safetensors", ".npy", ".npz", ".ico", ".woff2"}

# Pieces are put together here, so that this file does not find itself.
FORBIDDEN = {
    "a package index": "|".join(
        ["pypi" + r"\.org", "python" + "hosted", "deb" + r"ian\.org/debian"]
    ),
    "an option that says where packages come from": "|".join(
        ["--(extra-)?index" + "-url", "find" + "-links", "trusted" + "-host"]
    ),
    "a path of one machine": r"(?<![\w.~}*-])/(work|home|root|Users)/\w",
    "a merge left half done": "^" + "<" * 7 + " |^" + ">" * 7 + " ",
    "a debugger": r"\b(breakpoint|pdb\.set_trace)\(\)",
}
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b(?!\(#\d+\))")


def tracked() -> list[Path]:
    """Files that git has or would take; all but hidden and built ones where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        folders = ("flava_plugin", "tests", "recipes", "slurm")
        found = [*ROOT.glob("*"), *(p for folder in folders for p in (ROOT / folder).rglob("*"))]
    return sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts)


FILES = tracked()
TEXTS = [path for path in FILES if path.suffix not in BINARY]
PYTHON = [path for path in FILES if path.suffix == ".py"]
PACKAGE = [path for path in PYTHON if path.is_relative_to(ROOT / "flava_plugin")]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_files() -> None:
    assert len(PACKAGE) > 20
    assert {"LICENSE", "Makefile", "README.md", "pyproject.toml"} <= set(map(shown, FILES))


@pytest.mark.parametrize("path", PYTHON, ids=shown)
def test_a_file_is_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MOST_LINES, f"{shown(path)}: {lines} lines; split it at an idea"


def test_names_say_what_is_inside() -> None:
    for path in FILES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        vague = VAGUE & {part.removeprefix("test_").lower() for part in parts}
        assert not vague, f"{shown(path)}: '{vague.pop()}' says nothing about what is inside"


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_no_forbidden_words(kind: str) -> None:
    pattern = re.compile(FORBIDDEN[kind], re.IGNORECASE | re.MULTILINE)
    for path in TEXTS:
        found = pattern.search(path.read_text("utf-8"))
        assert not found, f"{shown(path)}: {kind}: {found and found.group()!r}"


def test_unfinished_work_has_an_issue() -> None:
    for path in TEXTS:
        found = UNFINISHED.search(path.read_text("utf-8"))
        assert not found, f"{shown(path)}: {found and found.group()} without an issue, as in (#12)"


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[ast.FunctionDef, str]]:
    """Every function with the names its class inherits from."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node, inside
        names = " ".join(map(ast.unparse, node.bases)) if isinstance(node, ast.ClassDef) else inside
        yield from functions(node, names)


def is_stub(function: ast.FunctionDef) -> bool:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return all(
        isinstance(line, ast.Pass)
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in body
    )


@pytest.mark.parametrize("path", PACKAGE, ids=shown)
def test_everything_is_written(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for function, heirs in functions(tree):
        overload = any("overload" in ast.unparse(d) for d in function.decorator_list)
        if "Protocol" not in heirs and not overload:
            assert not is_stub(function), (
                f"{shown(path)}:{function.lineno}: {function.name} is empty"
            )
    raised = [
        n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "NotImplementedError"
    ]
    assert not raised, f"{shown(path)}:{raised and raised[0].lineno}: not implemented"


@pytest.mark.parametrize("path", PACKAGE, ids=shown)
def test_nothing_is_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}, shown(path)
        if isinstance(node, ast.Call):
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            where = f"{shown(path)}:{node.lineno}"
            if ast.unparse(node.func) == "torch.load":
                assert options.get("weights_only") == "True", where
            assert options.get("allow_pickle", "False") == "False", where


GLOBAL_DICE = re.compile(
    r"^(random|np\.random|numpy\.random)\.(?!default_rng|Generator|Philox|Seed|PCG)"
)
TORCH_DICE = {"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal"}


@pytest.mark.parametrize("path", PACKAGE, ids=shown)
def test_no_global_dice(path: Path) -> None:
    """Randomness is a function of (seed, step, index): a generator is passed, or none is used."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called, where = ast.unparse(node.func), f"{shown(path)}:{node.lineno}"
            assert not GLOBAL_DICE.match(called), f"{where}: {called} uses the global generator"
            if called.startswith("torch.") and called.removeprefix("torch.") in TORCH_DICE:
                options = {keyword.arg for keyword in node.keywords}
                assert "generator" in options, f"{where}: {called} without a generator"


@pytest.mark.parametrize("path", PACKAGE, ids=shown)
def test_classes_are_composed(path: Path) -> None:
    """Only modules, sections of a recipe, protocols, tuples and errors are inherited from."""
    # The ground that outsiders' types stand on, and the parser whose behaviour is tightened.
    fine = re.compile(
        r"(^|\.)(Module|ModuleDict|Dataset|IterableDataset|Sampler|Function|BaseModel|Section|"
        r"Component|Protocol|NamedTuple|TypedDict|Enum|SafeLoader|\w*Error|Exception|Formatter|"
        r"Action|Handler|HTMLParser|TorchDispatchMode|FullyShardedDataParallel)(\[.*\])?$"
    )
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            for parent in map(ast.unparse, node.bases):
                known = fine.search(parent) or parent.startswith("Generic")
                assert known, f"{shown(path)}:{node.lineno}: {node.name} inherits from {parent}"


def test_no_two_test_files_share_a_name() -> None:
    """Pytest imports them by their bare names."""
    seen: dict[str, Path] = {}
    for path in PYTHON:
        if path.is_relative_to(ROOT / "tests") and path.name not in ("__init__.py", "conftest.py"):
            first = seen.setdefault(path.name, path)
            assert first == path, f"{shown(path)} and {shown(first)}"
