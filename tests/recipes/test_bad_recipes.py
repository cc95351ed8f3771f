"""Bad recipes of every kind: each refused before work starts, all errors at once, no traceback."""

from __future__ import annotations

import copy
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from flava_plugin.cli.main import main
from flava_plugin.recipe import find_recipe

GOOD = find_recipe("pretrain/shapes").read_text("utf-8")
DROP = object()


class Bad(NamedTuple):
    """A change to a good recipe, and for each error what its line has to say."""

    name: str
    changes: dict[str, Any]
    errors: list[tuple[str, ...]]


def bad(name: str, changes: dict[str, Any], *errors: tuple[str, ...]) -> Bad:
    return Bad(name, changes, list(errors))


ITM = {"modality": "pair", "head": {"type": "pair_match"}, "loss": {"type": "matching_ce"}}

VALUES = [
    # Keys.
    bad("unknown key", {"stepz": 3}, ("stepz: ", "unknown key", "did you mean 'steps'", "3")),
    bad("unknown deep key", {"optim.lrr": 1}, ("optim.lrr: ", "did you mean 'lr'")),
    bad("far from any key", {"optim.zzzz": 1}, ("optim.zzzz: ", "known: lr")),
    bad("key in an objective", {"objectives.itm.wieght": 2}, ("objectives.itm.wieght", "'weight'")),
    bad("key in a source", {"data.sources.pairs.shar": 1}, ("data.sources.pairs.shar", "'share'")),
    bad("missing steps", {"steps": DROP}, ("steps: ", "needed")),
    bad("missing model", {"model": DROP}, ("model: ", "needed")),
    bad("missing head", {"objectives.itm.head": DROP}, ("objectives.itm.head: ", "needed")),
    bad("missing type", {"objectives.itm.head": {}}, ("objectives.itm.head.type: ", "needed")),
    # Names of components.
    bad("unknown encoder", {"model.image_encoder.type": "flava_imag"},
        ("model.image_encoder.type: ", "no encoder named 'flava_imag'", "'flava_image'")),
    bad("unknown head", {"objectives.itm.head.type": "pair_macth"},
        ("objectives.itm.head.type: ", "'pair_macth'", "did you mean 'pair_match'")),
    bad("unknown loss", {"objectives.itm.loss.type": "zzz"},
        ("objectives.itm.loss.type: ", "'zzz'", "known: ")),
    bad("unknown dataset", {"data.sources.pairs.dataset.type": "shape_pairs"},
        ("data.sources.pairs.dataset.type: ", "'shapes_pairs'")),
    bad("unknown tokenizer", {"data.tokenizer.type": "word_piece"},
        ("data.tokenizer.type: ", "'wordpiece'")),
    bad("unknown evaluator", {"evaluate.tasks.itm.type": "matchin"},
        ("evaluate.tasks.itm.type: ", "'matching'")),
    bad("dataset of a task", {"evaluate.tasks.itm.dataset.type": "shapes_pair"},
        ("evaluate.tasks.itm.dataset.type: ", "'shapes_pairs'")),
    # Options of components.
    bad("unknown option", {"model.image_encoder.layer": 3},
        ("model.image_encoder.layer: ", "unknown key", "'layers'", "3")),
    bad("option of a task", {"evaluate.tasks.itm.dataset.sizes": 3},
        ("evaluate.tasks.itm.dataset.sizes: ", "'size'")),
    bad("option of a wrong type", {"model.text_encoder.width": "wide"},
        ("model.text_encoder.width: ", "integer", "'wide'")),
    bad("fraction of a layer", {"model.fused_encoder.layers": 1.5},
        ("model.fused_encoder.layers: ", "1.5")),
    bad("unknown choice", {"objectives.mlm.head.reads": "image"},
        ("objectives.mlm.head.reads: ", "'image'", "'text'")),
    bad("name of a component alone", {"objectives.itm.head": "pair_match"},
        ("objectives.itm.head: ", "'pair_match'")),
    # Types.
    bad("text for a number", {"steps": "many"}, ("steps: ", "integer", "'many'")),
    bad("truth for a number", {"steps": True}, ("steps: ", "truth value", "True")),
    bad("truth for a fraction", {"optim.lr": True}, ("optim.lr: ", "truth value", "True")),
    bad("truth in a list", {"optim.betas": [0.9, True]}, ("optim.betas.1: ", "truth value")),
    bad("list for a number", {"seed": [1]}, ("seed: ", "[1]")),
    bad("number for a section", {"optim": 3}, ("optim: ", "3")),
    bad("list of sources", {"data.sources": []}, ("data.sources: ", "[]")),
    bad("number for a name", {"run_dir": 3}, ("run_dir: ", "string", "3")),
    bad("date for a number", {"steps": date(2024, 1, 1)}, ("steps: ", "2024")),
    bad("null for a number", {"steps": None}, ("steps: ", "None")),
    bad("three betas", {"optim.betas": [0.9, 0.9, 0.9]}, ("optim.betas",)),
    # Ranges.
    bad("no steps", {"steps": 0}, ("steps: ", "greater than 0", "0")),
    bad("negative", {"data.global_batch": -8}, ("data.global_batch: ", "greater than 0", "-8")),
    bad("not a number", {"optim.lr": float("nan")}, ("optim.lr: ", "nan")),
    bad("infinite", {"optim.clip_norm": float("inf")}, ("optim.clip_norm: ", "inf")),
    bad("share above one", {"data.masking.words": 1.5}, ("data.masking.words: ", "1.5")),
    bad("beta above one", {"optim.betas": [0.9, 1.2]}, ("optim.betas.1: ", "1.2")),
    bad("source without a share", {"data.sources.pairs.share": 0}, ("data.sources.pairs.share: ",)),
    bad("unknown modality", {"objectives.itm.modality": "video"},
        ("objectives.itm.modality: ", "'image'", "'video'")),
    bad("unknown strategy", {"sharding.strategy": "dpp"},
        ("sharding.strategy: ", "'ddp'", "'dpp'")),
    bad("unknown precision", {"precision": "fp8"}, ("precision: ", "'bf16'", "'fp8'")),
    bad("negative seed", {"seed": -1}, ("seed: ", "-1")),
    # Sense.
    bad("impossible batch", {"data.global_batch": 48, "data.per_gpu_batch": 7},
        ("data.global_batch: ", "48 is not a multiple of data.per_gpu_batch 7")),
    bad("objective without a source", {"data.sources.images": DROP},
        ("objectives.mim: ", "no source has modality 'image'")),
    bad("source without an objective", {"objectives.mlm": DROP},
        ("data.sources.sentences: ", "no objective has modality 'text'")),
    bad("no objectives", {"objectives": {}}, ("objectives: ", "{}")),
    bad("no sources", {"data.sources": {}}, ("data.sources: ", "{}")),
    bad("more hidden patches than patches", {"data.masking.patch_count": 100},
        ("data.masking.patch_count: ", "100", "36")),
    bad("patches that do not fit", {"model.image_encoder.patch_size": 7},
        ("data.image.size: ", "48", "7")),
    bad("two image sizes", {"data.image.size": 64}, ("data.image.size: ", "64", "48")),
    bad("more tokens than positions", {"data.text.pair_length": 500},
        ("data.text.pair_length: ", "500", "64")),
    bad("crop upside down", {"data.image.crop": [1.0, 0.5]}, ("data.image.crop: ", "1.0, 0.5")),
    bad("patch objective without a codebook", {"model.codebook": DROP},
        ("objectives.mim", "codebook"), ("objectives.mmm_image", "codebook")),
    bad("head that reads what its batch lacks",
        {"objectives.mlm.head": {"type": "word_tokens", "reads": "fused"}},
        ("objectives.mlm: ", "reads fused", "'text'")),
    bad("objective with the name of a figure", {"objectives.lr": ITM},
        ("objectives.lr: ", "rename")),
    bad("pair head on pictures", {"objectives.extra": ITM | {"modality": "image"}},
        ("objectives.extra: ", "reads fused", "'image'")),
    bad("unknown metric", {"evaluate.metric": "retrival.r1"},
        ("evaluate.metric: ", "retrival.r1", "retrieval")),
    # Files.
    bad("missing file",
        {"data.sources.pairs.dataset": {"type": "jsonl_pairs", "path": "none/such.jsonl"}},
        ("data.sources.pairs.dataset.path: ", "none/such.jsonl", "does not exist")),
    bad("unset variable",
        {"data.sources.pairs.dataset": {"type": "jsonl_pairs", "path": "$NO_SUCH_VAR/x.jsonl"}},
        ("data.sources.pairs.dataset.path: ", "$NO_SUCH_VAR", "not set")),
    bad("missing vocabulary", {"data.tokenizer.vocab": "none.txt"},
        ("data.tokenizer.vocab: ", "none.txt", "does not exist")),
    bad("missing plugin", {"plugins": ["no_such_plugin_here"]},
        ("plugins: ", "no_such_plugin_here", "ModuleNotFoundError")),
    bad("missing first run", {"init": {"run": "runs/none_such"}}, ("init.run: ", "runs/none_such")),
    # Several.
    bad("six at once",
        {"stepz": 3, "precision": "fp8", "optim.lr": -1, "data.per_gpu_batch": 7,
         "model.image_encoder.layer": 3, "objectives.itm.head.type": "pair_macth"},
        ("stepz",), ("precision",), ("optim.lr",), ("data.global_batch",),
        ("model.image_encoder.layer",), ("objectives.itm.head.type",)),
]  # fmt: skip


