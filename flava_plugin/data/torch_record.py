"""Tensors of a file of ``torch.save``, both formats, without unpickling it (``pickle_record``).

Since torch 1.6 such a file is a zip archive: ``NAME/data.pkl`` beside one ``NAME/data/KEY`` for
each storage. The older format is a row of pickles, the third of which is the object, and then the
storages, each after its length.
"""

from __future__ import annotations

import io
import mmap
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from flava_plugin.data.pickle_record import Admitted, Named, read_pickle

DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.BoolStorage": torch.bool,
}
MAGIC = 0x1950A86A20F9469CFC6C
"""First value of the older format (torch.serialization.MAGIC_NUMBER)."""
PROTOCOL = 1001
"""Second value of the older format (torch.serialization.PROTOCOL_VERSION)."""
LONGEST_PICKLE = 64 * 2**20
ARCHIVE = b"PK"
"""First bytes of a zip archive."""
MOST_DIMENSIONS = 8
"""Of a tensor (a kernel has 4); torch takes up to 64."""
MOST_COUNT = 2**63
"""Above every size, stride and offset that torch can hold."""
DAMAGE = (zipfile.BadZipFile, OSError, RuntimeError, EOFError, OverflowError, struct.error)
"""What damage makes Python's zipfile and torch raise, besides ``ValueError``."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers that the file holds.

    Attributes:
        dtype: Their type.
        key: Their name in the file.
        numel: How many.
    """

    dtype: torch.dtype
    key: str
    numel: int


