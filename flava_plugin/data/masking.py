"""What MIM, MLM and MMM hide: pure functions of a generator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

from flava_plugin.types import IGNORE

_ASPECT = (log(0.3), -log(0.3))
_ATTEMPTS = 10


def mask_words(
    ids: Sequence[int],
    special_ids: Collection[int],
    words: Sequence[int],
    *,
    share: float,
    whole_words: bool,
    mask_id: int,
    vocab_size: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hide tokens as BERT does (Devlin et al. 2019, 3.1 and its whole-word masking).

    ``round(share * tokens)`` of the tokens that are not special are to be predicted, and at least
    one where there is any and ``share`` is positive. Of these 80 % become the mask token, 10 % a
    random token that is not special, 10 % stay. With whole words, a word is chosen with all its
    pieces; one that would exceed the number is passed over, unless it is the first.

    Args:
        ids: L token ids.
        special_ids: Ids never chosen and never put in place of another.
        words: L numbers, the same for the pieces of a word.
        share: Share of tokens to predict.
        whole_words: Choose words in place of tokens.
        mask_id: Id of the mask token.
        vocab_size: Number of ids.
        generator: Where chance comes from.

    Returns:
        (L,) ids with some hidden, and (L,) labels: the id to predict, or ``IGNORE``.
    """
    masked = np.array(ids, dtype=np.int64)
    labels = np.full_like(masked, IGNORE)
    special = special_ids if isinstance(special_ids, (set, frozenset)) else set(special_ids)
    open_places = [place for place, token in enumerate(ids) if token not in special]
    if not open_places or share <= 0:
        return masked, labels
    count = max(1, round(share * len(open_places)))
    if whole_words:
        chosen = _choose_words(open_places, words, count, generator)
    else:
        chosen = generator.permutation(np.array(open_places))[:count]
    labels[chosen] = masked[chosen]
    draws = generator.random(len(chosen))
    masked[chosen[draws < 0.8]] = mask_id
    replaced = chosen[(draws >= 0.8) & (draws < 0.9)]
    if len(replaced):
        masked[replaced] = _ordinary(len(replaced), special, vocab_size, generator)
    return masked, labels


def blockwise_patches(
    side_h: int,
    side_w: int,
    count: int,
    min_block: int,
    max_block: int | None,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Hide patches in blocks as BEiT does (Bao et al. 2021, algorithm 1), exactly ``count``.

    BEiT's own code, which torchmultimodal has, gives up once ten blocks in a row do not fit, so it
    hides up to ``count`` (74.4 of 75 on average at 14 x 14). Here the few that are missing are then
    taken one by one from the neighbours of hidden patches.

    Args:
        side_h: Rows of patches.
        side_w: Columns of patches.
        count: How many are hidden.
        min_block: Smallest block in patches.
        max_block: Largest block in patches; None for no bound but ``count``.
        generator: Where chance comes from.

    Returns:
        (side_h * side_w,) bool, row by row, True where hidden.

    Raises:
        ValueError: More are to be hidden than there are.
    """
    _check(side_h * side_w, count)
    mask = np.zeros((side_h, side_w), dtype=np.bool_)
    hidden = 0
    while hidden < count:
        bound = min(count - hidden, max_block or count)
        added = _add_block(mask, min_block, bound, generator)
        if not added:
            break
        hidden += added
    while hidden < count:
        mask.flat[generator.choice(_edge(mask))] = True
        hidden += 1
    return mask.ravel()


def random_patches(
    side_h: int, side_w: int, count: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Hide patches, each as likely as any other.

    Args:
        side_h: Rows of patches.
        side_w: Columns of patches.
        count: How many are hidden.
        generator: Where chance comes from.

    Returns:
        (side_h * side_w,) bool, row by row, True where hidden.

    Raises:
        ValueError: More are to be hidden than there are.
    """
    _check(side_h * side_w, count)
    mask = np.zeros(side_h * side_w, dtype=np.bool_)
    mask[generator.permutation(side_h * side_w)[:count]] = True
    return mask


def _choose_words(
    places: list[int], words: Sequence[int], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    pieces: dict[int, list[int]] = {}
    for place in places:
        pieces.setdefault(words[place], []).append(place)
    groups = list(pieces.values())
    chosen: list[int] = []
    for number in generator.permutation(len(groups)):
        if not chosen or len(chosen) + len(groups[number]) <= count:
            chosen += groups[number]
        if len(chosen) >= count:
            break
    return np.array(chosen, dtype=np.int64)


def _ordinary(
    count: int, special: Collection[int], vocab_size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    inside = sorted(token for token in special if 0 <= token < vocab_size)
    drawn = generator.integers(vocab_size - len(inside), size=count)
    for token in inside:  # ascending, so that each shift accounts for those before
        drawn += drawn >= token
    return drawn


def _check(patches: int, count: int) -> None:
    if count > patches:
        raise ValueError(
            f"data.masking.patch_count: {count} patches cannot be hidden in an image of {patches}; "
            f"lower it to at most {patches}"
        )


def _add_block(
    mask: NDArray[np.bool_], min_block: int, bound: int, generator: np.random.Generator
) -> int:
    side_h, side_w = mask.shape
    for area, ratio, down, right in generator.random((_ATTEMPTS, 4)).tolist():
        target = min_block + area * (bound - min_block)
        aspect = exp(_ASPECT[0] + ratio * (_ASPECT[1] - _ASPECT[0]))
        height, width = round(sqrt(target * aspect)), round(sqrt(target / aspect))
        if height >= side_h or width >= side_w:
            continue
        top, left = int(down * (side_h - height + 1)), int(right * (side_w - width + 1))
        block = mask[top : top + height, left : left + width]
        added = height * width - int(np.count_nonzero(block))
        if 0 < added <= bound:
            block[:] = True
            return added
    return 0


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """List the open neighbours of hidden patches; all patches where none is hidden."""
    if not mask.any():
        return np.arange(mask.size)
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    return np.flatnonzero(near & ~mask)