def changed(changes: dict[str, Any]) -> str:
    data = copy.deepcopy(yaml.safe_load(GOOD))
    for path, value in changes.items():
        *way, last = path.split(".")
        place = data
        for part in way:
            place = place.setdefault(part, {})
        if value is DROP:
            del place[last]
        else:
            place[last] = value
    return yaml.safe_dump(data, sort_keys=False)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

FILES: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("python object", b"steps: !!python/object/apply:os.system ['true']\n", ("line 1", "tags")),
    ("python name", b"steps: !!python/name:os.system\n", ("line 1", "tags")),
    ("unknown tag", b"steps: 1\nseed: !secret 1\n", ("line 2", "tags")),
    ("set", b"plugins: !!set {a, b}\n", ("line 1", "tags")),
    ("binary value", b"run_dir: !!binary aGVsbG8=\n", ("line 1", "tags")),
    ("duplicate key", GOOD.encode() + b"\nsteps: 1\n", ("'steps' stands twice",)),
    ("duplicate deep key", b"optim: {lr: 1, lr: 2}\n", ("line 1", "'lr' stands twice")),
    ("alias bomb", BOMB.encode(), ("line 1", "anchors")),
    ("merge key", b"x: &x {a: 1}\ny:\n  <<: *x\n", ("anchors",)),
    ("alias of itself", b"&a [*a]\n", ("anchors",)),
    ("key on", b"on: 1\n", ("'on' is read as True", "quotes")),
    ("key no", b"optim:\n  no: 1\n", ("line 2", "'no' is read as False")),
    ("number for a key", b"1: 1\n", ("'1' is read as 1",)),
    ("null for a key", b"~: 1\n", ("read as None",)),
    ("list for a key", b"[a]: 1\n", ("line 1",)),
    ("date for a key", b"2024-01-01: 1\n", ("read as",)),
    ("impossible date", b"steps: 2024-99-99\n", ("cannot be read",)),
    ("tabs", b"optim:\n\tlr: 1\n", ("line 2",)),
    ("not closed", b"optim: {lr: 1\n", ("line",)),
    ("two documents", b"a: 1\n---\nb: 2\n", ("line",)),
    ("binary junk", bytes(range(256)) * 4, ("UTF-8",)),
    ("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ("UTF-8",)),
    ("null bytes", b"steps: 1\0\n", ("special characters",)),
    ("UTF-16", "steps: 1\n".encode("utf-16"), ("UTF-8",)),
    ("Latin-1", "run_dir: caf\u00e9\n".encode("latin-1"), ("UTF-8",)),
    ("empty", b"", ("is empty",)),
    ("comments only", b"# nothing\n", ("is empty",)),
    ("list at the top", b"- steps: 1\n", ("holds a list",)),
    ("text at the top", b"steps\n", ("holds a str",)),
    ("deep nesting", b"[" * 20_000, ("nested too deeply",)),
    ("deep blocks", b"".join(b" " * i + b"a:\n" for i in range(1000)), ("nested too deeply",)),
    ("too large", b"#" * 2_000_000, ("no recipe is larger",)),
]  # fmt: skip

