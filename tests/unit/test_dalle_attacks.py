"""Pickles that are no encoder of DALL-E: each is refused by name, and none of them runs."""

from __future__ import annotations

import codecs
import functools
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchmultimodal.models.flava.model import DalleEncoder

from flava_plugin.cli.weights_dalle import convert
from flava_plugin.data.dalle_pickle import read_published
from flava_plugin.data.pickle_record import Admitted, read_pickle


class Conv2d(nn.Module):
    """Bears the name of an admitted class, in another module."""


def encoder() -> DalleEncoder:
    return DalleEncoder(n_hid=8, vocab_size=12).requires_grad_(False)


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.made_by = (function, arguments)

    def __reduce__(self) -> Any:
        return self.made_by


def attacks(mark: Path) -> dict[str, tuple[Any, str]]:
    """By name, an object whose unpickling would leave a mark or worse, and what is refused."""
    code = f"open({str(mark)!r}, 'w')"
    shell = Calls(os.system, f"touch {mark}")
    return {
        "os.system": (shell, r"(posix|nt)\.system"),
        "eval": (Calls(eval, code), "eval"),
        "exec": (Calls(exec, code), "exec"),
        "partial": (Calls(functools.partial(os.system), f"touch {mark}"), "functools.partial"),
        "partial as object": (functools.partial(eval, code), "functools.partial"),
        "torch.load": (Calls(torch.load, str(mark)), r"torch\.serialization\.load"),
        "getattr": (Calls(getattr, "", "join"), "getattr"),
        "codecs": (Calls(codecs.encode, "x", "rot13"), r"_codecs\.encode"),
        "in a dict": ({"blocks.input.w": shell}, "system"),
        "in an argument": (OrderedDict([("a", [shell])]), "system"),
        "an own class": (Conv2d(), r"Conv2d"),
    }


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "older"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", attacks(Path("mark")))
def test_an_attack_is_refused_by_name(
    name: str, protocol: int, archive: bool, tmp_path: Path
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "encoder.pkl"
    thing, told = attacks(mark)[name]
    torch.save(thing, path, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    with pytest.raises(ValueError, match=rf"encoder\.pkl: refused: .*{told}"):
        read_published(path)
    assert not mark.exists()


def test_an_attack_on_the_command_leaves_nothing(tmp_path: Path) -> None:
    torch.save(attacks(tmp_path / "mark")["os.system"][0], tmp_path / "e.pkl")
    with pytest.raises(ValueError, match="system"):
        convert(tmp_path / "e.pkl", tmp_path / "d.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["e.pkl"]


SYSTEM = b"cposix\nsystem\n"
ORDERED = b"ccollections\nOrderedDict\n"
CONV = b"cdall_e.utils\nConv2d\n"
ADMITTED = Admitted(
    classes=frozenset({"dall_e.utils.Conv2d"}), calls={"collections.OrderedDict": lambda _: {}}
)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (SYSTEM + b"X\x01\x00\x00\x00a\x85R.", "posix.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"(X\x01\x00\x00\x00aios\nsystem\n.", "os.system"),  # INST
        (b"(icollections\nOrderedDict\n.", "INST"),
        (b"(" + CONV + b"o.", "OBJ"),
        (b"\x82\x01.", "EXT1"),
        (CONV + b")}\x92.", "NEWOBJ_EX"),
        (b"Pos\n.", "PERSID"),
        (b"\x8b\xff\xff\xff\x7f1.", "LONG4"),
        (b"I" + b"9" * 99 + b"\n.", "INT"),
        (b"Vx\n.", "UNICODE"),
        (b"]Q.", "persistent id"),
        (CONV + b")R.", r"calls 'dall_e\.utils\.Conv2d'"),
        (CONV + b"K\x01\x85\x81.", r"makes an object of 'dall_e\.utils\.Conv2d'"),
        (ORDERED + b")\x81.", r"makes an object of 'collections\.OrderedDict'"),
        (CONV + b"}b.", r"gives a state to 'dall_e\.utils\.Conv2d'"),
        (CONV + b")\x81K\x01b.", "state of an object"),
        (CONV + b")\x81}}\x86b.", "state of an object"),  # the pair that sets slots
        (b"]}b.", "gives a state to list"),
        (CONV + b")\x81K\x01K\x02s.", "filled like a dict"),
        (b"})K\x01s.", "tuple as a key"),
        (b"}K\x01a.", "filled like a list"),
        (b"\x85.", "damaged"),
        (b"h\x05.", "damaged"),
        (b"t.", "damaged"),
        (b"", "instruction"),
        (b"X\xff\xff\x00\x00a", "expected"),
        (b"\xff.", "instruction"),
    ],
)
def test_the_machine_refuses(program: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=f"f: .*{told}"):
        read_pickle(io.BytesIO(program), ADMITTED, "f")


def test_the_machine_reads_what_pickle_writes() -> None:
    value = {"a": [1, -2, 2.5, None, True, "é" * 300], "b": ((), (1,), (1, 2), (1, 2, 3, 4)), 3: {}}
    value["again"] = value["a"]
    for protocol in (2, 3, 4, 5):
        stream = io.BytesIO(pickle.dumps(value, protocol) + b"rest")
        assert read_pickle(stream, Admitted(), "f") == value
        assert stream.read() == b"rest"


def test_setstate_of_an_admitted_class_does_not_run() -> None:
    program = CONV + b")\x81}X\x0c\x00\x00\x00__setstate__X\x01\x00\x00\x00xsb."
    made = read_pickle(io.BytesIO(program), ADMITTED, "f")
    assert made.kind == "dall_e.utils.Conv2d" and made.state == {"__setstate__": "x"}


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None], packed: bool = False) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else 0) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_lies_about_storages_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    torch.save(encoder().state_dict(), path)
    whole = path.read_bytes()
    root = next(n for n in zipfile.ZipFile(path).namelist() if n.endswith("data.pkl"))
    data = root.replace("data.pkl", "data/")

    def swap(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
        def change(entries: dict[str, bytes]) -> None:
            assert old in entries[root]
            entries[root] = entries[root].replace(old, new, 1)

        return change

    key = b"X\x01\x00\x00\x000"

    def steps(entries: dict[str, bytes]) -> None:
        """A step of 2**63, which nothing reads, for there is one of its dimension."""
        swap(shape, b"(K\x01K\x03K\x07K\x07t")(entries)
        swap(b"(K\x93K1", b"(\x8a\x09" + b"\x00" * 7 + b"\x80\x00K1")(entries)

    shape = b"(K\x08K\x03K\x07K\x07t"
    length = b"M" + struct.pack("<H", 8 * 3 * 49)
    cases: list[tuple[Callable[[dict[str, bytes]], None], str]] = [
        (lambda e: e.update({f"{data}0": e[f"{data}0"][:-4]}), "tells of"),
        (lambda e: e.pop(f"{data}0") and None, "no entry"),
        (lambda e: e.update({"other/data.pkl": e[root]}), "one"),
        (swap(key, b"X\x0a\x00\x00\x00../../etc0"), "a storage called '../../etc0'"),
        (swap(length, b"K\x07"), "beyond its storage"),
        (swap(shape, b"(" + b"K\x01" * 9 + b"t"), "no shape"),
        (steps, "no shape"),
        (swap(length, b"J\xff\xff\xff\x7f"), "bytes of tensors"),
        (swap(b"FloatStorage", b"EvilStorage1"), r"torch\.EvilStorage1"),
    ]
    for change, told in cases:
        path.write_bytes(whole)
        rewrite(path, change)
        with pytest.raises(ValueError, match=rf"s\.pt: .*{told}"):
            read_published(path)
    path.write_bytes(whole)
    rewrite(path, lambda e: None, packed=True)
    with pytest.raises(ValueError, match=r"s\.pt: refused: .* is packed"):
        read_published(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"s\.pt: a truncated archive"):
        read_published(path)
    names = bytearray(whole)  # a name said to be UTF-8, and it is none
    entry = whole.rindex(b"PK\x01\x02")
    names[entry + 8 : entry + 10] = (0x800).to_bytes(2, "little")
    names[entry + 46] = 0xFF
    path.write_bytes(names)
    with pytest.raises(ValueError, match=r"s\.pt: damaged \(.*decode"):
        read_published(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_published(path)


def test_lies_of_the_older_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    torch.save(encoder().state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="not the length it tells"):
        read_published(path)
    path.write_bytes(pickle.dumps([1, 2], 2) + whole)
    with pytest.raises(ValueError, match="no file of torch.save"):
        read_published(path)
    path.write_bytes(b"\x89PNG not a pickle")
    with pytest.raises(ValueError, match=r"is it a file of torch\.save"):
        read_published(path)
