"""From counts to figures, and to lines that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.permutation import permute
from flava_plugin.data.randomness import key_of, mix
from flava_plugin.data.statistics import Counted

_GROUP = 64
"""Batches whose texts are sorted by length, for the waste with ``shuffle.buckets: 64``."""

_BINS = 10


def figures(
    counted: Counted, *, samples: int, seed: int, length: int | None = None, batch: int = 64
) -> dict[str, Any]:
    """Turn counts into figures.

    Args:
        counted: What ``statistics.count`` gave.
        samples: How many the dataset has; more than were counted where some were chosen.
        seed: Of the order of texts in batches.
        length: Most tokens of a text; None for the longest's.
        batch: Texts of a batch, for the padding.

    Returns:
        Figures by name, for JSON. What the dataset has not is left out.
    """
    tally, columns = counted
    result: dict[str, Any] = {
        "samples": samples,
        "read": tally.samples,
        "unreadable": dict(sorted(tally.damage.items())),
        "examples": tally.examples,
    }
    if len(columns.words):
        result["texts"] = {
            "number": len(columns.words),
            "bytes": tally.text_bytes,
            "words": summary_of(columns.words),
            "characters": round(tally.characters / len(columns.words), 3),
            "vocabulary": len(tally.vocabulary),
            "ascii_share": round(tally.ascii / max(1, tally.characters), 4),
            "duplicates": duplicates(columns.text_hashes),
        }
    if len(columns.sizes):
        result["pictures"] = _pictures(counted)
    if len(columns.words) and len(columns.sizes):
        pairs = columns.image_hashes ^ mix(columns.text_hashes)
        result["pairs"] = {"number": len(pairs), "duplicates": duplicates(pairs)}
    if len(columns.tokens):
        result["tokens"] = _tokens(columns.tokens, seed, length, batch)
    return result


def summary_of(values: NDArray[Any]) -> dict[str, float]:
    """Describe a distribution.

    Args:
        values: At least one number.

    Returns:
        Mean, smallest, percentiles 5, 50 and 95, and largest.
    """
    low, middle, high = np.percentile(values, (5, 50, 95)).tolist()
    spread = {"min": float(values.min()), "p5": low, "p50": middle, "p95": high}
    return {
        "mean": round(float(values.mean()), 3),
        **{name: round(value, 3) for name, value in spread.items()},
        "max": round(float(values.max()), 3),
    }


def duplicates(hashes: NDArray[np.uint64]) -> int:
    """Count things that came before.

    Args:
        hashes: Of all.

    Returns:
        How many could be left out so that no two are the same.
    """
    return len(hashes) - len(np.unique(hashes))


def most_repeated(hashes: NDArray[np.uint64], most: int) -> list[tuple[int, int]]:
    """Find what there is most often.

    Args:
        hashes: Of all.
        most: How many different things are wanted.

    Returns:
        Place of the first of the same things, and their number; the most frequent first.
    """
    _, first, number = np.unique(hashes, return_index=True, return_counts=True)
    order = np.lexsort((first, -number))[:most].tolist()
    return [(int(first[place]), int(number[place])) for place in order if number[place] > 1]


def padding_waste(lengths: NDArray[Any], batch: int) -> float:
    """Tell what share of a padded batch is padding.

    Args:
        lengths: Of texts, in the order of reading.
        batch: Texts of a batch; each is padded to its batch's longest.

    Returns:
        Padding, as a share of all tokens. A last batch that is not full counts as it is.
    """
    places = 0
    for first in range(0, len(lengths), batch):
        rows = lengths[first : first + batch]
        places += len(rows) * int(rows.max())
    return round(1 - float(lengths.sum()) / places, 4)


def _pictures(counted: Counted) -> dict[str, Any]:
    columns = counted.columns
    width, height = columns.sizes[:, 0].astype(np.float64), columns.sizes[:, 1].astype(np.float64)
    return {
        "number": len(width),
        "bytes": int(columns.image_bytes.sum(dtype=np.int64)),
        "kilobytes": summary_of(columns.image_bytes / 1000),
        "formats": dict(counted.tally.formats.most_common()),
        "width": summary_of(width),
        "height": summary_of(height),
        "shorter_side": summary_of(np.minimum(width, height)),
        "aspect": summary_of(width / np.maximum(height, 1)),
        "duplicates": duplicates(columns.image_hashes),
    }


def _tokens(lengths: NDArray[Any], seed: int, length: int | None, batch: int) -> dict[str, Any]:
    longest = int(lengths.max())
    allowed = length or longest
    cut = np.minimum(lengths.astype(np.int64), allowed)
    order = permute(np.arange(len(cut)), len(cut), key_of(seed, "batches")[0])
    shuffled = cut[order]
    group = _GROUP * batch
    sorted_in_groups = np.concatenate(
        [np.sort(shuffled[first : first + group]) for first in range(0, len(cut), group)]
    )
    edges = np.unique(np.linspace(0, longest, _BINS + 1).round().astype(int))
    numbers, _ = np.histogram(lengths, edges)
    return {
        "length": summary_of(lengths),
        "histogram": {"edges": edges.tolist(), "texts": numbers.tolist()},
        "most": allowed,
        "cut_off": int((lengths > allowed).sum()),
        "batch": batch,
        "padding": {
            "to_most": round(1 - float(cut.mean()) / allowed, 4),
            "to_longest_of_batch": padding_waste(shuffled, batch),
            f"to_longest_of_batch_in_buckets_of_{_GROUP}": padding_waste(sorted_in_groups, batch),
        },
    }


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Write figures as people read them.

    Args:
        result: Of ``figures``.

    Yields:
        Lines of a table.
    """
    part = "" if result["read"] == result["samples"] else f", {result['read']} of them read"
    yield f"samples     {result['samples']}{part}"
    for reason, number in result["unreadable"].items():
        yield f"  {number} x {reason}, such as {result['examples'][reason]}"
    if "pairs" in result:
        yield f"pairs       {result['pairs']['number']}, {result['pairs']['duplicates']} repeated"
    if "texts" in result:
        texts = result["texts"]
        yield f"texts       {texts['number']}, {texts['duplicates']} repeated"
        yield f"  words       {_spread(texts['words'])}"
        yield f"  characters  mean {texts['characters']:g}, {texts['ascii_share']:.1%} ASCII"
        yield f"  vocabulary  {texts['vocabulary']} different words"
        for text, number in texts.get("most_repeated", []):
            yield f"  {number} x {text[:70]!r}"
    if "pictures" in result:
        pictures = result["pictures"]
        yield f"pictures    {pictures['number']}, {pictures['duplicates']} repeated"
        formats = (f"{number} {name}" for name, number in pictures["formats"].items())
        yield f"  formats     {', '.join(formats)}"
        yield f"  kilobytes   {_spread(pictures['kilobytes'])}"
        yield f"  width       {_spread(pictures['width'])}"
        yield f"  height      {_spread(pictures['height'])}"
        yield f"  aspect      {_spread(pictures['aspect'])}"
    if "tokens" in result:
        yield from _token_lines(result["tokens"])


def _token_lines(tokens: Mapping[str, Any]) -> Iterator[str]:
    yield f"tokens      {_spread(tokens['length'])}"
    edges, numbers = tokens["histogram"]["edges"], tokens["histogram"]["texts"]
    most = max(numbers)
    for low, high, number in zip(edges, edges[1:], numbers, strict=False):
        yield f"  {low:>5} - {high:<5} {number:>9} {'#' * round(40 * number / most)}".rstrip()
    yield f"  longer than {tokens['most']} and cut off: {tokens['cut_off']}"
    fixed, batch, buckets = tokens["padding"].values()
    yield (
        f"  padding     {fixed:.1%} to {tokens['most']} tokens; {batch:.1%} to the longest of "
        f"{tokens['batch']} texts, {buckets:.1%} with buckets of {_GROUP} batches"
    )


def _spread(values: Mapping[str, float]) -> str:
    return (
        f"mean {values['mean']:g}, median {values['p50']:g}, 5 to 95 % {values['p5']:g} to "
        f"{values['p95']:g}, from {values['min']:g} to {values['max']:g}"
    )
