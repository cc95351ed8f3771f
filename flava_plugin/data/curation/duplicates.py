"""Of samples that are the same, one stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flava_plugin.data.curation.sections import DuplicatesStep
from flava_plugin.data.curation.table import Table
from flava_plugin.data.randomness import mix


def drop_duplicates(
    table: Table, kept: NDArray[np.bool_], step: DuplicatesStep
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Keep one of each group of equals.

    Args:
        table: Of all samples.
        kept: (samples,) which are left.
        step: What is compared, and which one stays.

    Returns:
        (samples,) which are left, and the groups. Samples without what is compared all stay.

    Raises:
        ValueError: No sample has what is compared.
    """
    columns = ("text", "picture") if step.same == "pair" else (step.same,)
    hashes = np.zeros(len(table), np.uint64)
    known = np.ones(len(table), bool)
    for name in columns:
        column = table.column(name)
        known &= column != 0
        hashes = mix(hashes ^ column)
    if not known.any():
        raise ValueError(f"no sample has a {step.same} to compare")
    places = np.flatnonzero(kept & known)
    values = None if step.prefer is None else table.scores[step.prefer][places]
    left = kept.copy()
    stays, sizes = one_of_each(hashes[places], values)
    left[places[~stays]] = False
    return left, group_report(sizes)


def one_of_each(
    labels: NDArray[Any], values: NDArray[np.float32] | None
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Choose a member of each group.

    Args:
        labels: (n,) which group each belongs to.
        values: (n,) of which the largest is chosen; NaN is less than all. None, and equals: the
            first in order.

    Returns:
        (n,) whether each is chosen, and the groups' sizes.
    """
    if values is None:
        order = np.argsort(labels, kind="stable")
    else:
        order = np.lexsort((-np.nan_to_num(values, nan=-np.inf, neginf=-np.inf), labels))
    ordered = labels[order]
    first = np.ones(len(labels), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    chosen = np.zeros(len(labels), bool)
    chosen[order[first]] = True
    return chosen, np.diff(np.flatnonzero(np.append(first, True)))


def group_report(sizes: NDArray[np.int64]) -> dict[str, Any]:
    """Describe groups.

    Args:
        sizes: Of all groups, those of one member included.

    Returns:
        How many have more than one, how many samples these hold, and the largest.
    """
    several = sizes[sizes > 1]
    return {
        "groups": len(several),
        "in_groups": int(several.sum()),
        "largest_group": int(several.max(initial=0)),
    }
