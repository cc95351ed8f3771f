"""Embeddings of any number of pictures or texts, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import count, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from tqdm import tqdm

from flava_plugin.evaluate.inputs import Picture, refuse_single
from flava_plugin.evaluate.samples import batches

if TYPE_CHECKING:
    from flava_plugin.evaluate.flava import Flava

Kind = Literal["image", "text"]


def stream(
    flava: Flava, items: Iterable[Picture | str], kind: Kind, *, progress: bool = False
) -> Iterator[Tensor]:
    """Embed pictures or texts as they come.

    Args:
        flava: The model.
        items: Pictures or their paths, or texts; read a batch at a time.
        kind: Which of both.
        progress: Whether to show a bar on stderr.

    Yields:
        Tensor: (n, E) L2-normalised, in order; ``flava.batch_size`` rows, the last ones fewer.

    Raises:
        ValueError: ``items`` is a single picture or text, or one of them cannot be read.
    """
    refuse_single(items)
    total = len(items) if isinstance(items, Sized) else None
    encode: Any = flava.encode_image if kind == "image" else flava.encode_text
    with tqdm(total=total, unit=f" {kind}", disable=not progress) as bar:
        for group in batches(items, flava.batch_size):
            yield encode(group)
            bar.update(len(group))


def named(
    flava: Flava,
    items: Iterable[Picture | str],
    kind: Kind,
    *,
    names: Iterable[str] | None = None,
    progress: bool = False,
) -> Iterator[tuple[str, Tensor]]:
    """Embed pictures or texts, each under a name.

    Args:
        flava: The model.
        items: As for ``stream``.
        kind: As for ``stream``.
        names: As many names; None takes paths and texts themselves, and numbers for pictures that
            come without a path.
        progress: As for ``stream``.

    Yields:
        tuple[str, Tensor]: Name and embedding (E,).

    Raises:
        ValueError: There are not as many names as items.
    """
    refuse_single(items)
    if names is None:
        items, again = _twice(items)
        names = (
            str(item) if isinstance(item, str | Path) else str(place)
            for place, item in zip(count(), again)  # noqa: B905, the count has no end
        )
    tags = iter(names)
    for rows in stream(flava, items, kind, progress=progress):
        for row in rows:
            try:
                yield next(tags), row
            except StopIteration:
                raise ValueError("there are fewer names than items; give one each") from None
    if next(tags, None) is not None:
        raise ValueError("there are more names than items; give one each")


def _twice(items: Iterable[Any]) -> tuple[Iterable[Any], Iterable[Any]]:
    """The same twice; of an iterator at most a batch is kept for the second."""
    if isinstance(items, Sized):
        return items, items
    first, second = tee(items)
    return first, second
