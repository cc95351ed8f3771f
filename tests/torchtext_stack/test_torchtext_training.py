"""A run on text alone, read and tokenised by torchtext, stops and goes on bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from flava_plugin.data.wordpiece import train_vocab
from flava_plugin.recipe import load_recipe
from flava_plugin.train import checkpoint
from flava_plugin.train.loop import train
from flava_plugin.train.requeue import Stopped, StopRequest
from tests.recipes.tiny_run import TINY, lines
from tests.torchtext_stack.tiny_archives import CONTENT, place

pytestmark = pytest.mark.torchtext


def recipe_of(folder: Path, vocab: Path, root: Path, tokenizer: str = "torchtext_bert") -> Path:
    """The tiny recipe without pictures."""
    data: dict[str, Any] = yaml.safe_load(TINY)
    data |= {"steps": 10, "run_dir": str(folder / "run")}
    data["objectives"] = {"mlm": data["objectives"]["mlm"]}
    data["data"]["tokenizer"] = {"type": tokenizer, "vocab": str(vocab)}
    data["data"]["text"]["whole_words"] = True
    dataset = {"type": "torchtext_sentences", "path": str(root), "task": "rte"}
    data["data"]["sources"] = {"rte": {"modality": "text", "share": 1, "dataset": dataset}}
    folder.mkdir()
    path = folder / "text.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    folder = checkpoint.find(run_dir).folder
    return {
        f"{file}/{name}": tensor
        for file in ("model", "optim")
        for name, tensor in load_file(folder / f"{file}.safetensors").items()
    }


def assert_same(one: Path, other: Path) -> None:
    assert lines(one / "run") == lines(other / "run") and len(lines(one / "run")) == 10
    first, second = weights(one / "run"), weights(other / "run")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask this process to end while it does a step."""
    steps, flags = iter(range(1, 1000)), StopRequest.flags

    def send(request: StopRequest) -> torch.Tensor:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return flags(request)

    monkeypatch.setattr(StopRequest, "flags", send)


def test_a_text_only_run_stops_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place("rte", tmp_path, monkeypatch, rows=40)
    vocab = tmp_path / "vocab.txt"
    texts = [line for member in CONTENT["rte"][1].values() for line in member] * 2
    vocab.write_text("\n".join(train_vocab(texts, 120)) + "\n")

    train(load_recipe(str(recipe_of(tmp_path / "whole", vocab, tmp_path))))
    parts = recipe_of(tmp_path / "parts", vocab, tmp_path)
    with monkeypatch.context() as patched:
        stop_after(5, patched)
        with pytest.raises(Stopped, match="after step 5, saved"):
            train(load_recipe(str(parts)))
    assert checkpoint.find(tmp_path / "parts/run").step == 5
    train(load_recipe(str(parts), ["data.workers=1"]))
    assert_same(tmp_path / "whole", tmp_path / "parts")

    # and our own tokenizer makes it the same run
    train(load_recipe(str(recipe_of(tmp_path / "ours", vocab, tmp_path, "wordpiece"))))
    assert_same(tmp_path / "whole", tmp_path / "ours")
