"""What is in a dataset, counted: texts, words, pictures, duplicates, tokens.

Each part of the data is counted on its own and the counts are added, so that several processes can
share the work. A sample costs some 40 bytes of memory, a different word some 100.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.permutation import permute
from flava_plugin.data.randomness import key_of
from flava_plugin.data.raw_reading import look_at, open_picture
from flava_plugin.data.shards.raw import RawSample
from flava_plugin.data.spreading import spread
from flava_plugin.data.tokenizer import Tokenizer
from flava_plugin.types import Dataset, Modality

_AT_ONCE = 1_000
"""Samples of a task."""

_MARKS = ".,;:!?\"'()[]{}<>*_-\u2018\u2019\u201c\u201d\u2026\u2013\u2014"
"""Stripped from both ends of a word before it is counted as one of the vocabulary."""

_ENDLESS = 1 << 30


@dataclass
class Tally:
    """Counts over some samples; lists have an entry for each sound sample that has such a part.

    Attributes:
        samples: Read.
        damage: Unreadable samples by reason.
        examples: One of each reason.
        words: Words of each text, split at spaces.
        characters: Characters of all texts.
        ascii: Those of them that are ASCII.
        text_bytes: Bytes of all texts in UTF-8.
        vocabulary: Different words, without case and without marks at their ends.
        text_hashes: uint64 of each text.
        text_samples: Index of each text's sample.
        image_hashes: uint64 of each picture's file.
        sizes: (n, 2) width and height of each picture, as its file has them.
        image_bytes: Bytes of each picture's file.
        formats: Pictures by format.
        tokens: Tokens of each text, where a tokenizer was given.
    """

    samples: int = 0
    damage: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    words: list[int] = field(default_factory=list)
    characters: int = 0
    ascii: int = 0
    text_bytes: int = 0
    vocabulary: set[str] = field(default_factory=set)
    text_hashes: list[int] = field(default_factory=list)
    text_samples: list[int] = field(default_factory=list)
    image_hashes: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    image_bytes: list[int] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=list)


class Columns(NamedTuple):
    """The lists of a ``Tally`` as arrays, of all samples."""

    words: NDArray[np.uint32]
    text_hashes: NDArray[np.uint64]
    text_samples: NDArray[np.int64]
    image_hashes: NDArray[np.uint64]
    sizes: NDArray[np.uint32]
    image_bytes: NDArray[np.uint32]
    tokens: NDArray[np.uint32]


class Counted(NamedTuple):
    """Everything that was counted.

    Attributes:
        tally: The sums; its lists are empty.
        columns: The lists, as arrays.
    """

    tally: Tally
    columns: Columns


class _Bench(NamedTuple):
    dataset: Dataset
    kind: Modality
    tokenizer: Tokenizer | None
    chosen: NDArray[np.int64] | None


def choose(samples: int, count: int | None, seed: int) -> NDArray[np.int64] | None:
    """Choose samples of a large dataset.

    Args:
        samples: How many it has.
        count: How many are wanted; None for all.
        seed: Of the choice.

    Returns:
        Their indices, ascending; None for all.
    """
    if count is None or count >= samples:
        return None
    return np.sort(permute(np.arange(count), samples, key_of(seed, "sample")[0]))


def count(
    dataset: Dataset,
    kind: Modality,
    *,
    chosen: NDArray[np.int64] | None = None,
    tokenizer: Tokenizer | None = None,
    jobs: int = 1,
    tick: Callable[[int], object] = lambda number: None,
) -> Counted:
    """Count a dataset; pictures are opened and not decoded.

    Args:
        dataset: The dataset.
        kind: What its samples hold.
        chosen: Which samples; None for all.
        tokenizer: Counts tokens; None leaves them out.
        jobs: Processes.
        tick: Told of the samples that have been read.

    Returns:
        The counts.
    """
    total = len(dataset) if chosen is None else len(chosen)
    bench = _Bench(dataset, kind, tokenizer, chosen)
    whole = Tally()
    pieces: list[Columns] = []
    tasks = [(first, min(first + _AT_ONCE, total)) for first in range(0, total, _AT_ONCE)]
    for part in spread(_count_part, bench, tasks, jobs=jobs, tick=tick):
        pieces.append(_columns(part))
        whole.samples += part.samples
        whole.damage += part.damage
        whole.examples = part.examples | whole.examples
        whole.characters += part.characters
        whole.ascii += part.ascii
        whole.text_bytes += part.text_bytes
        whole.vocabulary |= part.vocabulary
        whole.formats += part.formats
    return Counted(whole, Columns(*map(np.concatenate, zip(*pieces, strict=True))))


def _columns(part: Tally) -> Columns:
    return Columns(
        np.array(part.words, np.uint32),
        np.array(part.text_hashes, np.uint64),
        np.array(part.text_samples, np.int64),
        np.array(part.image_hashes, np.uint64),
        np.array(part.sizes, np.uint32).reshape(-1, 2),
        np.array(part.image_bytes, np.uint32),
        np.array(part.tokens, np.uint32),
    )


def _count_part(bench: _Bench, task: tuple[int, int], tick: Callable[[int], object]) -> Tally:
    tally = Tally()
    for place in range(*task):
        index = place if bench.chosen is None else int(bench.chosen[place])
        looked = look_at(bench.dataset, index, bench.kind, decoded=False)
        tally.samples += 1
        reason, detail = looked.reason, looked.detail
        size = (0, 0)
        if not reason and bench.kind != "text":
            try:
                with warnings.catch_warnings():  # a large picture is only opened here
                    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                    size = open_picture(looked.raw.image or b"").size
            except DamagedSampleError as error:
                reason, detail = error.reason, f"{looked.raw.name}: {error.detail}"
        if reason:
            tally.damage[reason] += 1
            tally.examples.setdefault(reason, f"sample {index}: {detail}")
        else:
            if bench.kind != "text":
                _take_picture(tally, looked.raw, size)
            if bench.kind != "image":
                _take_text(tally, looked.raw.text or "", index, bench.tokenizer)
        tick(1)
    return tally


def _take_picture(tally: Tally, raw: RawSample, size: tuple[int, int]) -> None:
    data = raw.image or b""
    tally.sizes.append(size)
    tally.image_bytes.append(len(data))
    tally.image_hashes.append(hash_of(data))
    tally.formats[raw.extension or "unknown"] += 1


def _take_text(tally: Tally, text: str, index: int, tokenizer: Tokenizer | None) -> None:
    text = text.strip()
    words = text.split()
    data = text.encode("utf-8", "surrogatepass")
    tally.words.append(len(words))
    tally.characters += len(text)
    tally.ascii += len(text) if len(data) == len(text) else sum(map(str.isascii, text))
    tally.text_bytes += len(data)
    tally.text_hashes.append(hash_of(data))
    tally.text_samples.append(index)
    bare = (word.strip(_MARKS).casefold() for word in words)
    tally.vocabulary.update(word for word in bare if word)
    if tokenizer is not None:
        tally.tokens.append(len(tokenizer.encode(text, _ENDLESS)))


def hash_of(data: bytes) -> int:
    """Hash bytes to 64 bits: among 100 million, some 0.0003 pairs are taken for equal by chance.

    Args:
        data: The bytes.

    Returns:
        The number.
    """
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
