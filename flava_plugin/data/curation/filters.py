"""Filters that judge each sample by itself or by a score, in the manner of DataComp and DFN."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.sections import BasicStep, ScoreStep
from flava_plugin.data.curation.table import Table

Judged = tuple[NDArray[np.bool_], dict[str, Any]]


def filter_basic(table: Table, kept: NDArray[np.bool_], step: BasicStep) -> Judged:
    """Drop short captions, other languages, small pictures and long ones.

    Args:
        table: Of all samples.
        kept: (samples,) which are left.
        step: The bounds.

    Returns:
        (samples,) which are left, and how many each bound would drop by itself.

    Raises:
        ValueError: Texts or pictures are judged and there are none.
    """
    failed: dict[str, NDArray[np.bool_]] = {}
    if step.judges_texts:
        chars = table.column("chars")
        if not chars.any():
            raise ValueError("there are no texts; set min_words, min_chars and min_ascii to 0")
        failed["min_chars"] = chars < step.min_chars
        failed["min_words"] = table.column("words") < step.min_words
        failed["min_ascii"] = table.column("ascii") < step.min_ascii
    if step.judges_pictures:
        width, height = table.column("width"), table.column("height")
        if not width.any():
            raise ValueError("there are no pictures; set min_side to 0 and max_aspect to null")
        short, long = np.minimum(width, height), np.maximum(width, height)
        failed["min_side"] = short < max(step.min_side, 1)
        if step.max_aspect is not None:
            failed["max_aspect"] = long > step.max_aspect * short
    left = kept.copy()
    report = {}
    for name, fails in failed.items():
        report[name] = int((kept & fails).sum())
        left &= ~fails
    return left, {"dropped_by": report}


def filter_score(
    table: Table, kept: NDArray[np.bool_], step: ScoreStep, readable: NDArray[np.bool_]
) -> Judged:
    """Keep the best by a score.

    Args:
        table: Of all samples.
        kept: (samples,) which are left.
        step: Which score, and how many.
        readable: (samples,) which can be read at all.

    Returns:
        (samples,) which are left; the threshold, and how many had no score.

    Raises:
        ValueError: No sample has the score.
    """
    values = table.scores[step.score]
    pool = kept if step.of == "kept" else readable
    known = values[pool & ~np.isnan(values)]
    if kept.any() and not len(known):
        raise ValueError(f"no sample has the score '{step.score}'; see where it is read from")
    if step.min is not None:
        threshold = float(np.float32(step.min))
    else:
        assert step.share is not None, "one of them is given"
        number = int(step.share * int(pool.sum()) + 1e-9)
        threshold = float("inf")
        if 0 < number <= len(known):
            threshold = float(np.partition(known, len(known) - number)[len(known) - number])
        elif number:
            threshold = float(known.min(initial=np.inf))
    with np.errstate(invalid="ignore"):
        left = kept & (values >= threshold)
    report = {"without_score": int((kept & np.isnan(values)).sum())}
    return left, report | {"threshold": threshold if np.isfinite(threshold) else None}
