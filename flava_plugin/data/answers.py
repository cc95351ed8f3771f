"""Open answers as classes: a vocabulary of frequent ones, and a soft score for each question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from flava_plugin.data.vqa_answers import normalise, soft_score

SEEN = 9
"""Questions that an answer is frequent from: ``filter_answers`` of hengyuan-hu/bottom-up-attention-
vqa, whose 3,129 answers of VQAv2's train and val LXMERT, UniT, ViLT and MMF use."""

plain_answer = lru_cache(maxsize=1 << 20)(normalise)
"""``normalise``, remembered: few answers are given once."""


def frequent_answers(given: Iterable[str], seen: int = SEEN) -> tuple[str, ...]:
    """Make a vocabulary.

    Args:
        given: The main answer of each question (``multiple_choice_answer``).
        seen: How often an answer has to occur, after normalisation.

    Returns:
        Normalised answers, frequent ones first, equally frequent ones by the alphabet.
    """
    counts = Counter(map(plain_answer, given))
    kept = [answer for answer, count in counts.items() if count >= seen and answer]
    return tuple(sorted(kept, key=lambda answer: (-counts[answer], answer)))


def soft_targets(annotators: Sequence[str], numbers: Mapping[str, int]) -> dict[int, float]:
    """Score the vocabulary's answers to one question as VQA's accuracy would.

    An answer that n of N annotators gave is as right as the mean, over the annotators left out one
    at a time, of min(1, matches among the others / 3) (Antol et al. 2015; Goyal et al. 2017). For
    ten annotators that is 0.3, 0.6, 0.9 and 1 for n of 1, 2, 3 and more, the targets that
    bottom-up-attention-vqa and MMF train on.

    Args:
        annotators: N answers; at least one.
        numbers: Normalised answer -> its class.

    Returns:
        ``{class: score}``; empty where the vocabulary has none of the answers.
    """
    counts = Counter(map(plain_answer, annotators))
    total = sum(counts.values())
    scores: dict[int, float] = {}
    for answer, count in counts.items():
        if answer in numbers:
            scores[numbers[answer]] = soft_score(count, total)
    return scores