OVERRIDES: list[tuple[str, str, tuple[str, ...]]] = [
    ("no value", "steps", ("override 'steps'", "key=value")),
    ("no key", "=1", ("override '=1'", "key=value")),
    ("unknown path", "optim.lrr=1", ("optim.lrr: unknown key", "'lr'")),
    ("unknown section", "optimm.lr=1", ("optimm: unknown key", "'optim'")),
    ("under a number", "steps.more=1", ("'steps' has no keys",)),
    ("broken value", "steps=[1", ("override 'steps=[1'",)),
    ("a tag", "steps=!!python/name:os.system", ("override", "tags")),
    ("wrong type", "steps=many", ("steps: ", "'many'")),
    ("nothing to remove", "objectives.itn=null", ("no 'objectives.itn' to remove",)),
]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """Lines on stderr of a command that must be refused."""
    code = main(["train", *argv])
    said = capsys.readouterr()
    assert code == 2, said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert len(said.err) < 20_000
    return said.err.splitlines()


def expect(lines: list[str], *wanted: tuple[str, ...]) -> None:
    for pieces in wanted:
        fitting = [line for line in lines if all(piece in line for piece in pieces)]
        assert fitting, f"no line says {pieces}:\n" + "\n".join(lines)


@pytest.mark.parametrize("case", VALUES, ids=lambda case: case.name)
def test_bad_values(case: Bad, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(changed(case.changes), "utf-8")
    run_dir = tmp_path / "run"
    lines = refused(
        capsys, str(recipe), *([] if "run_dir" in case.changes else [f"run_dir={run_dir}"])
    )
    expect(lines, *case.errors)
    assert all(line.startswith(f"{recipe}: ") for line in lines)
    assert len(lines) == len(set(lines)), "an error is told once"
    assert not run_dir.exists(), "nothing is begun"


@pytest.mark.parametrize(("name", "content", "says"), FILES, ids=[name for name, _, _ in FILES])
def test_bad_files(
    name: str,
    content: bytes,
    says: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_bytes(content)
    expect(refused(capsys, str(recipe)), (str(recipe), *says))


@pytest.mark.parametrize(
    ("name", "change", "says"), OVERRIDES, ids=[name for name, _, _ in OVERRIDES]
)
def test_bad_overrides(
    name: str,
    change: str,
    says: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expect(refused(capsys, "pretrain/shapes", f"run_dir={tmp_path / 'run'}", change), says)


@pytest.mark.parametrize("name", ["", "none/such", "pretrain/shape", ".", "/", "a\0b"])
def test_bad_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, name)


def test_the_good_recipe_is_good(tmp_path: Path) -> None:
    from flava_plugin.recipe import load_recipe

    (tmp_path / "good.yaml").write_text(changed({}), "utf-8")
    assert load_recipe(str(tmp_path / "good.yaml")) == load_recipe("pretrain/shapes")


@pytest.mark.parametrize("case", [VALUES[0], VALUES[-1]], ids=lambda case: case.name)
def test_the_command_itself_refuses(case: Bad, tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(changed(case.changes), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "flava_plugin", "train", str(recipe)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    expect(done.stderr.splitlines(), *case.errors)
    assert list(tmp_path.iterdir()) == [recipe]
