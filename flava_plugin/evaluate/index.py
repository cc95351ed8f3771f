"""Embeddings with names, searched exactly: in memory, or in a folder of any size.

    folder/index.json               sizes, and what the model makes of a fixed picture and text
    folder/part-00000.safetensors   vectors (n, E) fp32; the names as bytes and where each one ends

Legend for shapes: M indexed, Q queries, E embedding width, n rows of a part.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from flava_plugin import durable
from flava_plugin.evaluate.index_part import Part
from flava_plugin.evaluate.inputs import Picture, refuse_single

if TYPE_CHECKING:
    from flava_plugin.evaluate.flava import Flava

PART_ROWS = 65_536
"""Rows of a part: 192 MB at the paper's width of 768."""

QUERY_ROWS = 64
"""Queries compared with a part at a time, so that scores and their keys take some 100 MB."""

SAME = 1e-3
"""Largest difference of an embedding between two machines."""


class Hit(NamedTuple):
    """Something found.

    Attributes:
        name: Its name.
        score: Cosine with the query.
    """

    name: str
    score: float


class Index:
    """Embeddings of pictures or texts, to be searched by others.

    Args:
        flava: The model that made them.
        parts: Their rows.
    """

    def __init__(self, flava: Flava, parts: Sequence[Part]) -> None:
        self._flava = flava
        self._parts = list(parts)

    def __len__(self) -> int:
        """Number of rows M."""
        return sum(part.rows for part in self._parts)

    def search(self, queries: Sequence[str | Picture] | Tensor, k: int = 10) -> list[list[Hit]]:
        """Find the nearest to each query, by comparing it with all of them.

        Args:
            queries: Q texts; or pictures, their paths as ``Path``; or (Q, E) embeddings.
            k: Hits of each query; fewer where the index has fewer.

        Returns:
            For each query its hits, the nearest first; of equal ones the one indexed first.

        Raises:
            ValueError: ``k`` is below 1, or the embeddings have another width.
        """
        if k < 1:
            raise ValueError(f"k is {k}; ask for at least one hit")
        vectors = self._embedded(queries)
        if vectors.dim() != 2 or vectors.shape[1] != self._flava.width:
            raise ValueError(
                f"queries are {tuple(vectors.shape)}, and the index has vectors of "
                f"{self._flava.width}; they must be (Q, {self._flava.width})"
            )
        best = torch.empty(len(vectors), 0, dtype=torch.int64)
        for start, part in self._placed():
            held = part.vectors()
            found = [_nearest(group, held, start, k) for group in torch.split(vectors, QUERY_ROWS)]
            joined = torch.cat([best, *([torch.cat(found)] if found else [])], dim=1)
            best = joined.topk(min(k, joined.shape[1]), dim=1).values
        return self._hits(best)

    def save(self, folder: str | Path) -> None:
        """Write the index.

        Args:
            folder: Where to; it must not exist yet.
        """
        _write(self._flava, Path(folder), self._parts)

    @classmethod
    def load(cls, folder: str | Path, flava: Flava) -> Index:
        """Open an index; its vectors stay on the disk until they are searched.

        Args:
            folder: Of ``save`` or ``flava.index(..., folder=...)``.
            flava: The model that made it.

        Returns:
            The index.

        Raises:
            ValueError: There is none, a part is missing, or another model made it.
        """
        folder = Path(folder)
        try:
            told = json.loads((folder / "index.json").read_text("utf-8"))
            sizes, made = list(map(int, told["parts"])), torch.tensor(told["probe"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder}: no index here: {error}") from error
        own = probe(flava)
        if made.shape != own.shape or not bool(((made - own).abs() <= SAME).all()):
            raise ValueError(
                f"{folder} was made with another model or checkpoint; its vectors cannot be "
                "compared with this one's; make it anew"
            )
        parts = [Part(rows, None, folder / _name(i)) for i, rows in enumerate(sizes)]
        for part in parts:
            if part.path is not None and not part.path.is_file():
                raise ValueError(f"{part.path}: a part of the index is missing; make it anew")
        return cls(flava, parts)

    def _placed(self) -> Iterator[tuple[int, Part]]:
        start = 0
        for part in self._parts:
            yield start, part
            start += part.rows

    def _embedded(self, queries: Sequence[str | Picture] | Tensor) -> Tensor:
        if isinstance(queries, Tensor):
            return torch.nn.functional.normalize(queries.float().cpu(), dim=-1)
        refuse_single(queries)
        texts = [query for query in queries if isinstance(query, str)]
        if texts and len(texts) < len(queries):
            raise ValueError("queries are texts and pictures at once; search for each by itself")
        if texts or not queries:
            return self._flava.encode_text(texts)
        return self._flava.encode_image(queries)

    def _hits(self, keys: Tensor) -> list[list[Hit]]:
        places, scores = _unpacked(keys)
        names: dict[int, str] = {}
        for start, part in self._placed():
            inside = (places >= start) & (places < start + part.rows)
            rows = sorted(set((places[inside] - start).tolist()))
            if rows:
                found = zip(rows, part.names(rows), strict=True)
                names.update({start + row: name for row, name in found})
        pairs = zip(places.tolist(), scores.tolist(), strict=True)
        return [
            [Hit(names[place], score) for place, score in zip(*row, strict=True)] for row in pairs
        ]


def build_index(
    flava: Flava, rows: Iterable[tuple[str, Tensor]], folder: Path | None = None
) -> Index:
    """Collect embeddings as they come.

    Args:
        flava: The model that makes them.
        rows: Names with their embeddings (E,), read as they are needed.
        folder: Where parts go as soon as they are full, so that one part is in memory at a time;
            None keeps all in memory.

    Returns:
        The index.
    """
    parts = _collected(rows)
    if folder is None:
        return Index(flava, list(parts))
    _write(flava, folder, parts)
    return Index.load(folder, flava)


def probe(flava: Flava) -> Tensor:
    """What a model makes of a fixed picture and text: no two models agree on it.

    Args:
        flava: The model.

    Returns:
        (2, E).
    """
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    both = [flava.encode_image([picture]), flava.encode_text(["a picture of one red thing"])]
    return torch.cat(both)


def _collected(rows: Iterable[tuple[str, Tensor]]) -> Iterator[Part]:
    names: list[str] = []
    vectors: list[Tensor] = []
    for name, vector in rows:
        names.append(name)
        vectors.append(vector)
        if len(names) == PART_ROWS:
            yield Part(len(names), (torch.stack(vectors), names))
            names, vectors = [], []
    if names:
        yield Part(len(names), (torch.stack(vectors), names))


def _write(flava: Flava, folder: Path, parts: Iterable[Part]) -> None:
    if folder.exists():
        raise ValueError(f"{folder}: exists already; give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{durable.TEMPORARY}{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        sizes = []
        for number, part in enumerate(parts):
            part.write(temporary / _name(number))
            sizes.append(part.rows)
        told = {"parts": sizes, "width": flava.width, "probe": probe(flava).tolist()}
        durable.write_text(temporary / "index.json", json.dumps(told) + "\n")
        durable.rename_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _name(number: int) -> str:
    return f"part-{number:05d}.safetensors"


def _nearest(queries: Tensor, vectors: Tensor, start: int, k: int) -> Tensor:
    """The k best of a part as (Q, k) keys that sort by score, and by place where scores tie."""
    scores = queries @ vectors.T + 0.0  # which makes -0.0 and 0.0 the same
    bits = scores.view(torch.int32)
    # the bits of a float sort as a whole number does, once those of negative ones are turned round
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    places = torch.arange(start, start + len(vectors))
    keys = (ordered << 32) + (0xFFFFFFFF - places)
    return keys.topk(min(k, keys.shape[1]), dim=1).values


def _unpacked(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Places (Q, k) long and scores (Q, k) fp32 of keys."""
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return 0xFFFFFFFF - (keys & 0xFFFFFFFF), bits.view(torch.float32)
