"""Image-text retrieval: does a caption find its picture among all pictures, and the reverse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.evaluate.samples import batches, decode, keyed, open_dataset
from flava_plugin.evaluate.sharing import share
from flava_plugin.schema import DatasetSpec
from flava_plugin.types import Dataset, Sample

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava

TIE = 1e-6
"""Cosines closer than this are equal: an fp32 product depends on the shape of its batch so much."""

CHUNK = 1024
"""Most queries and items scored at a time, which bounds the memory."""


def retrieval(
    *,
    dataset: DatasetSpec,
    split: str = "dev",
    count: int | None = None,
    distinct: bool = True,
    group: str | None = None,
) -> Retrieval:
    """Measure recall at 1, 5 and 10 in both directions, by cosine of the projected [CLS].

    Args:
        dataset: Pairs.
        split: Split of the dataset.
        count: Pictures in the gallery, the first ones of the dataset; None takes all.
        distinct: Pass over a pair whose caption is already there, since nothing could tell the
            two apart.
        group: Name in ``Sample.extra`` of the picture's identity, for datasets where several
            captions belong to a picture; None makes every pair its own.

    Returns:
        The task.
    """
    return Retrieval(open_dataset(dataset, split), count, distinct, group)


class Pair(NamedTuple):
    """A pair of the dataset.

    Attributes:
        row: Its index there.
        sample: Picture and caption.
        fresh: Whether its picture was not seen before.
        identity: Number of its picture.
    """

    row: int
    sample: Sample
    fresh: bool
    identity: int


@dataclass(frozen=True)
class Gallery:
    """Both sides of a retrieval task, encoded.

    Attributes:
        images: (M, E) L2-normalised.
        texts: (N, E) L2-normalised.
        image_groups: (M,) long, the identity of each picture.
        text_groups: (N,) long, the identity of each text's picture.
        image_rows: Index in the dataset of each picture.
        text_rows: Index in the dataset of each text.
    """

    images: Tensor
    texts: Tensor
    image_groups: Tensor
    text_groups: Tensor
    image_rows: list[int]
    text_rows: list[int]


class Retrieval:
    """The retrieval task on one dataset.

    Args:
        dataset: Pairs.
        count: Most pictures; None takes all.
        distinct: Pass over captions already there.
        group: Name of the picture's identity in ``Sample.extra``, or None.
    """

    def __init__(
        self, dataset: Dataset, count: int | None, distinct: bool, group: str | None
    ) -> None:
        self.dataset = dataset
        self.count = count
        self.distinct = distinct
        self.group = group

    def __call__(self, flava: Flava) -> dict[str, float | int]:
        """Measure.

        Args:
            flava: The model.

        Returns:
            ``image_to_text_r1``, ``_r5``, ``_r10``, ``text_to_image_r1``, ``_r5``, ``_r10`` and
            ``gallery_size``, the number of pictures. The paper's TR is ``image_to_text``, its IR
            ``text_to_image``.
        """
        gallery = self.encode(flava)

        def ask(queries: Tensor, items: Tensor, of_queries: Tensor, of_items: Tensor) -> Tensor:
            def part(start: int) -> Tensor:
                asked = slice(start, start + CHUNK)
                return ranks(queries[asked], items, of_queries[asked], of_items)

            return torch.cat(list(share(flava, range(0, len(queries), CHUNK), part)))

        images, texts = gallery.images, gallery.texts
        of_images, of_texts = gallery.image_groups, gallery.text_groups
        sides = {
            "image_to_text": ask(images, texts, of_images, of_texts),
            "text_to_image": ask(texts, images, of_texts, of_images),
        }
        figures: dict[str, float | int] = {
            f"{side}_r{k}": recall(found, k) for side, found in sides.items() for k in (1, 5, 10)
        }
        return {**figures, "gallery_size": len(gallery.images)}

    def exhibits(self, flava: Flava) -> list[Exhibit]:
        """Show what a few captions find.

        Args:
            flava: The model.

        Returns:
            Eight captions with their five best pictures.
        """
        gallery = self.encode(flava)
        rows = []
        for query in range(min(8, len(gallery.texts))):
            scores = gallery.images @ gallery.texts[query]
            best = scores.topk(min(5, len(scores))).indices.tolist()
            caption = self.dataset.read(gallery.text_rows[query]).text or ""
            cells = [Cell(caption)]
            for item in best:
                right = bool(gallery.image_groups[item] == gallery.text_groups[query])
                image = self.dataset.read(gallery.image_rows[item]).image
                cells.append(Cell(f"{scores[item]:.2f}", image, True if right else None))
            rows.append(cells)
        note = (
            f"The five pictures of {len(gallery.images)} whose embedding is closest to the "
            "caption's, with their cosine; the caption's own picture is marked."
        )
        return [Exhibit("Retrieval", note, ("caption", "closest pictures"), rows)]

    def encode(self, flava: Flava) -> Gallery:
        """Encode every picture once and every caption.

        Args:
            flava: The model.

        Returns:
            The embeddings, on the CPU.

        Raises:
            ValueError: The dataset holds no pair of picture and caption.
        """
        images, texts = [], []
        image_rows: list[int] = []
        text_rows: list[int] = []
        image_groups: list[int] = []
        text_groups: list[int] = []

        def encoded(chosen: list[Pair]) -> tuple[list[Pair], Tensor, Tensor]:
            fresh = [pair for pair in chosen if pair.fresh]
            for pair in fresh:
                decode(pair.sample, pair.row)
            pictures = flava.encode_image([pair.sample.image for pair in fresh])
            captions = flava.encode_text([pair.sample.text or "" for pair in chosen])
            return [pair._replace(sample=Sample()) for pair in chosen], pictures, captions

        for chosen, pictures, captions in share(
            flava, batches(self._choose(), flava.batch_size), encoded
        ):
            fresh = [pair for pair in chosen if pair.fresh]
            images.append(pictures)
            texts.append(captions)
            image_rows += [pair.row for pair in fresh]
            image_groups += [pair.identity for pair in fresh]
            text_rows += [pair.row for pair in chosen]
            text_groups += [pair.identity for pair in chosen]
        if not texts:
            raise ValueError("retrieval: the dataset holds no pair of picture and caption")
        return Gallery(
            torch.cat(images),
            torch.cat(texts),
            torch.tensor(image_groups),
            torch.tensor(text_groups),
            image_rows,
            text_rows,
        )

    def _choose(self) -> Iterator[Pair]:
        seen: set[str] = set()
        identities: dict[object, int] = {}
        for key, sample in keyed(self.dataset):
            if sample.image is None or sample.text is None:
                continue
            if self.distinct and sample.text in seen:
                continue
            name = key.index if self.group is None else sample.extra[self.group]
            fresh = name not in identities
            if fresh and len(identities) == self.count:
                if self.group is None:
                    return
                continue
            seen.add(sample.text)
            identity = identities.setdefault(name, len(identities))
            yield Pair(key.index, sample, fresh, identity)


def ranks(
    queries: Tensor,
    items: Tensor,
    query_groups: Tensor,
    item_groups: Tensor,
    *,
    chunk: int = CHUNK,
) -> Tensor:
    """Rank of the best right item of every query, by cosine.

    A wrong item that scores the same as the right one (within ``TIE``), or whose score is not a
    number, counts as ranked before it: a model that embeds everything alike finds nothing.

    Args:
        queries: (N, E) L2-normalised.
        items: (M, E) L2-normalised.
        query_groups: (N,) long.
        item_groups: (M,) long; an item is right for the queries of its group.
        chunk: Most queries and items scored at a time, which bounds the memory.

    Returns:
        (N,) long, 1 for the best; M + 1 at most, where no item is right.
    """

    def blocks(start: int) -> Iterator[tuple[Tensor, Tensor]]:
        query, groups = queries[start : start + chunk], query_groups[start : start + chunk]
        for first in range(0, len(items), chunk):
            last = first + chunk
            yield query @ items[first:last].T, groups[:, None] == item_groups[None, first:last]

    found = []
    for start in range(0, len(queries), chunk):
        shape = (len(queries[start : start + chunk]),)
        best = queries.new_full(shape, -torch.inf)
        for scores, right in blocks(start):
            best = torch.maximum(best, scores.masked_fill(~right, -torch.inf).amax(1))
        before = query_groups.new_zeros(shape)
        for scores, right in blocks(start):
            # "not below" instead of "at least", so that NaN counts as before
            before += (~right & ~(scores < (best - TIE)[:, None])).sum(1)
        found.append(before + 1)
    return torch.cat(found) if found else query_groups.new_zeros((0,))


def recall(found: Tensor, k: int) -> float:
    """Share of queries whose right item is among the first ``k``.

    Args:
        found: (N,) ranks, 1 for the best.
        k: How many items are looked at.

    Returns:
        The share.
    """
    return float((found <= k).double().mean())
