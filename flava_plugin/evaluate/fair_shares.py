"""How to divide steps between kinds of batch that teach each other.

A step of one kind also lowers losses of another, as far as their gradients agree: to first order in
proportion to <g, h>, where g is the gradient of the step and h that of the other loss. Over what a
step of the loss's own kind does, that is what the step is worth to it: a step of pairs may be worth
0.3 of a step of images to MIM. Inter-task affinity (Fifty et al., arXiv:2109.04617) measures the
same by looking a step ahead; neither sees what AdamW's scaling makes of a step.

Fair are the shares at which the sum of the logarithms of all objectives' progress is largest: other
shares lose some objectives more, in per cent, than they gain the rest. That is Nash's bargaining
solution, which Nash-MTL (arXiv:2202.01017) applies to the direction of a step. Where kinds teach
each other nothing, a kind gets steps by the number of its objectives: of FLAVA's six, pairs .67,
images .17 and texts .17, near the paper's .70, .15, .15. What pairs teach is taken off the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from statistics import fmean

from flava_plugin.balance_record import BalanceRecord

FLOOR = 0.03
"""The least share of a kind: no other trains its heads, and of fewer steps nothing was measured."""

ROUNDS = 2000
"""Of the iteration that finds the shares; after 500 the third digit stands."""

Worths = dict[str, dict[str, float]]
"""What a step of a kind is worth to an objective, in steps of the objective's own kind."""


def worths(
    records: Sequence[BalanceRecord], kinds: Mapping[str, str], weights: Mapping[str, float]
) -> Worths:
    """Read off diagnoses what a step of each kind is worth to each objective.

    Args:
        records: Of joint runs, at least one.
        kinds: The kind of batch of each objective.
        weights: By objective, in a step of its kind.

    Returns:
        By kind, then by objective: 1 for its own kind. Sums over all diagnoses are divided, so that
        one in which hardly anything falls counts for little. An objective that its own kind does
        not lower has 0 of the others.
    """
    falls: Worths = {}
    for kind in dict.fromkeys(kinds.values()):
        own = {name: weight for name, weight in weights.items() if kinds[name] == kind}
        found = [record.falls(own) for record in records]
        falls[kind] = {name: fsum(each[name] for each in found) for name in kinds}
    return {
        kind: {
            name: fall / falls[kinds[name]][name]
            if falls[kinds[name]][name] > 0.0
            else float(kinds[name] == kind)
            for name, fall in by_name.items()
        }
        for kind, by_name in falls.items()
    }


def fair_shares(found: Worths) -> dict[str, float]:
    """Divide steps fairly.

    The iteration multiplies each share by the mean over objectives of what the kind adds to their
    progress, relative to it; the sum of logarithms never falls (Cover 1984, IEEE Transactions on
    Information Theory 30 (2), where shares are of a portfolio).

    Args:
        found: What steps are worth; below 0 counts as nothing.

    Returns:
        By kind; they add up to 1, and none is less than ``FLOOR``.
    """
    worth = {kind: [max(0.0, value) for value in row.values()] for kind, row in found.items()}
    free = 1.0 - FLOOR * len(worth)
    # shares are FLOOR + free * q; as q adds up to 1, the floors' progress is a part of every row
    floors = [FLOOR * fsum(column) for column in zip(*worth.values(), strict=True)]
    rows = {
        kind: [floor + free * value for floor, value in zip(floors, row, strict=True)]
        for kind, row in worth.items()
    }
    q = dict.fromkeys(rows, 1.0 / len(rows))
    for _ in range(ROUNDS):
        whole = [
            fsum(q[kind] * value for kind, value in zip(rows, column, strict=True))
            for column in zip(*rows.values(), strict=True)
        ]
        q = {
            kind: q[kind] * fmean(value / all_ for value, all_ in zip(row, whole, strict=True))
            for kind, row in rows.items()
        }
    return {kind: FLOOR + free * value for kind, value in q.items()}
