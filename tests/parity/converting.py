"""Runs ``flava weights convert`` on a tiny FLAVA."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tiny_flava import objective_sections, tiny_learner
from torch import Tensor

from flava_plugin.cli import weights as command
from flava_plugin.model.weights_file import Settings

ENDINGS = {"torchmultimodal": ".safetensors", "hugging_face": "", "flava_plugin": ".safetensors"}


def convert(source: Path, target: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_commands(parser.add_subparsers())
    arguments = parser.parse_args(["weights", "convert", str(source), str(target), *words])
    code: int = arguments.run(arguments)
    return code


def weights(*objectives: str) -> dict[str, Tensor]:
    """Away from zero everywhere, or tokens and biases would prove nothing."""
    generator = torch.Generator().manual_seed(5)
    state = tiny_learner(objective_sections(*objectives)).state_dict()
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in state.items()
    }


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def file_of_ours(
    folder: Path, *objectives: str, eps: float = 1e-5, padding: Any = "masked"
) -> Path:
    path = folder / "ours.safetensors"
    save_file(weights(*objectives), path, Settings((4, 4, 4), eps, padding).metadata())
    return path


def tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path / "model.safetensors" if path.is_dir() else path)


def all_forms(folder: Path) -> dict[str, Path]:
    """The same weights in all three forms."""
    ours = file_of_ours(folder)
    found = {"flava_plugin": ours}
    for name in ("torchmultimodal", "hugging_face"):
        found[name] = folder / f"{name}{ENDINGS[name]}"
        assert convert(ours, found[name], "--to", name) == 0
    return found
