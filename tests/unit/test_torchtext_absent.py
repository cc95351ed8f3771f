"""What a recipe is told where torchtext does not load; on every stack."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from flava_plugin.cli.main import main
from flava_plugin.components import torchtext_library
from flava_plugin.data.wordpiece import SPECIAL

CACHED = (torchtext_library.why_it_does_not_load, torchtext_library.why_there_are_no_datasets)


def imported() -> dict[str, ModuleType]:
    packages = ("torchtext", "torchdata")
    return {name: m for name, m in sys.modules.items() if name.partition(".")[0] in packages}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was found before does not count, nor what is found here afterwards."""
    before = imported()
    for answer in CACHED:
        answer.cache_clear()
    yield
    for answer in CACHED:
        answer.cache_clear()
    for name in imported():
        del sys.modules[name]
    sys.modules.update(before)


def fake(package: str, source: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package in the place of the one installed, or none."""
    for name in [n for n in imported() if n.partition(".")[0] == package]:
        del sys.modules[name]
    if source is None:
        sys.modules[package] = None  # type: ignore[assignment]
        return
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))


BROKEN = "raise OSError('Could not load this library: libtorchtext.so\\nand a page more')"
WORKING = "disable_torchtext_deprecation_warning = lambda: None\n"


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, "a"]))
    return path


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, "torchtext is not installed, and works with torch 2.3 only; this is torch "),
        (BROKEN, f"does not load with torch {torch.__version__} (OSError: Could not load this lib"),
        ("import flava_no_such_module", "(ModuleNotFoundError: No module named 'flava_no_such_"),
    ],
)
def test_a_recipe_is_refused_in_one_line(
    tmp_path: Path,
    vocab: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str | None,
    told: str,
) -> None:
    fake("torchtext", source, tmp_path / "packages", monkeypatch)
    tokenizer = f"data.tokenizer={{type: torchtext_bert, vocab: {vocab}}}"
    run_dir = f"run_dir={tmp_path / 'run'}"
    assert main(["train", "pretrain/shapes", tokenizer, run_dir]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert "data.tokenizer.vocab: " in lines[0] and told in lines[0]
    assert "pip install 'flava-plugin[torchtext]'" in lines[0]
    assert "type: wordpiece, which gives the same ids" in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("torchdata", "told"),
    [(None, "need torchdata 0.7.1 to 0.9"), ("", "need torchdata 0.7.1 to 0.9, the last with")],
    ids=["missing", "without datapipes"],
)
def test_datasets_need_datapipes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    torchdata: str | None,
    told: str,
) -> None:
    fake("torchtext", WORKING, tmp_path / "packages", monkeypatch)
    for module in ("transforms", "datasets"):
        (tmp_path / "packages" / "torchtext" / f"{module}.py").write_text("")
    fake("torchdata", torchdata, tmp_path / "packages", monkeypatch)
    assert torchtext_library.why_it_does_not_load() is None
    command = ["data", "train-vocab", "--size", "90", "--out", str(tmp_path / "v.txt")]
    options = ["torchtext_sentences", f"path={tmp_path}", "task=rte"]
    assert main([*command, "--dataset", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", ["torchtext_bert", "torchtext_sentences"])
def test_it_is_listed_and_explained_without_torchtext(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    fake("torchtext", BROKEN, tmp_path, monkeypatch)
    assert main(["ls"]) == 0 and name in capsys.readouterr().out
    assert main(["show", name]) == 0 and "needs torch 2.3" in capsys.readouterr().out