@dataclass(frozen=True)
class Stored:
    """A tensor that the file holds, not read yet.

    Attributes:
        storage: Where its numbers are.
        offset: Its first number there.
        size: Its shape.
        stride: Numbers from one entry to the next, by dimension.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


Choose = Callable[[Any], Mapping[str, Stored]]


def read_tensors(path: Path, classes: frozenset[str], choose: Choose) -> dict[str, Tensor]:
    """Read some tensors of a file.

    Args:
        path: A file of ``torch.save``.
        classes: Classes whose objects it may hold, beside tensors and containers.
        choose: Takes the object, its tensors as ``Stored``, and says which to read.

    Returns:
        Contiguous tensors by the names that ``choose`` gave.

    Raises:
        ValueError: The file is none of ``torch.save``, is damaged, names a class or function beyond
            those, or lies about its sizes.
    """
    if sys.byteorder != "little":
        raise ValueError(f"{path}: such files are read on little-endian machines only")
    with path.open("rb") as file:
        size = path.stat().st_size
        if not size:
            raise ValueError(f"{path}: is empty")
        try:
            if zipfile.is_zipfile(file):
                return _from_zip(file, size, path, classes, choose)
            file.seek(0)
            if file.read(len(ARCHIVE)) == ARCHIVE:
                raise ValueError(f"{path}: a truncated archive; fetch the file again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _from_row(view, size, path, classes, choose)
        except ValueError as error:  # a name that is no text, for one, is told without its file
            if str(error).startswith(f"{path}: "):
                raise
            raise ValueError(f"{path}: damaged ({error})") from error
        except DAMAGE as error:
            raise ValueError(f"{path}: damaged ({error})") from error


def _from_zip(
    file: BinaryIO, size: int, path: Path, classes: frozenset[str], choose: Choose
) -> dict[str, Tensor]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [n for n in entries if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(pickles) != 1 or len(entries) != len(archive.infolist()):
            raise ValueError(f"{path}: no archive of torch.save: one */data.pkl is due")
        folder = pickles[0].removesuffix("data.pkl")

        def entry(name: str, limit: int) -> bytes:
            found = entries.get(folder + name)
            if found is None:
                raise ValueError(f"{path}: the archive has no entry '{folder}{name}'")
            stored = found.compress_type == zipfile.ZIP_STORED
            if not stored or found.file_size != found.compress_size or found.file_size > limit:
                raise ValueError(f"{path}: refused: entry '{found.filename}' is packed or long")
            return archive.read(found)

        if f"{folder}byteorder" in entries and entry("byteorder", 16) != b"little":
            raise ValueError(f"{path}: its numbers are not little-endian")
        pickle = io.BytesIO(entry("data.pkl", LONGEST_PICKLE))
        root = read_pickle(pickle, _admitted(classes), str(path))

        def numbers(storage: Storage) -> bytes:
            if not re.fullmatch(r"[0-9]{1,9}", storage.key):
                raise ValueError(f"{path}: refused: a storage called {storage.key[:80]!r}")
            return entry(f"data/{storage.key}", size)

        return _materialise(choose(root), numbers, size, path)


def _from_row(
    view: mmap.mmap, size: int, path: Path, classes: frozenset[str], choose: Choose
) -> dict[str, Tensor]:
    stream = cast(BinaryIO, view)
    plain = Admitted()
    try:
        head = [read_pickle(stream, plain, str(path)) for _ in range(3)]
    except ValueError as error:
        raise ValueError(f"{error}; is it a file of torch.save?") from error
    if head[:2] != [MAGIC, PROTOCOL] or type(head[2]) is not dict:
        raise ValueError(f"{path}: no file of torch.save")
    if head[2].get("little_endian") is not True:
        raise ValueError(f"{path}: its numbers are not little-endian")
    storages: dict[str, Storage] = {}
    root = read_pickle(stream, _admitted(classes, storages), str(path))
    keys = read_pickle(stream, plain, str(path))
    if type(keys) is not list or not all(type(k) is str and k in storages for k in keys):
        raise ValueError(f"{path}: damaged: its list of storages names others than its tensors")
    starts: dict[str, int] = {}
    position = view.tell()
    for key in keys:
        storage = storages[key]
        told = int.from_bytes(view[position : position + 8], "little")
        starts[key] = position + 8
        position = starts[key] + storage.numel * storage.dtype.itemsize
        if told != storage.numel or position > size:
            raise ValueError(f"{path}: refused: storage '{key[:80]}' has not the length it tells")

    def numbers(storage: Storage) -> bytes:
        if storage.key not in starts:
            raise ValueError(f"{path}: damaged: storage '{storage.key[:80]}' is missing")
        start = starts[storage.key]
        return view[start : start + storage.numel * storage.dtype.itemsize]

    return _materialise(choose(root), numbers, size, path)


def _materialise(
    chosen: Mapping[str, Stored], numbers: Callable[[Storage], bytes], size: int, path: Path
) -> dict[str, Tensor]:
    total = sum(t.storage.numel * t.storage.dtype.itemsize for t in chosen.values())
    if total > size:
        raise ValueError(f"{path}: refused: it tells of {total} bytes of tensors and has {size}")
    tensors = {}
    for name, stored in chosen.items():
        raw = numbers(stored.storage)
        wanted = stored.storage.numel * stored.storage.dtype.itemsize
        if len(raw) != wanted:
            raise ValueError(f"{path}: refused: {name} tells of {wanted} bytes, has {len(raw)}")
        flat = torch.frombuffer(bytearray(raw), dtype=stored.storage.dtype)
        shaped = flat.as_strided(stored.size, stored.stride, stored.offset)
        tensors[name] = shaped.contiguous()
    return tensors


def _admitted(classes: frozenset[str], storages: dict[str, Storage] | None = None) -> Admitted:
    known: dict[str, Storage] = {} if storages is None else storages

    def persistent(told: Any) -> Any:
        if type(told) is not tuple or not told:
            raise ValueError("damaged: a persistent id that is no tuple")
        if told[0] == "module" and len(told) == 4 and isinstance(told[1], Named):
            return told[1]  # the older format tells a class once with its source, of no use here
        if told[0] != "storage" or len(told) not in (5, 6) or any(told[5:]):
            raise ValueError("refused: a persistent id that is neither a storage nor a class")
        kind, key, _, numel = told[1:5]
        dtype = DTYPES.get(kind.name) if isinstance(kind, Named) else None
        if dtype is None or type(key) is not str or type(numel) is not int or numel < 1:
            raise ValueError("refused: a storage without a kind, a name or a length")
        storage = known.setdefault(key, Storage(dtype, key, numel))
        if storage != replace(storage, dtype=dtype, numel=numel):
            raise ValueError(f"refused: storage '{key[:80]}' is told of in two ways")
        return storage

    return Admitted(classes, CALLS, frozenset(DTYPES), persistent)


def _empty_mapping(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise ValueError("refused: an OrderedDict made of something")
    return {}


def _empty_set(arguments: tuple[Any, ...]) -> list[Any]:
    if arguments != ([],):
        raise ValueError("refused: a set that is not empty")
    return []


def _tensor(arguments: tuple[Any, ...]) -> Stored:
    if len(arguments) < 6 or not isinstance(arguments[0], Storage):
        raise ValueError("damaged: a tensor without a storage")
    storage, offset, size, stride = arguments[:4]
    if type(size) is not tuple or type(stride) is not tuple:
        raise ValueError("refused: a tensor whose shape is no shape")
    counts = [offset, *size, *stride]
    fits = len(size) == len(stride) <= MOST_DIMENSIONS
    if not fits or not all(type(n) is int and 0 <= n < MOST_COUNT for n in counts):
        raise ValueError("refused: a tensor whose shape is no shape")
    numel, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        numel *= length
        last += (length - 1) * step
    if not 0 < numel <= storage.numel or last >= storage.numel:
        raise ValueError("refused: a tensor that reaches beyond its storage")
    return Stored(storage, offset, tuple(size), tuple(stride))


def _parameter(arguments: tuple[Any, ...]) -> Stored:
    if len(arguments) != 3 or not isinstance(arguments[0], Stored):
        raise ValueError("damaged: a parameter without a tensor")
    return arguments[0]


def _device(arguments: tuple[Any, ...]) -> None:
    """Where the tensors were when they were saved is of no use here."""
    if not all(type(argument) in (str, int) for argument in arguments):
        raise ValueError("damaged: a device that is none")


CALLS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _empty_mapping,
    "__builtin__.set": _empty_set,
    "builtins.set": _empty_set,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.device": _device,
}
"""What a pickle of tensors calls, and what is made of it here."""
