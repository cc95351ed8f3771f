"""``flava weights dalle``: the published pickle becomes a codebook, and no other pickle does."""

from __future__ import annotations

import argparse
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torchmultimodal.models.flava.model import DalleEncoder

from flava_plugin import registry
from flava_plugin.cli import weights_dalle
from flava_plugin.components.dalle import dalle_dvae
from flava_plugin.data.dalle_pickle import read_published

# A test's file may be the first to name it; the package announces the same function.
registry.codebooks.register("dalle_dvae")(dalle_dvae)


class Encoder(nn.Module):
    """Bears the name of dall_e's class where a file is made, and holds what that one holds."""


class EncoderBlock(nn.Module):
    """As ``Encoder``."""


class Conv2d(nn.Module):
    """As ``Encoder``."""


@pytest.fixture
def dall_e(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package ``dall_e`` with classes of the published names."""
    names = {"dall_e": (), "dall_e.encoder": (Encoder, EncoderBlock), "dall_e.utils": (Conv2d,)}
    for name, classes in names.items():
        module = types.ModuleType(name)
        for kind in classes:
            monkeypatch.setattr(kind, "__module__", name)
            setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, name, module)
    yield


def published(upstream: nn.Module, n_layers: int = 8) -> nn.Module:
    """Dress torchmultimodal's module in dall_e's classes and attributes."""
    kind = {"DalleEncoder": Encoder, "DalleEncoderBlock": EncoderBlock, "DalleConv2d": Conv2d}.get(
        type(upstream).__name__
    )
    if kind is not None:
        dressed = kind()
        dressed.__dict__.update(upstream.__dict__)
        dressed.__dict__.update(device=torch.device("cpu"), requires_grad=False)
        if kind is EncoderBlock:
            dressed.__dict__.update(n_layers=n_layers, post_gain=1 / n_layers**2)
        upstream = dressed
    for name, child in upstream.named_children():
        setattr(upstream, name, published(child, n_layers))
    return upstream


def encoder() -> DalleEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DalleEncoder(n_hid=8, vocab_size=12).requires_grad_(False)


def convert(source: Path, target: Path, *options: str) -> int:
    parser = argparse.ArgumentParser()
    weights_dalle.add_command(parser.add_subparsers())
    arguments = parser.parse_args(["dalle", str(source), str(target), *options])
    return int(arguments.run(arguments))


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "older"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_the_published_file_becomes_a_codebook(
    archive: bool,
    protocol: int,
    dall_e: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, target = tmp_path / "encoder.pkl", tmp_path / "d.safetensors"
    module = published(encoder())
    torch.save(module, source, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    for name in ("dall_e", "dall_e.encoder", "dall_e.utils"):
        monkeypatch.delitem(sys.modules, name)
    assert convert(source, target) == 0
    told = capsys.readouterr().out
    assert "12 codes" in told and "100.0% of codes as torchmultimodal's" in told
    state = encoder().state_dict()
    written = load_file(target)
    assert state.keys() == written.keys()
    assert all(torch.equal(state[name], value) for name, value in written.items())
    assert registry.codebooks.build("dalle_dvae", path=target).num_codes == 12
    assert not list(tmp_path.glob(".tmp-*")) and "dall_e" not in sys.modules


def test_states_are_taken_too(tmp_path: Path) -> None:
    state = encoder().state_dict()
    spelled = {}
    for name, value in state.items():
        name = name.replace(".block_", ".group.block_").replace("res_path", "res_path.path")
        spelled[name[:-1] + {"w": "weight", "b": "bias"}[name[-1]]] = value
    flava = {f"image_codebook.encoder.{name}": value for name, value in state.items()}
    flava["model.position_ids"] = torch.arange(3)
    for number, given in enumerate((state, OrderedDict(spelled), flava)):
        torch.save(given, tmp_path / f"{number}.pt")
        save_file(given, tmp_path / f"{number}.safetensors")
        for suffix in ("pt", "safetensors"):
            target = tmp_path / f"{number}-{suffix}.safetensors"
            assert convert(tmp_path / f"{number}.{suffix}", target) == 0
            written = load_file(target)
            assert all(torch.equal(written[name], value) for name, value in state.items())


def test_a_target_is_replaced_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "s.pt", tmp_path / "d.safetensors"
    torch.save(encoder().state_dict(), source)
    target.write_text("mine")
    assert convert(source, target) == 2 and "--force" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert convert(source, target, "--force") == 0
    same, folder = tmp_path / "same.safetensors", tmp_path / "folder.safetensors"
    save_file(encoder().state_dict(), same)
    folder.mkdir()
    before = same.read_bytes()
    for given, place, told in (
        (source, tmp_path / "d.pt", "call it d.safetensors"),
        (source, tmp_path / "no" / "d.safetensors", "no such folder; make"),
        (source, folder, "remove it by hand"),
        (tmp_path / "none.pt", tmp_path / "e.safetensors", "no such file; name"),
        (tmp_path, tmp_path / "e.safetensors", "is a folder; name the file"),
        (same, same, "is the source"),
    ):
        assert convert(given, place, "--force") == 2 and told in capsys.readouterr().err
    assert same.read_bytes() == before


@pytest.mark.parametrize("error", [SafetensorError("disk full"), OSError("disk full")])
def test_a_full_disk_is_a_failure_and_leaves_nothing(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(_: object, path: Path, __: object) -> None:
        path.write_text("half")
        raise error

    torch.save(encoder().state_dict(), tmp_path / "s.pt")
    monkeypatch.setattr("safetensors.torch.save_file", full)
    assert convert(tmp_path / "s.pt", tmp_path / "d.safetensors") == 1
    assert "d.safetensors cannot be written: disk full" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["s.pt"]


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_another_type_of_numbers_is_refused_by_name(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = encoder().state_dict()
    state["blocks.output.conv.b"] = state["blocks.output.conv.b"].int()
    path = tmp_path / f"s.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    assert convert(path, tmp_path / "d.safetensors") == 2
    assert re.search(r"blocks\.output\.conv\.b is of (I32|torch\.int32)", capsys.readouterr().err)


def test_what_is_no_number_is_found_before_the_file_appears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = encoder().state_dict()
    state["blocks.output.conv.b"][3] = torch.nan
    torch.save(state, tmp_path / "s.pt")
    assert convert(tmp_path / "s.pt", tmp_path / "d.safetensors") == 1
    assert "not finite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["s.pt"]


def test_another_network_is_refused(dall_e: None, tmp_path: Path) -> None:
    path = tmp_path / "encoder.pkl"
    torch.save(published(encoder(), n_layers=4), path)
    with pytest.raises(ValueError, match=r"encoder\.pkl: post_gain is \[0\.0625\]"):
        read_published(path)
    state = encoder().state_dict()
    state["blocks.group_5.w"] = torch.ones(1)
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"unknown: blocks\.group_5\.w"):
        read_published(path)
    torch.save([1], path)
    with pytest.raises(ValueError, match="holds 'list'"):
        read_published(path)
    torch.save({"x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"no tensors are called '\*blocks\.input\.w'"):
        read_published(path)
